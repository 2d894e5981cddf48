"""The application: every user verb is one method of `Session`."""

from napari_fewshot.session._api import list_methods, list_models, segment
from napari_fewshot.session._everything import segment_everything
from napari_fewshot.session._jobs import Executor, InlineExecutor, Job, get_executor
from napari_fewshot.session._object_rows import POLICIES, ObjectRow, Pending
from napari_fewshot.session._preview import Preview
from napari_fewshot.session._project import ProjectInfo
from napari_fewshot.session._propagate import propagate
from napari_fewshot.session._session import Session
from napari_fewshot.session._sparse import SparsePlanes
from napari_fewshot.session._state import SessionState, SupportRow

__all__ = [
    "POLICIES",
    "Executor",
    "InlineExecutor",
    "Job",
    "ObjectRow",
    "Pending",
    "Preview",
    "ProjectInfo",
    "Session",
    "SessionState",
    "SparsePlanes",
    "SupportRow",
    "get_executor",
    "list_methods",
    "list_models",
    "propagate",
    "segment",
    "segment_everything",
]

"""The application: every user verb is one method of `Session`."""

from napari_fewshot.data import SparsePlanes
from napari_fewshot.session._adapt_text import finetune_clip, fit_text_head
from napari_fewshot.session._api import list_methods, list_models, segment
from napari_fewshot.session._batch_api import segment_many
from napari_fewshot.session._compare import compare
from napari_fewshot.session._comparison import Candidate, Comparison
from napari_fewshot.session._concept_files import load_concept, save_concept
from napari_fewshot.session._estimate import Estimate, estimate
from napari_fewshot.session._everything import segment_everything
from napari_fewshot.session._jobs import Executor, InlineExecutor, Job, get_executor
from napari_fewshot.session._linking import LinkedInstances, link_instances
from napari_fewshot.session._measuring import measure
from napari_fewshot.session._object_rows import POLICIES, ObjectRow, Pending
from napari_fewshot.session._preview import Preview
from napari_fewshot.session._project import ProjectInfo
from napari_fewshot.session._propagate import propagate
from napari_fewshot.session._session import Session
from napari_fewshot.session._state import SessionState, SupportRow
from napari_fewshot.session._text_api import check_text, rank_phrases, where
from napari_fewshot.session._trust_api import check_supports, explain
from napari_fewshot.session._wording import Understanding

__all__ = [
    "POLICIES",
    "Candidate",
    "Comparison",
    "Estimate",
    "Executor",
    "InlineExecutor",
    "Job",
    "LinkedInstances",
    "ObjectRow",
    "Pending",
    "Preview",
    "ProjectInfo",
    "Session",
    "SessionState",
    "SparsePlanes",
    "SupportRow",
    "Understanding",
    "check_supports",
    "check_text",
    "compare",
    "estimate",
    "explain",
    "finetune_clip",
    "fit_text_head",
    "get_executor",
    "link_instances",
    "list_methods",
    "list_models",
    "load_concept",
    "measure",
    "propagate",
    "rank_phrases",
    "save_concept",
    "segment",
    "segment_everything",
    "segment_many",
    "where",
]

"""Every error that napari-fewshot raises on purpose.

::

    Exception
    └── FewShotError
        ├── SupportError   (ValueError)    the examples can't be used
        ├── PromptError    (ValueError)    points, boxes, scribbles or text unusable
        ├── DataError      (ValueError)    the image, labels or file can't be used
        ├── StorageError   (OSError)       a file or folder can't be written
        ├── ModelError     (RuntimeError)  a model or method can't do what was asked
        ├── WeightsError   (RuntimeError)  weights are missing or damaged
        ├── WorkerError    (RuntimeError)  the worker process stopped
        └── Cancelled                      the user asked to stop

Each message is one or two sentences: what happened, and what to do next.
"""

from __future__ import annotations

__all__ = [
    "Cancelled",
    "DataError",
    "FewShotError",
    "ModelError",
    "PromptError",
    "StorageError",
    "SupportError",
    "WeightsError",
    "WorkerError",
]


class FewShotError(Exception):
    """Root of all errors of this package."""


class SupportError(FewShotError, ValueError):
    """The annotated examples can't be used as they are."""


class PromptError(FewShotError, ValueError):
    """Points, boxes, scribbles, masks or text can't be used as they are."""


class DataError(FewShotError, ValueError):
    """An image, a label image or a file can't be used as it is."""


class StorageError(FewShotError, OSError):
    """A file or folder can't be written (full disk, read-only, vanished)."""


class ModelError(FewShotError, RuntimeError):
    """A model or method can't do what was asked."""


class WeightsError(FewShotError, RuntimeError):
    """Weights are missing or damaged; the message names the way to get them."""


class WorkerError(FewShotError, RuntimeError):
    """The worker process stopped before it could answer."""


class Cancelled(FewShotError):  # noqa: N818 - public name of the contract
    """The user asked to stop; what was finished before is kept."""

"""Small networks that are fitted on the supports."""

from napari_fewshot.models.heads._perceptron import Perceptrons, fit_perceptrons
from napari_fewshot.models.heads._pyramid import (
    PyramidDecoder,
    decode_pyramid,
    fit_pyramid,
)
from napari_fewshot.models.heads._student import (
    Student,
    ask_student,
    fit_student,
    focal,
)

__all__ = [
    "Perceptrons",
    "PyramidDecoder",
    "Student",
    "ask_student",
    "decode_pyramid",
    "fit_perceptrons",
    "fit_pyramid",
    "fit_student",
    "focal",
]

"""Small models of every kind, each written once."""

import numpy as np
import pytest

pytest.importorskip("transformers")

from tests.models.grounding import tiny


@pytest.fixture(scope="session")
def clipseg_folder(tmp_path_factory):
    return tiny.write_clipseg(tmp_path_factory.mktemp("clipseg-tiny"))


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory):
    return tiny.write_dino(tmp_path_factory.mktemp("dino-tiny"))


@pytest.fixture(scope="session")
def owl_folder(tmp_path_factory):
    return tiny.write_owl(tmp_path_factory.mktemp("owl-tiny"))


@pytest.fixture(scope="session")
def lite_folder(tmp_path_factory):
    return tiny.write_lite(tmp_path_factory.mktemp("lite-tiny"))


@pytest.fixture(scope="session")
def sam3(tmp_path_factory):
    """The network and its folder."""
    folder = tmp_path_factory.mktemp("sam3-tiny")
    return tiny.write_sam3(folder), folder


@pytest.fixture
def read():
    """Load a folder as the model of a name."""
    return tiny.reader


@pytest.fixture
def clipseg(clipseg_folder):
    return tiny.reader("clipseg/rd64", clipseg_folder, "heat")


@pytest.fixture
def dino(dino_folder):
    return tiny.reader("grounding-dino/tiny", dino_folder, "boxes")


@pytest.fixture
def owl(owl_folder):
    return tiny.reader("owlv2/base", owl_folder, "boxes")


@pytest.fixture
def concept(sam3):
    return tiny.reader("sam3/concept", sam3[1], "concept")


@pytest.fixture
def image():
    """A colour plane, wider than high."""
    return np.random.default_rng(0).integers(0, 256, (60, 88, 3)).astype(np.uint8)

"""Tiny models on disk, written once."""

import pytest
from tests.models.clip import tiny


@pytest.fixture(scope="session")
def native(tmp_path_factory):
    return tiny.write_native(tmp_path_factory.mktemp("models") / "tiny_native")


@pytest.fixture(scope="session")
def biomed(tmp_path_factory):
    return tiny.write_biomed(tmp_path_factory.mktemp("models") / "tiny_biomed")


@pytest.fixture
def copied(tmp_path):
    """Return what copies a folder, so that a test may spoil it."""
    import shutil

    def copied(folder, name="copy"):
        return shutil.copytree(folder, tmp_path / name)

    return copied

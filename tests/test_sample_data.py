"""Samples: real, small, licensed, and loadable by napari."""

from __future__ import annotations

import pytest

from napari_fewshot import sample_data
from napari_fewshot.errors import DataError
from napari_fewshot.sample_data import FOLDER, NAMES, load_sample

MAX_BYTES = 6_000_000


@pytest.mark.parametrize("name", NAMES)
def test_samples(name):
    sample = load_sample(name)
    assert sample.truth.shape == sample.image.shape[:3]
    assert len(sample.queries) >= 3
    for value in sample.classes:
        assert (sample.support_labels == value).any(), "each class has a support"
        assert (sample.truth[list(sample.queries)] == value).any()
    licence = (FOLDER / name / "LICENSE.txt").read_text()
    assert "creativecommons.org" in licence
    assert "Citation:" in licence
    (image, _, kind), (labels, options, other) = getattr(sample_data, name)()
    assert (kind, other) == ("image", "labels")
    assert labels.shape == image.shape[:3]
    hidden = [i for i in range(len(labels)) if i not in sample.supports]
    assert not labels[hidden].any(), "the truth of the queries is not given away"
    assert list(options["features"]["class"])[1:] == list(sample.classes.values())


def test_all_samples_are_small():
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < MAX_BYTES


def test_unknown_sample():
    with pytest.raises(DataError, match="nuclei_fluo"):
        load_sample("cats")


def test_auto_does_the_main_job_on_the_lungs():
    import napari_fewshot as nf

    sample = load_sample("lungs")
    support = nf.Support(
        sample.image, sample.support_labels, axes=sample.axes, planes=sample.supports
    )
    query = sample.queries[0]
    found = nf.segment(sample.image[query], support).labels
    table = nf.evaluate(found, sample.truth[query])
    assert table["dice"][0] > 0.85

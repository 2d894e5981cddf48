"""Supports that contradict each other: the report names the odd one."""

from __future__ import annotations

import numpy as np

import napari_fewshot as nf


def test_the_support_that_contradicts_the_others_is_named(blob_pair):
    session = nf.Session(method="incontext", executor="inline", autosave=False)
    session.set_method(params={"practise": False})
    pairs = [blob_pair(seed) for seed in range(4)]
    for number, (image, labels) in enumerate(pairs):
        # The third annotator outlined the background.
        mask = labels == 0 if number == 2 else labels > 0
        session.add_support(image, mask.astype(np.uint8), name=f"image {number}")
    session.set_query(blob_pair(9)[0])
    prediction = session.segment()
    scores = {name: found[1] for name, found in prediction.support_scores.items()}
    assert min(scores, key=lambda name: scores[name]) == "image 2"
    assert [r.name for r in session.state.supports if r.disagrees] == ["image 2"]

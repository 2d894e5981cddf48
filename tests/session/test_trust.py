"""What to expect before a run, and why it came out so."""

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot import Session, SupportSet
from napari_fewshot.data import Hooks
from napari_fewshot.inference import FitCache, SegmentRequest, run

QUICK = {"method": "pixel"}
FEW = {"trees": 20}


def blobs(seed, side=72, bright=0.5):
    """A textured image with a few bright blobs, and their mask."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), 6) > 0.06
    image = 0.3 + bright * mask + rng.normal(0, 0.08, mask.shape)
    return image.clip(0, 1).astype(np.float32), mask


@pytest.fixture
def session():
    found = Session(autosave=False, **QUICK)
    found.set_method(params=FEW)
    for seed in (1, 2, 3):
        image, mask = blobs(seed)
        found.add_support(image, mask, name=f"s{seed}")
    yield found
    found.close()


def test_check_tells_what_to_expect_before_any_query(session):
    found = session.check_supports()
    assert 0.5 < found.scores[1] <= 1
    low, high = found.intervals[1]
    assert low < found.scores[1] < high
    assert set(found.support_scores) == {"s1", "s2", "s3"}
    assert all(row.score is not None for row in session.state.supports)
    # It is no edit: one step of undo takes the last support away, nothing else.
    assert session.expectation is found
    session.undo()
    assert len(session.state.supports) == 2
    assert session.expectation is None


def test_a_run_after_a_check_learns_nothing_anew(session):
    session.set_query(blobs(9)[0])
    session.check_supports()
    prediction = session.segment()
    assert prediction.provenance["seconds"]["assess"] == 0.0
    assert prediction.provenance["seconds"]["fit"] < 0.2


def test_copies_are_redundant(session):
    image, mask = blobs(1)
    session.add_support(image, mask, name="again")
    found = session.check_supports()
    assert found.redundant == ("again",)
    assert [r.name for r in session.state.supports if r.redundant] == ["again"]


def test_check_needs_supports():
    empty = Session(autosave=False)
    with pytest.raises(nf.SupportError, match="no support yet"):
        empty.check_supports()
    with pytest.raises(nf.DataError, match="no image"):
        empty.explain()
    empty.close()


def test_explain_hands_out_every_intermediate(session):
    session.set_query(blobs(9)[0])
    session.set_method("panet", "filters")
    heard = []
    session.explained.connect(lambda plane, found: heard.append((plane, found)))
    found = session.explain()[1]
    assert {"probability", "uncertainty", "similarity"} <= set(found.maps)
    for name, values in found.maps.items():
        assert values.shape == (72, 72), name
        assert np.isfinite(values).all(), name
    assert found.maps["uncertainty"].min() >= 0
    assert found.maps["uncertainty"].max() <= 1
    assert heard[0][0] == 0
    assert session.state.prediction is None


def test_unfamiliar_planes_are_told():
    pairs = [blobs(seed) for seed in (1, 2, 3)]
    support = SupportSet([nf.Support(i, m) for i, m in pairs])
    rng = np.random.default_rng(0)
    stripes = np.sin(np.arange(72) / 1.5)[None] * 0.5 + 0.5
    strange = (stripes + rng.normal(0, 0.02, (72, 72))).clip(0, 1).astype(np.float32)
    planes = np.stack([blobs(5)[0], strange, blobs(6)[0]])
    found = nf.segment(planes, support, axes="zyx", **QUICK, **FEW)
    assert found.plane_novelty[1] > 1
    assert found.plane_novelty[[0, 2]].max() < 1
    assert found.suggested == 1


def test_evidence_crosses_to_the_worker():
    image, mask = blobs(1)
    request = SegmentRequest(
        nf.data.Image.from_array(blobs(2)[0]),
        SupportSet([nf.Support(image, mask)]),
        method="panet",
        model="filters",
        task="explain",
    )
    from napari_fewshot.session._jobs import get_executor

    here = []
    run(request, Hooks(), here.append, FitCache())
    executor = get_executor("process")
    there = []
    job = executor.submit(
        request,
        on_plane=there.append,
        on_progress=lambda _: None,
        on_done=lambda _: None,
    )
    job.wait()
    mine, other = here[0].evidence[1], there[0].evidence[1]
    assert set(mine.maps) == set(other.maps)
    for name in mine.maps:
        np.testing.assert_allclose(mine.maps[name], other.maps[name], atol=1e-4)


def test_prompts_are_explained_even_where_the_map_won(session):
    session.set_query(blobs(9)[0])
    for name in ("matcher", "persam", "p2sam"):
        session.set_method(name, "filters")
        found = session.explain()[1]
        assert found.prompts is not None, name
        assert len(found.prompts.points) > 0, name

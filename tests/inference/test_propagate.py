"""A few annotated planes, then the others: order, ends, corrections, bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import napari_fewshot as nf
from napari_fewshot.cli._carry import report_of
from napari_fewshot.data import Hooks, Image
from napari_fewshot.inference._propagate import PropagationRequest, run_propagation
from napari_fewshot.inference._propagation import Propagation, plan, stack_of
from napari_fewshot.methods.following import follower_of
from napari_fewshot.methods.projection import project
from napari_fewshot.session._propagate import propagate

SHAPE = (64, 72)


def disc(row, column, radius):
    rows, columns = np.indices(SHAPE)
    return np.hypot(rows - row, columns - column) < radius


def tube(count=9, first=0, last=None, step=2.0, column=20):
    """A disc that moves to the right, on some planes; (planes, H, W) bool."""
    last = count - 1 if last is None else last
    truth = np.zeros((count, *SHAPE), bool)
    for plane in range(first, last + 1):
        truth[plane] = disc(32, column + step * plane, 9)
    return truth


def picture(*objects):
    rng = np.random.default_rng(0)
    total = 40 + 150 * np.any(objects, 0) + rng.normal(0, 5, objects[0].shape)
    return np.clip(total, 0, 255).astype(np.uint8)


class BrightParts:
    """Follows prompts by their first words: all that is bright and touches them."""

    projects, corrects, takes_mask = "mask", "mask", True

    def __init__(self, model=None):
        self.model, self.looks, self.lessons, self.blind = model, [], [], set()

    def learn(self, images, masks):
        self.lessons.append([int(m.sum()) for m in masks])

    def look(self, image, hooks):
        hooks.check()
        self.looks.append(image)
        return image[..., 0]

    def follow(self, seen, asks, hooks):
        from scipy import ndimage

        parts, _ = ndimage.label(seen > 0.5)
        for _, prompts in asks:
            asked = np.unique(parts[prompts.mask])
            found = np.isin(parts, asked[asked > 0])
            yield np.where(found, 4.0, -4.0).astype(np.float32), 0.9


def run(image, state, mode="auto", follower=None, hooks=None, **more):
    query = Image.from_array(image)
    order = []
    request = PropagationRequest(query, state, follower, mode, **more)
    run_propagation(request, hooks or Hooks(), order.append)
    return order


def state_of(truth, keys, value=1):
    state = Propagation(SHAPE, (range(len(truth)),))
    for key in keys:
        state.annotate(value, key, truth[key])
    return state


def found_by(state, value=1):
    return np.stack([state.mask(value, p) for p in range(state.n_planes)])


def dice(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


# -- what depends on what --------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotated", "changed", "stale"),
    [
        ([5], 5, [0, 1, 2, 3, 4, 6, 7, 8, 9]),
        ([2, 5, 8], 5, [3, 4, 6, 7]),
        ([2, 8], 5, [3, 4, 5, 6, 7]),
        ([2, 5, 8], 2, [0, 1, 3, 4]),
        ([4, 5, 6], 5, []),
        ([], 3, list(range(10))),
        ([0, 9], 9, list(range(1, 9))),
    ],
)
def test_a_change_undoes_no_more_than_its_neighbourhood(annotated, changed, stale):
    assert plan(annotated, range(10), changed) == tuple(stale)


def test_a_correction_does_its_planes_again_and_no_others():
    truth = tube(12)
    image, follower = picture(truth), BrightParts()
    state = state_of(truth, [0, 4, 8])
    run(image, state, follower=follower)
    kept = {p: state.objects[1][p] for p in (1, 2, 3, 9, 10, 11)}
    wrong = disc(32, 34, 5)
    again = state.annotate(1, 6, wrong)
    assert again == (5, 7)
    looks = len(follower.looks)
    assert run(image, state, follower=follower) == [5, 7]
    assert len(follower.looks) == looks + 2
    assert all(state.objects[1][p] is found for p, found in kept.items())
    np.testing.assert_array_equal(state.mask(1, 6), wrong)
    assert state.release(1, 6) == (5, 6, 7)
    assert run(image, state, follower=follower) == [5, 6, 7]
    assert dice(found_by(state), truth) > 0.95


# -- between and beyond ----------------------------------------------------------------


def test_between_annotated_planes_the_model_corrects_the_interpolated_shape():
    truth = tube(9)
    truth[4] |= disc(24, 28, 6)  # a bulge that no annotated plane shows
    state, plain = state_of(truth, [0, 8]), state_of(truth, [0, 8])
    follower = BrightParts()
    run(picture(truth), state, follower=follower)
    run(picture(truth), plain, "interpolate")
    assert {f.source for p, f in state.objects[1].items() if 0 < p < 8} == {"corrected"}
    assert dice(state.mask(1, 4), truth[4]) > dice(plain.mask(1, 4), truth[4]) + 0.05
    assert len(follower.lessons) == 1, "both neighbours teach, once"
    assert len(follower.lessons[0]) == 2


def test_what_the_model_gets_wrong_stays_interpolated():
    truth = tube(5)
    image = np.full(truth.shape, 200, np.uint8)  # all alike: the answer is everything
    image[:, 0, 0] = 0
    state = state_of(truth, [0, 4])
    run(image, state, follower=BrightParts())
    assert {f.source for p, f in state.objects[1].items() if p % 4} == {"interpolated"}
    assert dice(found_by(state), truth) > 0.9


def test_an_object_is_followed_both_ways_until_it_ends():
    truth = tube(12, first=2, last=8)
    state = state_of(truth, [5])
    follower = BrightParts()
    run(picture(truth), state, follower=follower)
    assert dice(found_by(state), truth) > 0.95
    sources = {p: f.source for p, f in state.objects[1].items()}
    assert [p for p, s in sources.items() if s == "ended"] == [9, 10, 11, 1, 0]
    assert state.objects[1][9].why == "nothing found"
    assert len(follower.looks) == 8, "behind its ends nobody looks"


def test_a_plane_known_to_lack_the_object_ends_it():
    truth = tube(10)
    shown = truth.copy()
    shown[6:] = False
    state = state_of(shown, [2, 6])
    run(picture(truth), state, follower=BrightParts())
    held = [p for p in range(10) if state.is_present(1, p)]
    assert held == [0, 1, 2, 3, 4, 5], "not on 6, and nothing is known beyond"


def test_blank_planes_end_an_object_but_not_what_lies_between():
    truth = tube(9)
    image = picture(truth)
    image[[2, 7]] = 0
    state = state_of(truth, [0, 4])
    run(image, state, follower=BrightParts())
    assert state.objects[1][2].source == "interpolated"
    assert state.is_present(1, 6)
    assert state.objects[1][7].why == "the plane is blank"
    assert not state.is_present(1, 8)


def test_too_fast_for_one_threshold_is_followed_with_another():
    truth = tube(5, step=8.0, column=12)
    for stop_iou, reached in ((0.5, [0]), (0.2, [0, 1, 2, 3, 4])):
        state = state_of(truth, [0])
        run(picture(truth), state, follower=BrightParts(), stop_iou=stop_iou)
        assert [p for p in range(5) if state.is_present(1, p)] == reached


# -- many objects ----------------------------------------------------------------------


def test_objects_keep_their_numbers_and_each_plane_is_looked_at_once():
    one, other = tube(8, step=1.0, column=14), tube(8, step=1.0, column=50)
    state = state_of(one, [0], 7)
    state.annotate(3, 0, other[0])
    follower = BrightParts()
    run(picture(one, other), state, follower=follower)
    for plane in range(8):
        labels = state.labels(plane)
        assert set(np.unique(labels)) == {0, 3, 7}
        assert dice(labels == 7, one[plane]) > 0.95
        assert dice(labels == 3, other[plane]) > 0.95
    assert len(follower.looks) == 7


def test_the_higher_score_is_in_front_and_annotated_pixels_always():
    state = Propagation(SHAPE, (range(2),))
    state.annotate(1, 0, disc(30, 30, 10))
    state.annotate(2, 0, disc(30, 40, 10), "prompted", 0.99)
    both = disc(30, 30, 10) & disc(30, 40, 10)
    assert (state.labels(0)[both] == 1).all()
    from napari_fewshot.inference._propagation import ObjectPlane

    state.put(1, 1, ObjectPlane.of(disc(30, 30, 10), "projected", 0.4))
    state.put(2, 1, ObjectPlane.of(disc(30, 40, 10), "projected", 0.6))
    assert (state.labels(1)[both] == 2).all()


def test_stopping_keeps_what_is_done():
    truth = tube(10)
    state = state_of(truth, [0])
    done = []
    hooks = Hooks(is_cancelled=lambda: len(done) >= 4)
    request = PropagationRequest(
        Image.from_array(picture(truth)), state, BrightParts(), "mask"
    )
    with pytest.raises(nf.Cancelled):
        run_propagation(request, hooks, done.append)
    assert done == [1, 2, 3, 4]
    assert run(picture(truth), state, follower=BrightParts()) == [5, 6, 7, 8, 9]


# -- time and depth --------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["tzyx", "ztyx"])
@pytest.mark.parametrize("mode", ["interpolate", "mask", "memory"])
def test_with_time_and_depth_objects_are_followed_along_z(axes, mode):
    """Two time points that differ: what is known of one says nothing of the other."""
    truth = np.stack([tube(5), tube(5, step=-2.0, column=50)])
    keys = [(0, 0), (0, 4), (1, 0), (1, 4)]
    if mode == "mask":
        keys = [(0, 2)]  # the other time point was not annotated
    painted = np.zeros(truth.shape, np.uint8)
    image = np.stack([picture(one) for one in truth])
    for key in keys:
        painted[key] = truth[key]
    if axes == "ztyx":
        image, painted = (a.swapaxes(0, 1) for a in (image, painted))
    query = Image.from_array(image, axes=axes)
    state = Propagation.of(query)
    for plane in range(query.n_planes):
        if painted[query.label_key(plane)].any():
            state.annotate(1, plane, painted[query.label_key(plane)] > 0)
    follower = BrightParts(Remembering())
    request = PropagationRequest(query, state, follower, mode)
    run_propagation(request, Hooks(), lambda plane: None)
    found = np.zeros(query.label_shape, bool)
    for plane in range(query.n_planes):
        found[query.label_key(plane)] = state.mask(1, plane)
    found = found.swapaxes(0, 1) if axes == "ztyx" else found
    assert dice(found[0], truth[0]) > 0.9
    if mode == "mask":
        assert not found[1].any()
    else:
        assert dice(found[1], truth[1]) > 0.9
    if mode == "memory":
        assert [length for length, _ in follower.model.calls] == [5, 5]


@pytest.mark.parametrize(
    ("axes", "shape", "stack"),
    [
        ("tzyx", (2, 5), range(5, 10)),
        ("ztyx", (5, 2), range(1, 10, 2)),
        ("tyx", (5,), range(5)),
        ("tzyx", (5, 1), range(5)),
        ("ztyx", (5, 1), range(5)),
    ],
)
def test_which_planes_follow_one_another(axes, shape, stack):
    query = Image.from_array(np.zeros((*shape, 32, 32), np.uint8), axes=axes)
    assert stack_of(query, stack[-1]) == stack


def test_a_series_of_volumes_by_the_public_function():
    truth = np.stack([tube(4), tube(4, column=40)])
    masks = {0: truth[0, 0], 3: truth[0, 3], 4: truth[1, 0], 7: truth[1, 3]}
    image = np.stack([picture(one) for one in truth])
    found = propagate(image, masks=masks, axes="tzyx", mode="interpolate")
    assert dice(found.labels == 1, truth) > 0.95
    table = report_of(found).splitlines()[1]
    assert table.startswith("1,0,7,8,"), "first and last plane, and how many"


# -- memory of the model ---------------------------------------------------------------


class Remembering:
    """Yields what is bright, as a model with a memory yields its planes."""

    def __init__(self):
        self.calls = []

    def propagate(self, planes, prompts, check):
        self.calls.append((len(planes), {v: sorted(p) for v, p in prompts.items()}))
        for index in range(len(planes)):
            check(index, len(planes))
            bright = planes[index][..., 0] > 0.5
            yield index, {v: np.where(bright, 3.0, -3.0) for v in prompts}


def test_the_memory_of_a_model_gets_one_stretch_at_a_time():
    truth = tube(10)
    model = Remembering()
    state = state_of(truth, [2, 6])
    run(picture(truth), state, "memory", BrightParts(model))
    assert sorted(model.calls, key=str) == [
        (3, {1: [2]}),
        (4, {1: [0]}),
        (5, {1: [0, 4]}),
    ]
    assert {f.source for p, f in state.objects[1].items() if p not in (2, 6)} == {
        "remembered"
    }
    again = state.annotate(1, 4, truth[4])
    model.calls.clear()
    assert tuple(run(picture(truth), state, "memory", BrightParts(model))) == again
    assert [length for length, _ in model.calls] == [3, 3], "from 2 to 4 and 4 to 6"


# -- the public function ---------------------------------------------------------------


def test_painted_planes_of_a_stack_are_carried_on_by_the_network():
    truth = tube(7, step=1.5)
    painted = np.zeros(truth.shape, np.uint8)
    painted[[0, 6]] = 4 * truth[[0, 6]]
    reports = []
    found = propagate(picture(truth), masks=painted, hooks=Hooks(reports.append))
    np.testing.assert_array_equal(found.labels[[0, 6]], painted[[0, 6]])
    assert set(np.unique(found.labels)) == {0, 4}
    assert dice(found.labels == 4, truth) > 0.85
    assert found.present == {4: True}
    assert 0 < found.scores[4] <= 1
    assert np.isfinite(found.plane_scores[4]).all()
    record = json.loads(json.dumps(found.provenance))
    assert record["objects"]["4"]["painted"] == [0, 6]
    assert record["model"] == "incontext/small"
    assert reports[-1].done == reports[-1].total == 5


def test_prompts_on_one_plane_of_a_time_series():
    truth = tube(5, step=1.0)
    box = [2, 22, 12, 3, 43, 33]
    found = propagate(picture(truth), nf.PromptSet(boxes=box), axes="tyx", mode="mask")
    assert dice(found.labels == 1, truth) > 0.7
    assert found.provenance["objects"]["1"]["prompted"] == [2]
    assert list(found.prompts) == [1]


@pytest.fixture(scope="module")
def sam(tmp_path_factory):
    """A SAM file in Meta's layout, much smaller, with random weights."""
    anything = pytest.importorskip("segment_anything.build_sam")
    from segment_anything.modeling import ImageEncoderViT

    torch.manual_seed(0)
    whole = anything._build_sam(32, 2, 2, [1])
    whole.image_encoder = ImageEncoderViT(
        depth=2,
        embed_dim=32,
        img_size=64,
        norm_layer=lambda n: torch.nn.LayerNorm(n, eps=1e-6),
        num_heads=2,
        patch_size=16,
        use_rel_pos=True,
        global_attn_indexes=[1],
        window_size=14,
        out_chans=256,
    )
    path = tmp_path_factory.mktemp("sam") / "sam_vit_b.pth"
    torch.save(whole.state_dict(), path)
    return path


@pytest.mark.parametrize("mode", ["auto", "box", "points+mask", "point"])
def test_a_promptable_model_answers_plane_by_plane(sam, mode):
    """Its weights are random: between annotated planes the shape must hold."""
    truth = tube(5)
    masks = {0: truth[0] * 2, 3: truth[3] * 2}
    options = {"model": "sam/vit_b", "checkpoint": sam, "device": "cpu"}
    found = propagate(picture(truth), masks=masks, mode=mode, **options)
    np.testing.assert_array_equal(found.labels[[0, 3]] == 2, truth[[0, 3]])
    if mode == "auto":
        assert dice(found.labels[1:3] == 2, truth[1:3]) > 0.9
    assert found.provenance["model"] == "sam/vit_b"
    with pytest.raises(nf.ModelError, match="no memory"):
        propagate(picture(truth), masks=masks, mode="memory", **options)


def test_boxes_of_several_objects_are_one_batch(tiny_sam, monkeypatch):
    """As one by one, but fewer calls of the decoder; what is no box goes by itself."""
    model = nf.load_model("sam/vit_b", checkpoint=tiny_sam, device="cpu")
    follower = follower_of(model, lambda image, hooks: model.encode(image))
    seen = follower.look(picture(tube())[0][..., None] / np.float32(255), Hooks())
    spots = [disc(12, 12, 7), disc(20, 50, 9), disc(50, 30, 8), disc(45, 60, 6)]
    asks = [(None, project(spot, "box")) for spot in spots]
    asks.insert(2, (None, project(spots[0], "point")))
    alone = [next(follower.follow(seen, [ask], Hooks())) for ask in asks]
    monkeypatch.setattr(model, "batch_for", lambda embedding: 3)
    calls, decode = [], model.decode
    monkeypatch.setattr(
        model,
        "decode",
        lambda *a, **k: calls.append(len(k["boxes"])) or decode(*a, **k),
    )
    seen = follower.look(picture(tube())[0][..., None] / np.float32(255), Hooks())
    together = list(follower.follow(seen, asks[:2] + asks[3:], Hooks()))
    assert calls == [3, 1]
    for (odds, score), (wanted, known) in zip(
        together, alone[:2] + alone[3:], strict=True
    ):
        np.testing.assert_allclose(odds, wanted, atol=1e-4)
        assert score == pytest.approx(known, abs=1e-4)
    monkeypatch.undo()
    mixed = list(follower.follow(seen, asks, Hooks()))
    np.testing.assert_allclose(mixed[2][0], alone[2][0], atol=1e-4)
    assert np.ptp([odds.sum() for odds, _ in alone]) > 1, "they differ"


def test_interpolation_needs_no_model(tmp_path):
    truth = tube(6)
    out = tmp_path / "labels.zarr"
    masks = {0: truth[0], 5: truth[5]}
    found = propagate(picture(truth), masks=masks, mode="interpolate", out=out)
    assert found.provenance["model"] is None
    assert dice(np.asarray(found.labels) == 1, truth) > 0.95
    only = propagate(
        picture(truth), masks=masks, mode="interpolate", planes=[2], scale=(4, 1, 1)
    )
    assert [p for p in range(6) if only.labels[p].any()] == [0, 2, 5]


class Lazy:
    """A stack whose planes are made when they are read, and counted."""

    dtype = np.dtype(np.uint8)

    def __init__(self, planes):
        self.shape, self.planes, self.reads = planes.shape, planes, []

    def __getitem__(self, key):
        assert isinstance(key[0], int), "one plane at a time"
        self.reads.append(key[0])
        return self.planes[key]


def test_a_stack_is_read_plane_by_plane():
    truth = tube(6)
    stack = Lazy(picture(truth))
    state = state_of(truth, [0])
    run(stack, state, follower=BrightParts())
    assert dice(found_by(state), truth) > 0.95
    assert set(stack.reads) == set(range(6))


GOOD = {0: tube()[0]}
BAD = {
    "nothing annotated": ({}, "No plane is annotated"),
    "nothing painted": ({"masks": {0: np.zeros(SHAPE, int)}}, "No object is painted"),
    "another shape": ({"masks": {0: np.ones((5, 5), int)}}, "shape"),
    "another stack": ({"masks": np.ones((3, 5, 5), int)}, "shape"),
    "no such plane": ({"masks": {40: tube()[0]}}, "planes 0 to 8"),
    "fractions": ({"masks": {0: np.full(SHAPE, 0.5)}}, "whole numbers"),
    "negative": ({"masks": {0: np.full(SHAPE, -1)}}, "whole numbers"),
    "prompts outside": ({"prompts": nf.PromptSet(points=[[2, 500, 3]])}, "outside"),
    "prompts beyond": ({"prompts": nf.PromptSet(points=[[20, 5, 3]])}, "outside"),
    "no plane number": ({"prompts": nf.PromptSet(points=[[5, 3]])}, "plane number"),
    "both on a plane": (
        {"masks": GOOD, "prompts": nf.PromptSet(points=[[0, 32, 20]])},
        "both a mask and prompts",
    ),
    "a mode that is none": ({"masks": GOOD, "mode": "boxes"}, "no mode"),
    "a threshold that is none": ({"masks": GOOD, "stop_iou": 50}, "share"),
    "planes that are none": ({"masks": GOOD, "planes": [99]}, "does not exist"),
    "a model without prompts": ({"masks": GOOD, "model": "filters"}, "not follow"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_explained(case):
    options, words = BAD[case]
    with pytest.raises(nf.FewShotError, match=words):
        propagate(picture(tube()), **options)


def test_images_that_are_no_stack():
    with pytest.raises(nf.DataError, match="one plane only"):
        propagate(picture(tube())[0], masks=GOOD)


# -- the command line ------------------------------------------------------------------


def test_the_command_writes_labels_a_record_and_a_table(tmp_path):
    import typer
    from typer.testing import CliRunner

    from napari_fewshot.cli._propagate import propagate_command

    truth = tube(6, last=4)
    painted = np.zeros(truth.shape, np.uint8)
    painted[[0, 3]] = 2 * truth[[0, 3]]
    np.save(tmp_path / "stack.npy", picture(truth))
    np.save(tmp_path / "masks.npy", painted)
    app, out = typer.Typer(), tmp_path / "out"
    app.command()(propagate_command)
    words = [str(tmp_path / "stack.npy"), "--masks", str(tmp_path / "masks.npy")]
    more = ["--mode", "interpolate", "--out", str(out), "--planes", "1-2"]
    result = CliRunner().invoke(app, words + more)
    assert result.exit_code == 0, result.output
    labels = np.load(out / "stack_labels.npy")
    assert dice(labels[:4] == 2, truth[:4]) > 0.95
    record = json.loads((out / "provenance.json").read_text())
    assert record["stack_labels.npy"]["params"]["mode"] == "interpolate"
    header, row = (out / "report.csv").read_text().splitlines()
    assert header.startswith("object,first,last,planes")
    assert row.startswith("2,0,3,4,")
    bad = CliRunner().invoke(app, [*words, "--planes", "a-b"])
    assert isinstance(bad.exception, nf.DataError)
    assert isinstance(CliRunner().invoke(app, words[:1]).exception, nf.DataError)


def test_what_was_done_is_written_when_it_is_stopped(tmp_path):
    truth, out = tube(6), tmp_path / "labels.tif"
    seen = []
    hooks = Hooks(seen.append, lambda: len(seen) > 2)
    masks = {0: truth[0], 5: truth[5]}
    with pytest.raises(nf.Cancelled):
        propagate(picture(truth), masks=masks, mode="interpolate", hooks=hooks, out=out)
    from napari_fewshot.io import open_labels

    written = np.asarray(open_labels(out))
    assert [p for p in range(6) if written[p].any()] == [0, 1, 2, 3, 5]

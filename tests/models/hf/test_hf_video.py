"""Following objects through planes: as transformers does, one plane at a time."""

import numpy as np
import pytest
import torch

import napari_fewshot as nf
from napari_fewshot.models import ModelSpec, hf

transformers = pytest.importorskip("transformers")

SHAPE, COUNT = (40, 60), 20
POINTS = {"points": [[12.0, 20.0], [30.0, 50.0]], "point_labels": [1, 0]}
BOX = {"boxes": [5.0, 8.0, 30.0, 44.0]}
MASK = np.zeros(SHAPE, bool)
MASK[10:30, 15:40] = True


@pytest.fixture(scope="module")
def planes():
    rng = np.random.default_rng(3)
    return rng.integers(0, 255, (COUNT, *SHAPE), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(folder):
    spec = ModelSpec("sam2/hiera_tiny", "", "", "")
    return hf.load(spec, folder, "cpu", "fp32")


def theirs(network, planes, prompts, reverse):
    """Logits by plane of transformers' own propagation, which holds the whole video."""
    size = {"height": 64, "width": 64}
    images = transformers.Sam2ImageProcessor(size=size)
    processor = transformers.Sam2VideoProcessor(
        images, transformers.Sam2VideoVideoProcessor(size=size)
    )
    colour = [np.stack([p] * 3, -1) for p in planes]
    session = transformers.Sam2VideoInferenceSession(
        video=images(colour, return_tensors="pt")["pixel_values"],
        video_height=SHAPE[0],
        video_width=SHAPE[1],
        dtype=torch.float32,
    )
    for plane, given in prompts.items():
        asked = {}
        if "points" in given:
            asked["input_points"] = [[[[x, y] for y, x in given["points"]]]]
            asked["input_labels"] = [[given["point_labels"]]]
        if "boxes" in given:
            y0, x0, y1, x1 = given["boxes"]
            asked["input_boxes"] = [[[x0, y0, x1, y1]]]
        if "mask" in given:
            asked["input_masks"] = given["mask"]
        processor.add_inputs_to_inference_session(session, plane, 1, **asked)
        network(session, frame_idx=plane)
    return {
        out.frame_idx: processor.post_process_masks(
            [out.pred_masks], [SHAPE], binarize=False
        )[0][0, 0].numpy()
        for out in network.propagate_in_video_iterator(
            session, start_frame_idx=min(prompts), reverse=reverse
        )
    }


@pytest.mark.parametrize(
    "prompts",
    [{4: POINTS}, {0: BOX, 9: MASK}, {6: POINTS | BOX, 2: {"mask": MASK}}],
    ids=["points", "box, later mask", "mask, later both"],
)
def test_as_transformers(sam2, model, planes, prompts):
    prompts = {k: {"mask": v} if v is MASK else v for k, v in prompts.items()}
    first = min(prompts)
    expected = theirs(sam2, planes, prompts, reverse=False)
    expected |= {
        plane: logits
        for plane, logits in theirs(sam2, planes, prompts, reverse=True).items()
        if plane < first
    }
    found = list(model.propagate(planes, prompts))
    order = [*range(first, COUNT), *range(first - 1, -1, -1)]
    assert [plane for plane, _ in found] == order
    for plane, logits in found:
        np.testing.assert_allclose(logits, expected[plane], rtol=1e-4, atol=1e-3)
    assert np.std([logits.std() for _, logits in found]) > 0


def test_planes_from_embeddings_and_a_callable(model, planes):
    small = planes[:4]
    expected = list(model.propagate(small, {1: BOX}))
    encoded = [model.encode(plane) for plane in small]
    found = list(model.propagate(lambda i: encoded[i], {1: BOX}, count=4))
    for (plane, ours), (same, again) in zip(found, expected, strict=True):
        assert plane == same
        np.testing.assert_allclose(ours, again, rtol=1e-4, atol=1e-4)


def test_several_objects_are_followed_as_if_alone(model, planes):
    small = planes[:6]
    prompts = {7: {1: POINTS}, 9: {3: BOX, 5: {"mask": MASK}}}
    found = {7: {}, 9: {}}
    for plane, logits in model.propagate(small, prompts):
        for number, of in logits.items():
            assert plane not in found[number], "once per object"
            found[number][plane] = of
    for number, prompt in prompts.items():
        alone = dict(model.propagate(small, prompt))
        assert sorted(found[number]) == list(range(6))
        for plane, logits in alone.items():
            np.testing.assert_allclose(found[number][plane], logits, atol=1e-4)


class Stack:
    """Planes made when they are asked for."""

    def __init__(self, count):
        self.count, self.read = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, plane):
        self.read.append(plane)
        return np.random.default_rng(plane).random(SHAPE).astype(np.float32)


def test_planes_are_read_one_at_a_time(model):
    stack = Stack(1000)
    steps = model.propagate(stack, {500: BOX})
    assert stack.read == [], "nothing is read before the first step"
    for _ in range(3):
        next(steps)
    assert stack.read == [500, 501, 502]


def test_memory_is_flat(model):
    """What a session holds after 20 planes is what it holds after 45."""

    def held():
        import gc

        gc.collect()
        found = [x for x in gc.get_objects() if type(x) is torch.Tensor]
        return sum(x.numel() * x.element_size() for x in found)

    sizes = []
    for plane, _ in model.propagate(Stack(46), {0: BOX}):
        if plane in (20, 45):
            sizes.append(held())
    assert sizes[1] == sizes[0]


def test_progress_and_cancel(model, planes):
    seen = []

    def check(done, total):
        seen.append((done, total))
        if done == 3:
            raise nf.Cancelled("enough")

    found = []
    with pytest.raises(nf.Cancelled):
        for plane, _ in model.propagate(planes, {2: BOX}, check=check):
            found.append(plane)
    assert found == [2, 3, 4]
    assert {total for _, total in seen} == {COUNT}
    seen.clear()
    list(model.propagate(planes[:2], {1: BOX}, check=lambda *s: seen.append(s)))
    assert seen[-1] == (2, 2)


def test_an_object_may_be_absent(model, planes):
    empty = {2: BOX, 4: {"mask": np.zeros(SHAPE, bool)}}
    found = dict(model.propagate(planes[:6], empty))
    assert (found[4] < 0).all()


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ({}, "no prompt"),
        ({0: {}}, "no prompt"),
        ({5: BOX}, "on plane 5, and planes 0 to 3"),
        ({0: {"box": [1, 2, 3, 4]}}, "no part 'box'"),
        ({0: BOX | {"mask": MASK}}, "one or the other"),
        ({0: {"mask": MASK[:9]}}, "shape"),
        ({0: {"boxes": [[1, 1, 9, 9], [2, 2, 8, 8]]}}, "one box"),
        ({0: {"points": [[90, 3]]}}, "outside"),
    ],
)
def test_bad_prompts(model, planes, prompts, words):
    with pytest.raises(nf.PromptError, match=words):
        list(model.propagate(planes[:4], prompts))


def test_a_callable_needs_a_count(model, planes):
    with pytest.raises(nf.PromptError, match="count"):
        model.propagate(planes.__getitem__, {0: BOX})


def test_half_precision(folder, planes):
    spec = ModelSpec("sam2/hiera_tiny", "", "", "")
    half = hf.load(spec, folder, "cpu", "bf16")
    found = dict(half.propagate(planes[:3], {0: BOX}))
    assert all(np.isfinite(logits).all() for logits in found.values())

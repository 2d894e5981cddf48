"""CLIPSeg: parity with transformers, exemplars, windows, hostile input."""

import itertools

import numpy as np
import pytest
import torch

import napari_fewshot as nf
from napari_fewshot.models.grounding import visual_prompt, windows_of
from napari_fewshot.models.grounding._windows import MOST

PHRASES = ["a cell", "dot", "something round"]


@torch.inference_mode()
def published(model, image, phrases):
    """Return the logits of transformers' own processor and network."""
    given = model.processor(
        text=phrases,
        images=[image] * len(phrases),
        padding=True,
        return_tensors="pt",
        input_data_format="channels_last",
    )
    return model.network(**given).logits.numpy()


def test_logits_are_those_of_transformers(clipseg, image):
    mine = clipseg.heat(image, PHRASES)
    theirs = published(clipseg, image, PHRASES)
    assert mine.shape == theirs.shape == (3, 64, 64)
    assert theirs.std() > 0.01
    np.testing.assert_allclose(mine, theirs, atol=1e-5)
    # The plane is kept, and nothing of it depends on the phrases before.
    np.testing.assert_allclose(clipseg.heat(image, PHRASES[1:2])[0], mine[1], atol=1e-5)


def test_more_phrases_than_are_decoded_at_a_time(clipseg, image):
    many = [f"dot {i}" for i in range(18)]
    found = clipseg.heat(image, many)
    np.testing.assert_allclose(found[17], clipseg.heat(image, many[17:])[0], atol=1e-5)


@torch.inference_mode()
def test_exemplars_move_the_condition(clipseg, image):
    """(1 - a) text + a visual, each as transformers computes it."""
    mask = np.zeros(image.shape[:2], bool)
    mask[10:30, 20:50] = True
    network, processor = clipseg.network, clipseg.processor
    ids = processor(text=["a cell"], padding="max_length", return_tensors="pt")
    text = network.get_conditional_embeddings(1, **ids)
    crop = processor(
        visual_prompt=visual_prompt(image, mask),
        images=image,
        return_tensors="pt",
        input_data_format="channels_last",
    )
    seen = network.get_conditional_embeddings(
        1, conditional_pixel_values=crop["conditional_pixel_values"]
    )
    for share in (0.25, 1.0):
        mixed = (1 - share) * text + share * seen
        theirs = network(
            pixel_values=crop["pixel_values"], conditional_embeddings=mixed
        ).logits.numpy()
        mine = clipseg.heat(image, ["a cell"], [(image, mask)], share)
        np.testing.assert_allclose(mine, theirs.reshape(mine.shape), atol=1e-5)
    # Without text the phrase does not count, and may be empty.
    only = clipseg.heat(image, [""], [(image, mask)], 1.0)
    np.testing.assert_allclose(only, mine, atol=1e-6)


def test_a_visual_prompt_is_cropped_dim_and_soft_around(image):
    mask = np.zeros(image.shape[:2], bool)
    mask[20:30, 40:50] = True
    prompt = visual_prompt(image, mask)
    inside = visual_prompt(mask.astype(np.uint8) * 255, mask)[..., 0] > 128
    assert prompt.shape[:2] == inside.shape
    assert max(prompt.shape[:2]) < 20
    assert inside.sum() == mask.sum()
    np.testing.assert_array_equal(
        prompt[inside].reshape(10, 10, 3), image[20:30, 40:50]
    )
    assert prompt[~inside].max() < 0.1 * 255 + 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2)])
def test_tiny_visual_prompts(shape):
    found = visual_prompt(np.full(shape, 200, np.uint8), np.ones(shape, bool))
    assert (found == 200).all()


@pytest.mark.parametrize("shape", [(64, 64), (200, 65), (1000, 130), (64, 3000)])
def test_windows_cover_the_plane_and_overlap_by_half(shape):
    windows = windows_of(shape, 64)
    count = np.zeros(shape, int)
    for y0, x0, y1, x1 in windows:
        assert 0 <= y0 < y1 <= shape[0]
        assert 0 <= x0 < x1 <= shape[1]
        count[y0:y1, x0:x1] += 1
    assert count.min() == 1
    assert len({w[1] for w in windows}) <= MOST
    assert len({w[0] for w in windows}) <= MOST
    starts = sorted({w[1] for w in windows})
    side = windows[0][3] - windows[0][1]
    assert all(b - a <= side / 2 + 1 for a, b in itertools.pairwise(starts))


def test_windows_are_the_mean_of_whole_and_parts(clipseg):
    """A plane whose windows are all alike: the mean is known in closed form."""
    tile = np.random.default_rng(1).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    plane = np.tile(tile, (4, 4, 1))
    whole = clipseg.heat(plane, ["a cell"])
    through = clipseg.heat(plane, ["a cell"], windows="on")
    part = clipseg.heat(plane[:64, :64], ["a cell"])[0]
    assert through.shape == (1, 128, 128)
    # Top left: only the first window sees it.
    x = torch.from_numpy(whole)[None]
    large = torch.nn.functional.interpolate(x, (128, 128), mode="bilinear")[0, 0]
    wanted = (part[:32, :32] + large[:32, :32].numpy()) / 2
    np.testing.assert_allclose(through[0, :32, :32], wanted, atol=1e-5)
    np.testing.assert_array_equal(
        clipseg.heat(plane, ["a cell"], windows="auto"), through
    )
    small = plane[:100, :100]
    assert clipseg.heat(small, ["a cell"], windows="auto").shape == (1, 64, 64)


@pytest.mark.parametrize(
    "plane",
    [
        np.zeros((40, 30), np.uint8),
        np.full((40, 30), np.nan, np.float32),
        np.random.default_rng(0).integers(0, 60000, (40, 30)).astype(np.uint16),
        np.random.default_rng(0).random((40, 30, 5)).astype(np.float32),
        np.zeros((1, 1), np.uint8),
    ],
)
def test_planes_of_all_kinds(clipseg, plane):
    found = clipseg.heat(plane, ["a cell"])
    assert found.shape == (1, 64, 64)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("shape", [(3,), (0, 5), (2, 3, 4, 5)])
def test_no_planes(clipseg, shape):
    with pytest.raises(nf.DataError, match="reads one plane"):
        clipseg.heat(np.zeros(shape, np.uint8), ["a cell"])


@pytest.mark.parametrize(
    "phrase", ["細胞", "🔬", "<b>cell</b>", "cell " * 200, "é\u0301"]
)
def test_phrases_of_all_kinds(clipseg, image, phrase):
    found = clipseg.heat(image, [phrase])
    assert np.isfinite(found).all()
    # Its vocabulary is of bytes, so that nothing is unknown.
    assert clipseg.unreadable([phrase]) == ()
    assert clipseg.too_long([phrase]) == ((phrase,) if len(phrase) > 100 else ())


def test_signs_of_the_tokenizer_are_not_obeyed(clipseg, image):
    plain = clipseg.heat(image, ["a cell"])
    np.testing.assert_array_equal(clipseg.heat(image, ["a <|endoftext|> cell"]), plain)


def test_what_is_refused(clipseg, image):
    mask = np.zeros(image.shape[:2], bool)
    for phrases in ([], [""], ["a", " "], ["<|endoftext|>"]):
        with pytest.raises(nf.PromptError):
            clipseg.heat(image, phrases)
    with pytest.raises(nf.PromptError, match="mask of an example is empty"):
        clipseg.heat(image, ["a"], [(image, mask)])
    with pytest.raises(nf.PromptError, match="same shape"):
        clipseg.heat(image, ["a"], [(image, mask[1:])])
    mask[5:9, 5:9] = True
    with pytest.raises(nf.PromptError, match="between 0 and 1"):
        clipseg.heat(image, ["a"], [(image, mask)], 1.5)


def test_it_can_be_stopped(clipseg, image):
    def stop(number, count):
        raise nf.Cancelled("stopped")

    with pytest.raises(nf.Cancelled):
        clipseg.heat(255 - image, ["a cell"], check=stop)
    assert clipseg.heat(255 - image, ["a cell"]).shape == (1, 64, 64)

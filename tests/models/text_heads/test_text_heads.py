"""Text heads: their parts by formula, their training, their files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from tests.models.text_heads import readers

from napari_fewshot.data import Hooks
from napari_fewshot.errors import (
    Cancelled,
    ModelError,
    StorageError,
    SupportError,
    WeightsError,
)
from napari_fewshot.models.text_heads import (
    KINDS,
    ClipSegHead,
    HeadSettings,
    Lesson,
    TextHead,
    cross_predicted,
    fit_module,
    load_head,
    look,
    mask_loss,
    save_head,
    together,
)
from napari_fewshot.models.text_heads._dynamic import PARAMETERS, answered
from napari_fewshot.models.text_heads._head import new_module
from napari_fewshot.models.text_heads._query import complementary
from napari_fewshot.models.text_heads._seen import kept_blocks

MAPS = ("query", "clipseg", "dynamic")


@pytest.fixture(scope="module")
def clip():
    return readers.Reader()


@pytest.fixture(scope="module")
def lessons(clip):
    return [readers.lesson(clip, seed) for seed in range(8)]


@pytest.fixture(scope="module")
def seen(lessons):
    return lessons[0].seen


@pytest.fixture(scope="module")
def trained(lessons):
    settings = HeadSettings("query", steps=110)
    module, losses = fit_module(lessons, readers.phrases(), settings, Hooks())
    return module, losses


def made(kind, seen, seed=0):
    torch.manual_seed(seed)
    return new_module(kind, seen.sizes).eval()


def words(count, seed=0):
    rows = torch.randn(count, 24, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=-1)


# What is read


def test_blocks_are_those_of_clipseg():
    assert kept_blocks(12) == (3, 6, 9)
    assert kept_blocks(24) == (6, 12, 18)
    assert kept_blocks(1) == (0, 0, 0)


def test_a_look_is_what_the_model_says(clip, seen):
    image, _ = readers.scene(0)
    x = clip.prepared(image)
    with torch.no_grad():
        whole = F.normalize(clip.network.encode_image(x), dim=-1)
        maps = clip.network.visual.forward_intermediates(
            x, indices=list(kept_blocks(6)), output_fmt="NLC", output_extra_tokens=True
        )
    assert torch.allclose(seen.whole, whole, atol=1e-5)
    assert seen.grid == (8, 8)
    assert seen.prefix == 1
    for own, other in zip(seen.levels, maps["image_intermediates"], strict=True):
        assert torch.allclose(own[:, 1:], other, atol=1e-5)
    assert torch.allclose(seen.cells.norm(dim=1), torch.ones(1, 8, 8), atol=1e-5)


def test_a_mirrored_look_is_that_of_the_mirror_image(clip):
    image, _ = readers.scene(1)
    mirrored = look(clip, image, mirrored=True)
    flipped = look(clip, np.ascontiguousarray(image[:, ::-1]))
    assert torch.allclose(mirrored.cells, flipped.cells, atol=1e-4)


# Modules


@pytest.mark.parametrize("kind", MAPS)
def test_phrases_do_not_disturb_one_another(kind, lessons):
    batch = together([item.seen for item in lessons[:3]])
    module, asked = made(kind, batch), words(4)
    with torch.no_grad():
        every = module(batch, asked)
        for plane in range(3):
            for phrase in range(4):
                alone = module(lessons[plane].seen, asked[phrase][None])
                assert torch.allclose(every[plane, phrase], alone[0, 0], atol=1e-4)


@pytest.mark.parametrize("kind", MAPS)
def test_the_phrase_changes_the_map(kind, seen):
    module = made(kind, seen)
    with torch.no_grad():
        found = module(seen, words(2))[0]
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_clipseg_decoder_is_the_published_one():
    from transformers import CLIPSegConfig
    from transformers.models.clipseg.modeling_clipseg import CLIPSegDecoder

    config = CLIPSegConfig(
        vision_config={"hidden_size": 48, "patch_size": 16, "image_size": 64},
        projection_dim=24,
        reduce_dim=64,
        use_complex_transposed_convolution=True,
    )
    torch.manual_seed(1)
    published = CLIPSegDecoder(config).eval()
    levels = tuple(torch.randn(2, 17, 48) for _ in range(3))
    asked = torch.randn(2, 24)
    with torch.no_grad():
        expected = published(levels, asked).logits
    sizes = {"words": 24, "width": 48, "levels": 3, "patch": 16}
    own = ClipSegHead(sizes).eval()
    own.load_published(published.state_dict())
    from napari_fewshot.models.text_heads import Seen

    batch = Seen(
        torch.zeros(2, 3, 64, 64), levels, torch.zeros(2, 24, 4, 4), torch.zeros(2, 24)
    )
    with torch.no_grad():
        found = own(batch, asked)
    for plane in range(2):
        assert torch.allclose(found[plane, plane], expected[plane], atol=1e-5)


def test_written_layers_are_applied_one_after_the_other():
    assert PARAMETERS == 153
    generator = np.random.default_rng(0)
    fine = generator.normal(size=(1, 8, 2, 3))
    written = generator.normal(size=(1, 1, 153))
    found = answered(torch.tensor(fine), torch.tensor(written))[0, 0].numpy()
    w = written[0, 0]
    first, second, third = w[:64].reshape(8, 8), w[64:128].reshape(8, 8), w[128:136]
    b1, b2, b3 = w[136:144], w[144:152], w[152]
    for y in range(2):
        for x in range(3):
            h = np.maximum(first @ fine[0, :, y, x] + b1, 0)
            h = np.maximum(second @ h + b2, 0)
            assert found[y, x] == pytest.approx(third @ h + b3)


def test_masks_that_are_there_reach_their_own_phrase_first(seen):
    module, asked = made("query", seen), words(2)
    coarse = torch.zeros(1, 2, 16, 16)
    with torch.no_grad():
        nothing = module(seen, asked)
        assert torch.allclose(nothing, module(seen, asked, coarse))
        coarse[0, 0, 4:8, 4:8] = 1
        told = module(seen, asked, coarse)
        swapped = module(seen, asked.flip(0), coarse.flip(1)).flip(1)
    assert not torch.allclose(nothing, told, atol=1e-3)
    assert torch.allclose(told, swapped, atol=1e-5)


def test_shown_and_hidden_blocks_are_halves():
    shown = complementary((16, 24), 8, torch.Generator().manual_seed(0))
    assert shown.shape == (16, 24)
    assert float(shown.mean()) == 0.5
    blocks = shown.view(2, 8, 3, 8)
    assert ((blocks.amax((1, 3)) - blocks.amin((1, 3))) == 0).all()
    ragged = complementary((13, 7), 8, torch.Generator().manual_seed(0))
    assert ragged.shape == (13, 7)


def test_cross_prediction_takes_each_pixel_where_it_was_hidden(seen):
    module, asked = made("query", seen), words(1)
    coarse = torch.rand(1, 1, 16, 16)
    found = cross_predicted(module, seen, asked, coarse, seed=3)
    shown = complementary((16, 16), 8, torch.Generator().manual_seed(3))
    with torch.no_grad():
        first = module(seen, asked, coarse * shown)
        second = module(seen, asked, coarse * (1 - shown))
    assert torch.equal(found[0, 0][shown == 0], first[0, 0][shown == 0])
    assert torch.equal(found[0, 0][shown == 1], second[0, 0][shown == 1])


# Loss and training


def test_the_loss_is_dice_and_a_fifth_of_the_entropy():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(1, 1, 6, 6)), rng.integers(0, 2, (1, 1, 6, 6))
    p = 1 / (1 + np.exp(-logits))
    room = 36e-3
    soft = 1 - (2 * (p * target).sum() + room) / (p.sum() + target.sum() + room)
    entropy = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    found = mask_loss(torch.tensor(logits).float(), torch.tensor(target).float())
    assert float(found) == pytest.approx(soft + 0.2 * entropy, abs=1e-5)
    near = mask_loss(
        torch.tensor(target * 40.0 - 20).float(), torch.tensor(target).float()
    )
    assert float(near) < 1e-3


def answers(module, kind, seen, rows):
    return TextHead(kind, module, seen.sizes, "tiny").answer(seen, rows.numpy())


def test_a_head_learns_what_phrases_mean_and_that_others_are_nowhere(clip, trained):
    known = readers.phrases()
    rows = torch.cat([known.classes[1, ""], known.classes[2, ""], known.absent[:1]])
    scores, nowhere = [], []
    for seed in range(50, 56):
        held_out = readers.lesson(clip, seed)
        found = answers(trained[0], "query", held_out.seen, rows) > 0
        for number, value in enumerate((1, 2)):
            truth = held_out.covers[value].numpy() > 0.5
            scores.append(readers.dice(found[number], truth))
        nowhere.append(found[2].mean())
    assert np.mean(scores) > 0.85
    assert max(nowhere) < 0.01
    assert np.mean(trained[1][-10:]) < 0.3 * np.mean(trained[1][:10])


@pytest.mark.parametrize("kind", MAPS)
def test_every_kind_lowers_its_loss(kind, lessons):
    settings = HeadSettings(kind, steps=25, planes=2)
    _, losses = fit_module(lessons[:4], readers.phrases(), settings, Hooks())
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_the_seed_decides(lessons):
    def weights(seed):
        settings = HeadSettings("dynamic", steps=3, seed=seed)
        module, _ = fit_module(lessons[:3], readers.phrases(), settings, Hooks())
        return torch.cat([p.flatten() for p in module.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def stopping(after):
    calls = []

    def stop():
        calls.append(1)
        return len(calls) > after

    return Hooks(is_cancelled=stop)


def test_a_fit_that_was_stopped_goes_on_where_it_was(lessons, tmp_path):
    settings = HeadSettings("dynamic", steps=12)
    place = tmp_path / "fit.safetensors"
    whole, losses = fit_module(lessons[:4], readers.phrases(), settings, Hooks())
    with pytest.raises(Cancelled):
        fit_module(
            lessons[:4], readers.phrases(), settings, stopping(7), checkpoint=place
        )
    assert place.is_file()
    seen_steps = []
    hooks = Hooks(on_progress=lambda p: seen_steps.append(p.done))
    again, more = fit_module(
        lessons[:4], readers.phrases(), settings, hooks, checkpoint=place
    )
    assert seen_steps[0] == 7
    assert more == losses
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not place.exists()


def test_a_kill_between_steps_loses_no_more_than_since_the_checkpoint(
    lessons, tmp_path
):
    settings = HeadSettings("dynamic", steps=10)
    place = tmp_path / "fit.safetensors"

    class Killed(BaseException):
        pass

    def die(progress):
        if progress.done == 8:
            raise Killed

    with pytest.raises(Killed):
        fit_module(
            lessons[:4],
            readers.phrases(),
            settings,
            Hooks(on_progress=die),
            checkpoint=place,
            every=3,
        )
    steps = []
    again, _ = fit_module(
        lessons[:4],
        readers.phrases(),
        settings,
        Hooks(on_progress=lambda p: steps.append(p.done)),
        checkpoint=place,
    )
    whole, _ = fit_module(lessons[:4], readers.phrases(), settings, Hooks())
    assert steps[0] == 6
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_another_fit_is_not_taken_up(lessons, tmp_path):
    place = tmp_path / "fit.safetensors"
    settings = HeadSettings("dynamic", steps=6)
    with pytest.raises(Cancelled):
        fit_module(
            lessons[:4], readers.phrases(), settings, stopping(4), checkpoint=place
        )
    steps = []
    hooks = Hooks(on_progress=lambda p: steps.append(p.done))
    fit_module(lessons[2:6], readers.phrases(), settings, hooks, checkpoint=place)
    assert steps[0] == 0


def test_modalities_take_turns(clip, monkeypatch):
    from napari_fewshot.models.text_heads import _fit

    items = [readers.lesson(clip, n, "ct" if n < 3 else "mr") for n in range(5)]
    used = []
    real = _fit.together
    monkeypatch.setattr(
        _fit, "together", lambda parts: used.append(len(parts)) or real(parts)
    )
    settings = HeadSettings("dynamic", steps=4)
    fit_module(items, readers.phrases(("ct", "mr")), settings, Hooks())
    # Three planes of one, two of the other.
    assert used == [3, 2, 3, 2]


def test_nothing_painted_is_refused(lessons):
    empty = replace(lessons[0], covers={1: torch.zeros(32, 32)})
    with pytest.raises(SupportError, match="No support"):
        fit_module([empty], readers.phrases(), HeadSettings(), Hooks())


def test_one_class_and_one_plane_are_enough_to_run(lessons):
    item = lessons[0]
    only = Lesson(item.seen, {1: item.covers[1]})
    known = readers.phrases()
    single = replace(
        known, classes={(1, ""): known.classes[1, ""]}, absent=known.absent[:0]
    )
    _, losses = fit_module([only], single, HeadSettings("clipseg", steps=2), Hooks())
    assert np.isfinite(losses).all()


def test_unknown_kinds_are_named(lessons):
    with pytest.raises(ModelError, match="Kinds: query, clipseg, dynamic, vlp"):
        fit_module(lessons, readers.phrases(), HeadSettings("magic"), Hooks())


def test_a_rate_that_explodes_is_told(lessons):
    settings = HeadSettings("dynamic", steps=40, rate=1e30)
    with pytest.raises(ModelError, match="diverged"):
        fit_module(lessons[:2], readers.phrases(), settings, Hooks())


# Files


def head_of(trained, seen):
    return TextHead(
        "query",
        trained[0],
        seen.sizes,
        "tiny",
        "abc",
        classes={1: ("red disc",), 2: ("blue disc", "azure disc")},
        facts={"steps": 150},
    )


def test_a_head_is_what_it_was_after_saving(trained, seen, tmp_path):
    head = head_of(trained, seen)
    path = save_head(head, tmp_path / "folder" / "mine")
    assert path.name == "mine.safetensors"
    back = load_head(path)
    rows = words(3).numpy()
    assert np.array_equal(back.answer(seen, rows), head.answer(seen, rows))
    assert back.classes == head.classes
    assert back.facts == {"steps": 150}
    assert back.class_of(["AZURE disc"]) == 2
    assert back.class_of(["ring"]) is None
    assert list(path.parent.iterdir()) == [path]


def rewritten(path, target, change_tensors=None, **facts):
    with safe_open(path, "pt") as file:
        said = json.loads(file.metadata()["napari_fewshot"])
        tensors = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    if change_tensors:
        change_tensors(tensors)
    save_file(tensors, target, {"napari_fewshot": json.dumps({**said, **facts})})
    return target


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"kind": "os.system"}, "damaged"),
        ({"version": 2}, "newer"),
        ({"format": "something"}, "no text head"),
        ({"sizes": {"words": 24}}, "damaged"),
        ({"sizes": {"words": 10**9, "width": 64, "levels": 3, "patch": 8}}, "damaged"),
        ({"sizes": {"words": 25, "width": 64, "levels": 3, "patch": 8}}, "damaged"),
        ({"classes": [1, 2]}, "damaged"),
        ({"classes": {"one": ["a"]}}, "damaged"),
    ],
)
def test_hostile_files_are_refused(trained, seen, tmp_path, facts, text):
    path = save_head(head_of(trained, seen), tmp_path / "good")
    with pytest.raises(WeightsError, match=text):
        load_head(rewritten(path, tmp_path / "bad.safetensors", **facts))


def test_missing_short_and_infinite_files_are_refused(trained, seen, tmp_path):
    with pytest.raises(WeightsError, match="no text head at"):
        load_head(tmp_path / "none.safetensors")
    path = save_head(head_of(trained, seen), tmp_path / "good")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(WeightsError, match="damaged"):
        load_head(cut)
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(WeightsError, match="damaged"):
        load_head(tmp_path / "pickle.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="no text head of"):
        load_head(tmp_path / "other.safetensors")

    def spoil(tensors):
        tensors["module.bias"] = torch.tensor(float("nan"))

    bad = rewritten(path, tmp_path / "nan.safetensors", spoil)
    with pytest.raises(WeightsError, match="infinite or none"):
        load_head(bad)

    def lose(tensors):
        del tensors["module.bias"]

    with pytest.raises(WeightsError, match="damaged"):
        load_head(rewritten(path, tmp_path / "lost.safetensors", lose))


def test_a_place_that_cannot_be_written_is_told(trained, seen, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="can't be written"):
        save_head(head_of(trained, seen), tmp_path / "file" / "head")


def test_another_clip_is_refused(trained, seen):
    head = head_of(trained, seen)
    other = readers.Reader(width=32)
    image, _ = readers.scene(0)
    with pytest.raises(ModelError, match="other sizes"):
        head.answer(look(other, image), words(1).numpy())
    with pytest.raises(ModelError, match="other weights"):
        head.check(other)


def test_kinds_are_those_of_the_parameters():
    from typing import get_args, get_type_hints

    from napari_fewshot.methods.text_head import TextHeadParams

    assert set(get_args(get_type_hints(TextHeadParams)["kind"])) == set(KINDS)

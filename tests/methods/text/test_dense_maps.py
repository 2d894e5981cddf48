"""Heat maps of all methods of the CLIP kind: any plane, words, caches, masks."""

import numpy as np
import pytest
from tests.methods.text.reader import bank_of, biomed, forget, native, picture, rows

from napari_fewshot.data import Hooks, Plane, TextPrompt
from napari_fewshot.errors import Cancelled
from napari_fewshot.methods import get_method

TOWERS = {"native": native, "biomed": biomed}
DENSE = ("maskclip", "clearclip", "sclip", "surgery", "proxy")
EVERY = (*DENSE, "gscorecam", "m2ib")


@pytest.fixture(autouse=True)
def nothing_kept():
    forget()


def array(tensor):
    return tensor.detach().double().numpy()


def heat(name, reader, image, bank, hooks=None, **values):
    method = get_method(name)
    params = method.spec.params(**values)
    return method.heat(reader, Plane(image), bank, params, hooks or Hooks())


SHAPES = {
    "grey": (50, 70, 1),
    "colour": (64, 64, 3),
    "two channels": (40, 90, 2),
    "five channels": (40, 30, 5),
    "less than a patch": (3, 5, 1),
    "one pixel": (1, 1, 1),
    "long": (9, 40, 1),
}
QUICK = {"m2ib": {"steps": 3, "samples": 2}, "gscorecam": {"channels": 8}}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_any_plane_gives_finite_maps(name, shape):
    image = picture(1, shape)
    bank = bank_of([rows(2, 1), rows(1, 2)], [rows(1, 3)])
    found = heat(name, native(), image, bank, **QUICK.get(name, {}))
    assert found.maps.dtype == np.float32
    assert found.maps.shape[0] == 2
    assert np.isfinite(found.maps).all()
    assert np.abs(found.maps).max() <= 1 + 1e-5
    assert found.fits.shape == (2,)
    assert -1 <= found.baseline <= 1
    if found.kind == "cosine":
        assert found.background.shape == found.maps.shape[1:]
        assert (found.negative[1] == -1).all()
        assert (found.negative[0] > -1).all()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_plane_of_one_colour_is_borne(name, level):
    image = np.full((30, 30, 1), level, np.float32)
    found = heat(name, biomed(), image, bank_of([rows(1)]), **QUICK.get(name, {}))
    assert np.isfinite(found.maps).all()
    assert found.negative is None


@pytest.mark.parametrize("name", EVERY)
def test_fits_and_baseline_are_of_the_model_itself(name):
    reader, image = native(), picture()
    bank = bank_of([rows(2, 1), rows(1, 2)])
    found = heat(name, reader, image, bank, **QUICK.get(name, {}))
    whole = array(reader.visual(reader.prepared(image))[0])
    whole /= np.linalg.norm(whole)
    both = rows(2, 1).sum(0) / np.linalg.norm(rows(2, 1).sum(0))
    wanted = [whole @ both, whole @ rows(1, 2)[0]]
    np.testing.assert_allclose(found.fits, wanted, atol=1e-5)
    assert found.baseline == pytest.approx((rows(5, 101) @ whole).max(), abs=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_flips_make_maps_of_a_mirrored_plane_mirrored_maps(name):
    reader, bank = native(), bank_of([rows(1)])
    image = picture(2)
    values = {**QUICK.get(name, {}), "flips": True}
    plain = heat(name, reader, image, bank, **values)
    mirrored = heat(name, reader, image[:, ::-1], bank, **values)
    np.testing.assert_allclose(mirrored.maps[:, :, ::-1], plain.maps, atol=1e-4)
    np.testing.assert_allclose(mirrored.fits, plain.fits, atol=1e-5)
    single = heat(name, reader, image, bank, **QUICK.get(name, {}))
    assert not np.allclose(single.maps, plain.maps, atol=1e-4)


@pytest.mark.parametrize("name", DENSE)
def test_a_new_phrase_on_the_same_plane_runs_no_tower(name):
    reader, image = native(), picture(3)
    heat(name, reader, image, bank_of([rows(1, 1)]))
    before = reader.tower.images, reader.tower.blocks
    assert before[0] == 1
    second = heat(name, reader, image.copy(), bank_of([rows(1, 2), rows(4, 3)]))
    assert (reader.tower.images, reader.tower.blocks) == before
    forget()
    anew = heat(name, reader, image, bank_of([rows(1, 2), rows(4, 3)]))
    np.testing.assert_array_equal(second.maps, anew.maps)
    assert reader.tower.images == 2


def test_what_is_kept_is_of_one_model_plane_and_method():
    image, bank = picture(4), bank_of([rows(1)])
    one, other = native(seed=1), native(seed=2)
    maps = [
        heat("clearclip", one, image, bank).maps,
        heat("clearclip", other, image, bank).maps,
        heat("maskclip", one, image, bank).maps,
        heat("clearclip", one, picture(5), bank).maps,
        heat("proxy", one, image, bank, gamma=3.0).maps,
        heat("proxy", one, image, bank, gamma=9.0).maps,
    ]
    assert maps[4].shape == maps[5].shape
    for number, first in enumerate(maps):
        for second in maps[number + 1 :]:
            if first.shape == second.shape:
                assert not np.allclose(first, second)


@pytest.mark.parametrize("name", EVERY)
def test_cancelling_stops(name):
    with pytest.raises(Cancelled):
        heat(
            name,
            native(),
            picture(),
            bank_of([rows(1)]),
            Hooks(is_cancelled=lambda: True),
        )


@pytest.mark.parametrize("make", TOWERS.values(), ids=TOWERS)
@pytest.mark.parametrize("name", ["maskclip", "clearclip", "sclip", "proxy"])
def test_a_planted_word_is_found_on_a_plane_that_was_not_seen(name, make):
    """A word lies where cells of a bright blob lie, less where the ground lies."""
    reader, method = make(2), get_method(name)
    params = method.spec.params()
    seen = method._seen(reader, [picture(0, (64, 64, 1))], params)[0]
    bright = shown(picture(0, (64, 64, 1)), seen.cells.shape[:2])
    inside, outside = seen.cells[bright > 0.7], seen.cells[bright < 0.3]
    word = inside.mean(0) - outside.mean(0)
    word /= np.linalg.norm(word)
    for seed in (7, 8, 9) if name != "proxy" else (7,):
        image = picture(seed, (64, 64, 1))
        found = heat(name, reader, image, bank_of([word[None].astype(np.float32)]))
        truth = shown(image, found.maps.shape[1:])
        peak = np.unravel_index(found.maps[0].argmax(), truth.shape)
        assert truth[peak] > 0.4
        there, elsewhere = found.maps[0][truth > 0.7], found.maps[0][truth < 0.3]
        assert (there[:, None] > elsewhere).mean() > 0.95


def shown(image, grid):
    """Return the brightness of cells."""
    from napari_fewshot.ops import resize_image

    return resize_image(image[..., 0], (int(grid[0]), int(grid[1])))


def test_proxy_takes_a_dino_that_is_installed(monkeypatch):
    from napari_fewshot.methods import proxy

    assert proxy.encoder_name("auto") == "incontext/small"
    monkeypatch.setattr(
        proxy, "installed_models", lambda: ("filters", "dinov2/vits14", "dinov3/vitb16")
    )
    assert proxy.encoder_name("auto") == "dinov2/vits14"
    assert proxy.encoder_name("dinov3/vitb16") == "dinov3/vitb16"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Return a whole tiny CLIP, loaded as a user's own."""
    from tests.models.clip import tiny

    from napari_fewshot.models import load_text_model

    folder = tiny.write_native(tmp_path_factory.mktemp("clip") / "model")
    return load_text_model("biomedclip", folder)


@pytest.mark.parametrize("name", EVERY)
def test_phrases_to_masks_with_a_whole_model(name, clip, monkeypatch):
    images = []
    begin = clip.tower.begin
    monkeypatch.setattr(
        clip.tower, "begin", lambda x: images.append(len(x)) or begin(x)
    )
    text = {
        1: TextPrompt("bright blob", synonyms=("cell",), negatives=("vessel",)),
        4: TextPrompt("細胞 🙂"),
    }
    method = get_method(name)
    params = method.spec.params(decoder="map", **QUICK.get(name, {}))
    fitted = method.fit_text(text, params, clip, Hooks())
    found = fitted.heat(Plane(picture()), Hooks())
    assert found.maps.shape[0] == 2
    maps = fitted.predict(Plane(picture()), Hooks())
    assert {v: m.shape for v, m in maps.items()} == {1: (50, 70), 4: (50, 70)}
    assert all(np.isfinite(m).all() for m in maps.values())
    if name in DENSE:
        assert sum(images) == 1


def test_a_hundred_phrases_on_images_run_each_tower_once(clip, monkeypatch):
    images, phrases = [], []
    begin, read = clip.tower.begin, clip.network.encode_text
    monkeypatch.setattr(
        clip.tower, "begin", lambda x: images.append(len(x)) or begin(x)
    )
    monkeypatch.setattr(
        clip.network, "encode_text", lambda x: phrases.append(len(x)) or read(x)
    )
    text = {n: TextPrompt(f"thing number {n}") for n in range(1, 101)}
    method = get_method("clearclip")
    params = method.spec.params(templates="none")
    for seed in range(5):
        fitted = method.fit_text(text, params, clip, Hooks())
        found = fitted.heat(Plane(picture(seed)), Hooks())
        assert found.maps.shape[0] == 100
    assert sum(images) == 5
    # Besides the hundred only words of the background, of nonsense, and none.
    assert 100 <= sum(phrases) < 120

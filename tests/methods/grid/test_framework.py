"""What all methods on embeddings share: grids, boundaries, decoders, edges."""

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import Embedding, Hooks, Plane, Sample
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.methods.grid import (
    Ask,
    GridPlane,
    GridSupport,
    MapDecoder,
    SamDecoder,
    decoder_for,
    fit_boundary,
    house_ask,
    parts_of,
    position_prior,
    upsampled,
)
from napari_fewshot.methods.grid._calibrate import sized
from napari_fewshot.methods.grid._house import agreeing
from napari_fewshot.ops import guided_filter, ring_mask, ring_points


def plane_of(image, grid=(12, 16), position=None):
    """A plane whose features are its own mean over the cells, and a constant."""
    rows, columns = (n // g for n, g in zip(image.shape, grid, strict=True))
    cells = image.reshape(grid[0], rows, grid[1], columns).mean((1, 3))
    features = np.stack([cells, np.ones(grid)]).astype(np.float32)
    embedding = Embedding(features, image.shape, "toy")
    return Plane(image[..., None].astype(np.float32), position), embedding


def support_of(image, labels, **options):
    plane, embedding = plane_of(image, **options)
    sample = Sample(plane.image, plane.position, None, labels=labels.astype(np.int32))
    return GridSupport(sample, embedding, sample=sample)


def disc(shape, centre, radius):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


@pytest.fixture
def query():
    image = np.random.default_rng(0).uniform(0, 1, (96, 128)).astype(np.float32)
    return GridPlane(*plane_of(image))


def test_cells_and_pixels_go_back_and_forth(query):
    cells = np.argwhere(np.ones(query.grid, bool))
    pixels = query.to_pixels(cells)
    np.testing.assert_array_equal(query.to_cells(pixels), cells)
    # Cells are 8 by 8 pixels: the middle of the first lies between pixels 3 and 4.
    np.testing.assert_allclose(pixels[0], [3.5, 3.5])
    np.testing.assert_allclose(np.linalg.norm(query.unit, axis=0), 1, atol=1e-5)


def test_small_objects_get_a_cell(query):
    tiny = np.zeros(query.shape, bool)
    tiny[41, 77] = True
    share = query.cover_of(tiny)
    assert share.max() == 1
    assert np.argwhere(share == 1).tolist() == [[5, 9]]
    assert not query.cover_of(np.zeros(query.shape, bool)).any()


def test_boundary_separates_what_can_be_separated():
    rng = np.random.default_rng(1)
    cover = (rng.uniform(0, 1, (40, 40)) > 0.8).astype(np.float32)
    raw = (0.02 * rng.normal(0, 1, cover.shape) + 0.1 * cover + 0.7).astype(np.float32)
    boundary = fit_boundary([raw], [cover])
    assert 0.72 < boundary.level < 0.78
    odds = boundary(raw)
    assert ((odds > 0) == (cover > 0)).mean() > 0.97
    # Far from the boundary it is sure, and it says so about as often as it is right.
    assert odds[cover > 0].mean() > 2
    assert odds[cover == 0].mean() < -2


def test_boundary_of_nothing_to_learn_from_is_finite():
    flat = np.zeros((8, 8), np.float32)
    for cover in (np.zeros_like(flat), np.ones_like(flat)):
        odds = fit_boundary([flat], [cover])(flat)
        assert np.isfinite(odds).all()


def test_position_counts_near_the_supports(query):
    mask = disc(query.shape, (30, 30), 14)
    supports = [support_of(np.zeros(query.shape), mask)]
    prior = position_prior(supports, 1, query)
    assert prior.shape == query.grid
    assert prior[query.to_cells([[30, 30]])[0][0], 3] > 0.5
    assert prior[-1, -1] < -2
    # Along z the nearest support decides.
    there = support_of(np.zeros(query.shape), mask, position=0.1)
    other = support_of(
        np.zeros(query.shape), disc(query.shape, (70, 100), 14), position=0.9
    )
    plane, embedding = plane_of(np.zeros(query.shape), position=0.12)
    near = position_prior([there, other], 1, GridPlane(plane, embedding))
    assert near[3, 3] > near[8, 12] + 1


def test_size_of_the_target(query):
    odds = np.random.default_rng(2).normal(0, 1, query.grid).astype(np.float32)
    assert (sized(odds, 0.25) > 0).mean() == pytest.approx(0.25, abs=0.02)


def test_levels_of_a_map(query):
    odds = np.full(query.grid, -3.0, np.float32)
    odds[2:5, 2:5] = 3.0
    odds[7:10, 9:14] = 2.0
    decoder, hooks = MapDecoder(), Hooks()
    one = Ask(query.to_pixels([[3, 3]]), np.array([1]))
    logits, scores = decoder.decode(query, odds, [one], hooks, several=True)
    assert logits.shape[:2] == (1, 3)
    assert scores.shape == (1, 3)
    cover = decoder.to_grid(query, logits[0])[0]
    assert cover[3, 3] == 1
    assert cover[8, 11] == 0
    both = Ask(query.to_pixels([[3, 3], [8, 11]]), np.array([1, 1]))
    cover = decoder.to_grid(query, decoder.decode(query, odds, [both], hooks)[0][0])[0]
    assert cover[3, 3] == cover[8, 11] == 1
    # A negative point takes its part away; a box cuts.
    less = Ask(query.to_pixels([[3, 3], [8, 11]]), np.array([1, 0]))
    cover = decoder.to_grid(query, decoder.decode(query, odds, [less], hooks)[0][0])[0]
    assert cover[8, 11] == 0
    boxed = Ask(box=np.array([56.0, 72.0, 80.0, 90.0]))
    cover = decoder.to_grid(query, decoder.decode(query, odds, [boxed], hooks)[0][0])[0]
    assert cover[8, 10] == 1
    assert cover[8, 13] == 0
    full = decoder.restore(query, logits[0])
    assert full.shape == (3, *query.shape)


def test_sam_decodes_batches_as_singles(tiny_sam):
    model = nf.load_model("sam/vit_b", tiny_sam)
    image = np.random.default_rng(0).uniform(0, 1, (60, 90)).astype(np.float32)
    plane = Plane(image[..., None])
    query = GridPlane(plane, model.encode(plane.image))
    decoder = decoder_for("auto", model)
    assert isinstance(decoder, SamDecoder)
    asks = [
        Ask(np.array([[10.0, 20.0]]), np.array([1])),
        Ask(np.array([[30.0, 50.0]]), np.array([1])),
        Ask(np.array([[30.0, 50.0], [5.0, 5.0]]), np.array([1, 0])),
        Ask(box=np.array([5.0, 6.0, 40.0, 60.0])),
    ]
    asks.append(
        Ask(
            asks[0].points,
            asks[0].labels,
            mask=decoder.as_mask(
                query,
                np.random.default_rng(1).normal(0, 2, query.grid).astype(np.float32),
            ),
        )
    )
    odds = np.zeros(query.grid, np.float32)
    together, scores = decoder.decode(query, odds, asks, Hooks(), several=True)
    for number, ask in enumerate(asks):
        alone, score = decoder.decode(query, odds, [ask], Hooks(), several=True)
        np.testing.assert_allclose(together[number], alone[0], atol=1e-4)
        np.testing.assert_allclose(scores[number], score[0], atol=1e-4)
    assert decoder.restore(query, together[0]).shape == (3, 60, 90)
    assert decoder.to_grid(query, together[0]).shape == (3, *query.grid)


def test_no_sam_no_masks_by_sam():
    filters = nf.load_model("filters")
    assert isinstance(decoder_for("auto", filters), MapDecoder)
    with pytest.raises(nf.ModelError, match="models list"):
        decoder_for("sam", filters)


def test_house_prompts_of_a_ring(query):
    ring = disc(query.grid, (6, 8), 4.2) & ~disc(query.grid, (6, 8), 2)
    odds = np.where(ring, 2.0, -2.0).astype(np.float32)
    (part,) = parts_of(odds)
    ask = house_ask(part, odds, query)
    inner = query.to_cells(ask.positive)[0]
    assert ring[tuple(inner)]
    away = query.to_cells(ask.negative)
    assert len(away) > 1
    assert not ring[away[:, 0], away[:, 1]].any()
    rows, columns = np.nonzero(ring)
    assert ask.box[0] < rows.min() * 8
    assert ask.box[3] > columns.max() * 8
    covers = np.stack([ring * 1.0, np.ones(query.grid), np.zeros(query.grid)])
    assert agreeing(part, covers, np.array([0.5, 0.9, 0.9])) == 0
    assert agreeing(part, covers[1:], np.array([0.9, 0.9])) is None


def test_edges_follow_the_image():
    mask = disc((96, 128), (50, 61), 23)
    image = np.where(mask, 0.8, 0.2).astype(np.float32)
    query = GridPlane(*plane_of(image))
    odds = np.where(query.cover_of(mask) > 0.5, 2.0, -2.0).astype(np.float32)
    wrong = {
        edges: ((upsampled(odds, query, edges) > 0) != mask).sum()
        for edges in ("none", "guided", "walker")
    }
    assert wrong["guided"] < 0.7 * wrong["none"]
    assert wrong["walker"] < 0.7 * wrong["none"]


def test_guided_filter():
    rng = np.random.default_rng(0)
    guide = rng.uniform(0, 1, (20, 24)).astype(np.float32)
    # What is a linear function of the guide stays as it is ...
    line = 3 * guide - 1
    np.testing.assert_allclose(guided_filter(line, guide, 2, 1e-8), line, atol=1e-3)
    # ... and a flat guide gives the mean of means.
    from scipy.ndimage import uniform_filter

    values = rng.normal(0, 1, guide.shape).astype(np.float32)
    twice = uniform_filter(uniform_filter(values, 5, mode="nearest"), 5, mode="nearest")
    flat = np.full_like(guide, 0.5)
    np.testing.assert_allclose(guided_filter(values, flat, 2, 1e-3), twice, atol=1e-5)


def test_rings():
    mask = disc((40, 40), (20, 20), 8)
    ring = ring_mask(mask, 3, 5)
    away = np.hypot(*(np.argwhere(ring) - 20).T)
    assert away.min() > 10.5
    assert away.max() < 13.6
    points = ring_points(mask, 4, 8)
    assert len(points) == 8
    angles = np.degrees(np.arctan2(points[:, 1] - 20, -(points[:, 0] - 20))) % 360
    np.testing.assert_allclose(np.sort(angles), np.arange(8) * 45, atol=8)
    assert not len(ring_points(np.ones((5, 5), bool), 2, 4))
    # At a corner there is only a part of the ring.
    corner = disc((40, 40), (0, 0), 8)
    assert 0 < len(ring_points(corner, 4, 8)) < 8


def test_negative_supports_say_when_there_is_nothing():
    method = get_method("panet")
    rng = np.random.default_rng(0)

    def image(with_disc, seed):
        ground = np.random.default_rng(seed).uniform(0.2, 0.4, (96, 128))
        mask = disc(ground.shape, rng.uniform(30, 66, 2), 15) & with_disc
        return Sample(
            np.where(mask, 0.9, ground)[..., None].astype(np.float32),
            labels=mask.astype(np.int32),
            group=seed,
            name=str(seed),
        )

    samples = [image(True, 1), image(True, 2), image(False, 3), image(False, 4)]
    params = make_params(method.spec.params, {})
    filters = nf.load_model("filters")
    fitted = method.fit(samples, [1], params, filters, Hooks())
    assert 1 in fitted.floors
    blank, shown = image(False, 5), image(True, 6)
    assert not (fitted.predict(Plane(blank.image), Hooks())[1] >= 0.5).any()
    found = fitted.predict(Plane(shown.image), Hooks())[1] >= 0.5
    both = 2 * (found & (shown.labels == 1)).sum()
    assert both / (found.sum() + (shown.labels == 1).sum()) > 0.8


def test_a_small_part_is_not_the_whole_plane(query):
    # A faint part: lower levels soon take everything, and everything is stable.
    odds = np.full(query.grid, -0.9, np.float32)
    odds[3:6, 3:6] = 0.6
    ask = Ask(query.to_pixels([[4, 4]]), np.array([1]))
    decoder = MapDecoder()
    logits, _ = decoder.decode(query, odds, [ask], Hooks())
    assert decoder.to_grid(query, logits[0])[0].mean() < 0.5
    # Where all of the map is the class, all of the plane is the answer.
    logits, _ = decoder.decode(query, np.abs(odds) + 1, [ask], Hooks())
    assert decoder.to_grid(query, logits[0])[0].mean() == 1


def test_names_are_found_whatever_their_case():
    with pytest.raises(nf.ModelError, match="did you mean 'panet'"):
        get_method("PANet")
    with pytest.raises(nf.ModelError, match="did you mean 'filters'"):
        nf.load_model("Filtres")

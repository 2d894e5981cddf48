"""Everything mode: the masks of the reference, regions, tiles and odd images."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

import napari_fewshot as nf
from napari_fewshot.data import Embedding, Hooks
from napari_fewshot.inference._everything import checked_params, load_promptable
from napari_fewshot.methods.everything import EverythingParams, find_objects
from napari_fewshot.models import get_model_spec
from napari_fewshot.models.sam._configs import SamConfig
from napari_fewshot.models.sam._decoder import DecoderConfig
from napari_fewshot.models.sam._model import SamModel, SamNetwork
from napari_fewshot.models.sam._presets import SAM
from napari_fewshot.models.sam._vit import VitConfig
from napari_fewshot.ops.proposals import (
    Proposal,
    join,
    near_edge,
    paint,
    point_grid,
    slices,
    suppress,
    tile_boxes,
    window_of,
)
from napari_fewshot.session._everything import segment_everything

# Of the frame and of what it answers with, in pixels.
SIDE, RADII = 128, (16.0, 24.0, 36.0)


def answering(seed: int = 0) -> Sam:
    """Return Meta's SAM, small and random but for what makes it answer with blobs.

    Cells of the image attend to the token of the point near them, and the last linear
    layer of every mask is the least-squares fit of a disc around the point.
    """
    grid = SIDE // 16
    sam = Sam(
        ImageEncoderViT(
            depth=2,
            embed_dim=64,
            img_size=SIDE,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=2,
            use_rel_pos=True,
            global_attn_indexes=(1,),
            window_size=14,
        ),
        PromptEncoder(256, (grid, grid), (SIDE, SIDE), 16),
        MaskDecoder(
            transformer_dim=256, transformer=TwoWayTransformer(2, 256, 8, 2048)
        ),
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sam.state_dict().items():
            is_scale = name.endswith("weight") and tensor.ndim == 1
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(is_scale + (0.1 if is_scale else 0.04) * noise)
        attend(sam)
        shape_answers(sam, RADII)
    return sam.eval()


def attend(sam: Sam) -> None:
    """Let cells attend to the token of the point that is near them."""
    prompt, decoder = sam.prompt_encoder, sam.mask_decoder
    prompt.pe_layer.positional_encoding_gaussian_matrix.mul_(25)
    learnt = [decoder.iou_token, decoder.mask_tokens, prompt.not_a_point_embed]
    for embedding in (*learnt, *prompt.point_embeddings):
        embedding.weight.mul_(25)
    own = decoder.transformer.layers[0].self_attn
    for part in (own.q_proj, own.k_proj, own.v_proj, own.out_proj):
        part.weight.copy_(torch.eye(256))
    for layer in decoder.transformer.layers:
        cross = layer.cross_attn_image_to_token
        cross.q_proj.weight.copy_(torch.eye(256)[::2])
        cross.k_proj.weight.copy_(torch.eye(256)[::2])
        cross.out_proj.weight.mul_(4)
    sam.image_encoder.neck[3].weight.mul_(0.1)
    for number in (0, 3):
        weight = decoder.output_upscaling[number].weight
        weight.copy_(4 * weight.mean((2, 3), keepdim=True).expand_as(weight))
    decoder.iou_prediction_head.layers[-1].weight.mul_(8)


def shape_answers(sam: Sam, radii: tuple[float, ...]) -> None:
    """Fit the last layer of every mask to discs around points."""
    side, decoder, seen = sam.image_encoder.img_size, sam.mask_decoder, []
    hook = decoder.output_upscaling.register_forward_hook(
        lambda *given: seen.append(given[-1])
    )
    generator = torch.Generator().manual_seed(1)
    points = side * torch.rand(16, 1, 2, generator=generator)
    image = 0.1 * torch.randn(1, 256, side // 16, side // 16, generator=generator)
    sparse, dense = sam.prompt_encoder((points, torch.ones(16, 1)), None, None)
    decoder(image, sam.prompt_encoder.get_dense_pe(), sparse, dense, True)
    hook.remove()
    at = 4 * (torch.arange(side // 4) + 0.5)
    far = torch.hypot(at[:, None] - points[:, :, 1, None], at - points[:, :, 0, None])
    features = seen[0].permute(0, 2, 3, 1).reshape(-1, 32)
    heads = decoder.output_hypernetworks_mlps[1:]
    for number, (head, radius) in enumerate(zip(heads, radii, strict=True)):
        wanted = (12 * (1 - far / radius)).clamp(-2, 6).reshape(-1, 1)
        # What is inside counts, however small the disc.
        inside = wanted > 0
        weight = torch.where(inside, (1 / inside.float().mean() - 1) ** 0.25, 1.0)
        fitted = torch.linalg.lstsq(weight * features, weight * wanted)
        found = fitted.solution[:, 0]
        head.layers[-1].weight.mul_(0.05)
        head.layers[-1].bias.copy_(10 * found)
        decoder.iou_prediction_head.layers[-1].bias[1 + number] = 0.2


class Ours:
    """The same weights in this package, and what their image looks like."""

    def __init__(self) -> None:
        self.theirs = answering()
        network = SamNetwork(
            SamConfig(VitConfig(64, 2, 2, (1,), SIDE), DecoderConfig())
        )
        network.load_state_dict(self.theirs.state_dict())
        self.model = SamModel(network, get_model_spec("sam/vit_b"), SAM)
        self.encoded: list[tuple[int, ...]] = []

    def encode(self, pixels: np.ndarray, hooks: Hooks) -> Embedding:
        self.encoded.append(pixels.shape)
        return self.model.encode(pixels)

    def find(self, pixels, region=None, hooks=None, **params):
        made = checked_params({"predicted_iou": 0.1, "stability": 0.8, **params})
        return find_objects(self.model, self.encode, pixels, made, region, hooks)


@pytest.fixture(scope="module")
def ours():
    return Ours()


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)


def masks_of(found: list[Proposal], shape: tuple[int, int]) -> np.ndarray:
    masks = np.zeros((len(found), *shape), bool)
    for mask, proposal in zip(masks, found, strict=True):
        mask[slices(proposal.box)] = proposal.mask
    return masks


@pytest.mark.parametrize(
    ("shape", "layers"), [((120, 200), 0), ((300, 170), 0), ((120, 200), 1)]
)
def test_same_objects_as_the_reference(ours, shape, layers):
    image = picture(*shape)
    generator = SamAutomaticMaskGenerator(
        ours.theirs,
        points_per_side=10,
        pred_iou_thresh=0.1,
        stability_score_thresh=0.8,
        crop_n_layers=layers,
        crop_n_points_downscale_factor=2,
    )
    theirs = {r["segmentation"].tobytes(): r for r in generator.generate(image)}
    found = ours.find(
        image, points_per_side=10, crop_layers=layers, crop_points_factor=2
    )
    same = [
        (theirs[mask.tobytes()], proposal)
        for mask, proposal in zip(masks_of(found, shape), found, strict=True)
        if mask.tobytes() in theirs
    ]
    # A pixel whose logit is 0 to the last bit may fall on either side.
    assert len(same) >= 0.95 * max(len(found), len(theirs)) > 20
    for record, proposal in same:
        assert proposal.area == record["area"]
        assert proposal.predicted_iou == pytest.approx(
            record["predicted_iou"], abs=1e-4
        )
        assert proposal.stability == pytest.approx(record["stability_score"], abs=1e-4)
        np.testing.assert_allclose(proposal.point[::-1], record["point_coords"][0])
        y0, x0, y1, x1 = proposal.box
        assert record["bbox"] == [x0, y0, x1 - 1 - x0, y1 - 1 - y0]


def test_every_filter_drops_masks(ours):
    image = picture(120, 200)
    every = ours.find(image, points_per_side=6, stability=0.0, overlap=1.0)
    areas = [p.area for p in every]
    assert areas == sorted(areas, reverse=True)
    middle = int(np.median(areas))
    sure = float(np.median([p.predicted_iou for p in every]))
    for params, holds in (
        ({"predicted_iou": sure}, lambda p: p.predicted_iou > sure),
        ({"stability": 0.9}, lambda p: p.stability >= 0.9),
        ({"min_area": middle}, lambda p: p.area >= middle),
        ({"max_area": middle}, lambda p: p.area <= middle),
    ):
        given = {"points_per_side": 6, "stability": 0.0, "overlap": 1.0, **params}
        fewer = [p.box for p in ours.find(image, **given)]
        assert fewer == [p.box for p in every if holds(p)]
        assert 0 < len(fewer) < len(every)


def test_a_region_keeps_points_and_masks_inside(ours):
    image, region = picture(120, 200), np.zeros((120, 200), bool)
    region[20:70, 30:110] = True
    found = ours.find(image, region, points_per_side=10)
    assert found
    for mask, proposal in zip(masks_of(found, region.shape), found, strict=True):
        assert region[tuple(int(v) for v in proposal.point)]
        assert (mask & region).sum() > 0.5 * mask.sum()
    dot = np.zeros_like(region)
    dot[61:64, 71:74] = True
    asked = Recorder(ours.model)
    find_objects(
        asked, ours.encode, image, EverythingParams(points_per_side=4), dot, Hooks()
    )
    assert asked.points == [[[62.0, 72.0]]], "a region between the points has one"


class Recorder:
    """The real model; remembers what it was asked."""

    def __init__(self, model) -> None:
        self.model, self.points = model, []
        self.restore, self.spec = model.restore, model.spec
        self.batch_for = model.batch_for

    def decode(self, embedding, points):
        self.points += points.tolist()
        return self.model.decode(embedding, points=points)


def test_points_are_decoded_in_the_batches_of_the_model(ours, monkeypatch):
    sizes, decode = [], ours.model.decode
    monkeypatch.setattr(ours.model, "batch_for", lambda embedding: 5)
    monkeypatch.setattr(
        ours.model,
        "decode",
        lambda embedding, points: (
            sizes.append(len(points)) or decode(embedding, points)
        ),
    )
    ours.find(picture(120, 200), points_per_side=4)
    assert sizes == [5, 5, 5, 1]


def test_tiles_find_what_lies_in_them_and_are_encoded_one_by_one(ours):
    image = picture(150, 260)
    ours.encoded.clear()
    found = ours.find(image, points_per_side=6, tile=128)
    assert ours.encoded == [(128, 128, 3)] * 6
    assert len({p.crop for p in found}) > 3
    for one, other in pairwise(found):
        assert one.area >= other.area
    assert all(0 <= p.box[0] < p.box[2] <= 150 for p in found)
    assert all(0 <= p.box[1] < p.box[3] <= 260 for p in found)


def drawn(mask: np.ndarray, crop: tuple[int, int, int, int]) -> Proposal:
    """Return what is seen of a mask in a crop."""
    seen = np.zeros_like(mask)
    seen[slices(crop)] = mask[slices(crop)]
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    box = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
    box = tuple(int(v) for v in box)
    bits = np.packbits(seen[slices(box)])
    cut = near_edge(box, crop, mask.shape)
    return Proposal(box, bits, int(seen.sum()), 0.9, 0.9, (0.0, 0.0), crop, cut)


def test_an_object_over_four_tiles_is_joined_once():
    rows, columns = np.mgrid[:200, :200]
    disc = (rows - 101) ** 2 + (columns - 99) ** 2 < 60**2
    small = (rows - 100) ** 2 + (columns - 100) ** 2 < 9**2
    alone = (rows - 25) ** 2 + (columns - 25) ** 2 < 12**2
    tiles = tile_boxes((200, 200), 120, 40)
    assert len(tiles) == 4
    pieces = [drawn(m, t) for t in tiles for m in (disc, small)]
    joined = join([*pieces, drawn(alone, tiles[0])])
    found = sorted(joined, key=lambda p: -p.area)
    assert [p.area for p in found[:1]] == [disc.sum()]
    np.testing.assert_array_equal(masks_of(found[:1], disc.shape)[0], disc)
    assert {p.area for p in found} == {disc.sum(), small.sum(), alone.sum()}


def test_pieces_of_different_objects_stay_apart():
    upper, lower = np.zeros((2, 100, 200), bool)
    upper[10:40, 20:180], lower[50:90, 20:180] = True, True
    tiles = tile_boxes((100, 200), 120, 40)
    joined = join([drawn(m, t) for t in tiles for m in (upper, lower)])
    assert sorted(p.area for p in joined) == [upper.sum(), lower.sum()]


@pytest.mark.parametrize("shape", [(50, 50), (100, 333), (333, 100), (700, 40)])
def test_tiles_cover_everything_and_overlap(shape):
    seen = np.zeros(shape, int)
    boxes = tile_boxes(shape, 100, 20)
    for box in boxes:
        seen[slices(box)] += 1
    assert seen.min() == 1
    sides = {(b[2] - b[0], b[3] - b[1]) for b in boxes}
    assert sides == {tuple(min(100, n) for n in shape)}
    for axis in (0, 1):
        begins = sorted({b[axis] for b in boxes})
        assert all(b - a <= 80 for a, b in pairwise(begins))


@pytest.mark.parametrize("shape", [(16, 16), (16, 900), (61, 47)])
def test_outside_the_window_nothing_exceeds_the_offset(ours, shape):
    """Windows are exact: measuring only there changes nothing."""
    embedding = ours.model.encode(picture(*shape))
    logits, _ = ours.model.decode(embedding, points=point_grid(shape, 3)[:, None])
    logits = logits.reshape(-1, *logits.shape[2:])
    smaller = 0
    for low, full in zip(logits, ours.model.restore(logits, shape), strict=True):
        window = window_of(low, -1.0, shape, embedding.valid)
        outside = np.ones(shape, bool)
        if window is not None:
            outside[slices(window)] = False
        assert not (full[outside] > -1).any()
        smaller += bool(outside.any())
    assert smaller


def test_suppression_keeps_the_better_of_two_boxes():
    boxes = [(0, 0, 11, 11), (0, 0, 11, 9), (0, 0, 11, 5), (50, 50, 51, 51)]
    assert suppress(boxes, [0.5, 0.9, 0.7, 0.1], 0.7) == [1, 2, 3]
    assert suppress(boxes, [0.9, 0.9, 0.7, 0.1], 0.9) == [0, 1, 2, 3]
    assert suppress([], [], 0.7) == []


def test_small_objects_lie_over_large_ones():
    large, small = np.zeros((2, 40, 40), bool)
    large[5:35, 5:35], small[10:20, 10:20] = True, True
    crop = (0, 0, 40, 40)
    labels = paint([drawn(large, crop), drawn(small, crop)], (40, 40))
    assert (labels == 2).sum() == 100
    assert (labels == 1).sum() == 800


@pytest.mark.parametrize("shape", [(16, 16), (16, 900)])
def test_tiny_and_thin_images(ours, shape):
    asked = Recorder(ours.model)
    params = EverythingParams(8, 0.0, 0.0)
    found = find_objects(asked, ours.encode, picture(*shape), params)
    assert len(asked.points) == 64
    assert all(p.area > 0 for p in found)
    # Never more points than pixels.
    assert len(point_grid((16, 900), 32)) == 16 * 32


def test_cancelled_between_batches(ours):
    reports = []
    hooks = Hooks(reports.append, lambda: len(reports) > 3)
    with pytest.raises(nf.Cancelled):
        ours.find(picture(64, 64), hooks=hooks, points_per_side=8)
    assert reports[-1].total == 64
    assert 0 < reports[-1].done < 64


@pytest.fixture
def loaded(ours, monkeypatch):
    """Let the name sam/vit_b stand for the small weights."""
    from napari_fewshot.inference import _everything

    monkeypatch.setattr(_everything, "load_model", lambda *_: ours.model)
    few = {"points_per_side": 5, "predicted_iou": 0.1, "stability": 0.7}
    return lambda image, **more: segment_everything(
        image, "sam/vit_b", **{**few, **more}
    )


def test_a_stack_plane_by_plane(loaded):
    stack = np.random.default_rng(1).integers(0, 4000, (3, 90, 70), dtype=np.uint16)
    stack[1] = 7
    prediction = loaded(stack)
    objects = prediction.provenance["objects"]
    assert prediction.instances.shape == (3, 90, 70)
    assert not prediction.instances[1].any()
    np.testing.assert_array_equal(prediction.labels, prediction.instances > 0)
    assert [o["id"] for o in objects] == list(range(1, len(objects) + 1))
    assert {o["plane"] for o in objects} == {0, 2}
    for o in objects:
        part = prediction.instances[o["plane"]] == o["id"]
        assert part.sum() <= o["area"]
        outside = part.copy()
        outside[o["y0"] : o["y1"], o["x0"] : o["x1"]] = False
        assert not outside.any()
    assert prediction.provenance["score_kind"] == "predicted-iou"
    assert prediction.present == {1: True}
    region = np.zeros(stack.shape, bool)
    region[2, 20:80, 20:60] = True
    there = loaded(stack, region=region)
    assert {o["plane"] for o in there.provenance["objects"]} == {2}


def test_bad_input_is_refused_with_a_sentence(loaded):
    image = picture(60, 80)
    with pytest.raises(nf.PromptError, match=r"\(80, 60\).*\(60, 80\)"):
        loaded(image, region=np.ones((80, 60), bool))
    with pytest.raises(nf.PromptError, match="empty"):
        loaded(image, region=np.zeros((60, 80), bool))
    with pytest.raises(nf.DataError, match="constant"):
        loaded(np.full((60, 80), 3.0))
    with pytest.raises(TypeError, match="points_per_side"):
        loaded(image, points_per_sid=3)
    with pytest.raises(ValueError, match="tile or crop_layers"):
        loaded(image, tile=64, crop_layers=1)
    with pytest.raises(ValueError, match="64 or more"):
        loaded(image, tile=20)


def test_models_that_do_not_answer_to_points():
    for name in ("filters", "incontext/small"):
        with pytest.raises(nf.ModelError, match="sam/vit_b"):
            load_promptable(name)
    with pytest.raises(nf.WeightsError, match="models list"):
        load_promptable("auto")

"""``napari-fewshot everything``: what it writes, resumes and refuses."""

from __future__ import annotations

import csv
import json
from functools import partial

import numpy as np
import pytest
import tifffile
import torch
import typer
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

import napari_fewshot as nf
from napari_fewshot.cli._everything import everything


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """ViT-B of a 64-pixel frame in the published layout, random weights."""
    torch.manual_seed(0)
    sam = Sam(
        ImageEncoderViT(
            img_size=64,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            global_attn_indexes=(2, 5, 8, 11),
            window_size=14,
        ),
        PromptEncoder(256, (4, 4), (64, 64), 16),
        MaskDecoder(
            transformer_dim=256, transformer=TwoWayTransformer(2, 256, 8, 2048)
        ),
    )
    with torch.no_grad():
        for head in sam.mask_decoder.output_hypernetworks_mlps:
            head.layers[-1].weight.mul_(50)
        sam.mask_decoder.iou_prediction_head.layers[-1].bias.fill_(0.5)
    path = tmp_path_factory.mktemp("weights") / "sam_vit_b.pth"
    torch.save(sam.state_dict(), path)
    return path


@pytest.fixture
def call(checkpoint, tmp_path):
    def run(*images, **options):
        given = {
            "model": "sam/vit_b",
            "checkpoint": checkpoint,
            "points_per_side": 4,
            "device": "cpu",
            "param": ["predicted_iou=0.1", "stability=0.3"],
            "out": tmp_path / "out",
            **options,
        }
        with pytest.raises(typer.Exit) as stop:
            everything([str(i) for i in images], **given)
        return stop.value.exit_code

    return run


def rows(folder):
    with (folder / "out" / "objects.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        pixels = rng.integers(0, 255, (48, 60), dtype=np.uint8)
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels)
    return [tmp_path / "a.tif", tmp_path / "b.tif"]


def test_labels_objects_and_provenance(call, images, tmp_path):
    assert call(*images) == 0
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert set(record) == {"a_labels.tif", "b_labels.tif"}
    assert record["a_labels.tif"]["model"] == "sam/vit_b"
    assert record["a_labels.tif"]["params"]["points_per_side"] == 4
    assert record["a_labels.tif"]["weights_sha256"]
    found = rows(tmp_path)
    for name in "ab":
        labels = tifffile.imread(tmp_path / "out" / f"{name}_labels.tif")
        mine = [r for r in found if r["image"] == f"{name}.tif"]
        assert labels.shape == (48, 60)
        assert labels.max() == len(mine) > 0
        assert [int(r["id"]) for r in mine] == list(range(1, len(mine) + 1))

    written = (tmp_path / "out" / "a_labels.tif").stat().st_mtime_ns
    assert call(*images) == 0, "the second time nothing is left to do"
    assert (tmp_path / "out" / "a_labels.tif").stat().st_mtime_ns == written
    assert rows(tmp_path) == found
    assert call(*images, param=["predicted_iou=0.1", "min_area=2881"]) == 0
    assert (tmp_path / "out" / "a_labels.tif").stat().st_mtime_ns != written
    assert rows(tmp_path) == [], "48 x 60 pixels have no larger object"


def test_a_region_and_an_image_that_fails(call, images, tmp_path):
    region = np.zeros((48, 60), np.uint8)
    region[8:40, 5:30] = 1
    tifffile.imwrite(tmp_path / "region.tif", region)
    tifffile.imwrite(tmp_path / "flat.tif", np.full((48, 60), 9, np.uint8))
    code = call(images[0], tmp_path / "flat.tif", region=tmp_path / "region.tif")
    assert code == 3
    found = rows(tmp_path)
    assert {r["image"] for r in found} <= {"a.tif"}
    for row in found:
        assert region[int(float(row["point_y"])), int(float(row["point_x"]))]
    assert call(tmp_path / "flat.tif", out=tmp_path / "none") == 1


def test_wrong_arguments(call, images, tmp_path):
    assert call(images[0], model="filters") == 1
    with pytest.raises(nf.DataError, match="names no image"):
        call(tmp_path / "missing.tif")
    with pytest.raises(nf.DataError, match="name=value"):
        call(images[0], param=["stability"])
    with pytest.raises(TypeError, match="did you mean 'stability'"):
        call(images[0], param=["stabilty=0.5"])

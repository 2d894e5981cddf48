"""The published architectures in full, random weights, in the published layouts."""

import json

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP
from tests.models.clip import tiny

from napari_fewshot.models import load_text_model, recognise
from napari_fewshot.models.clip._makes import BIOMED_MAKE

pytestmark = pytest.mark.slow


def check(model, other, read):
    """Compare image and phrase with what open_clip gives."""
    plane = np.random.default_rng(0).integers(0, 255, (180, 240), np.uint8)
    tower = model.tower
    assert (tower.depth, tower.heads, tower.width, tower.grid) == (
        12,
        12,
        768,
        (14, 14),
    )
    phrase = ["a photo of a cell"]
    with torch.no_grad():
        x = model.prepared(plane)
        found = tower.pooled(tower.run(tower.begin(x), 0, 12))
        torch.testing.assert_close(found, other.encode_image(x), rtol=0, atol=1e-5)
        wanted = other.encode_text(read(phrase), normalize=True).numpy()
    np.testing.assert_allclose(model.encode_text(phrase), wanted, atol=1e-5)


def test_clip_vit_b_16(tmp_path):
    torch.manual_seed(0)
    other = CLIP(**open_clip.get_model_config("ViT-B-16-quickgelu")).eval()
    # Published with 16 bits.
    other.load_state_dict({k: t.half() for k, t in other.state_dict().items()})
    path = tmp_path / "open_clip_model.pt"
    torch.save(other.state_dict(), path)
    assert recognise(path) == "clip/vit_b_16"
    model = load_text_model("clip/vit_b_16", path, device="cpu")
    assert model.context_length == 77
    check(model, other, open_clip.get_tokenizer("ViT-B-16-quickgelu"))


def test_biomedclip(tmp_path):
    from transformers import BertConfig

    reader = tmp_path / "reader"
    BertConfig(vocab_size=30522).save_pretrained(reader)
    torch.manual_seed(0)
    config = json.loads(json.dumps(BIOMED_MAKE))
    config["text_cfg"] |= {"hf_model_name": str(reader), "hf_model_pretrained": False}
    other = CustomTextCLIP(**config).eval()
    # As on its page: no configuration of the BERT is beside the weights.
    folder = tmp_path / "published"
    folder.mkdir()
    tiny.write_tokenizer(folder)
    (folder / "open_clip_config.json").write_text(
        json.dumps(
            {
                "model_cfg": BIOMED_MAKE,
                "preprocess_cfg": {"mean": tiny.MEAN, "std": tiny.DEVIATION},
            }
        )
    )
    torch.save(other.state_dict(), folder / "open_clip_pytorch_model.bin")
    assert recognise(folder) == "biomedclip"
    assert recognise(folder / "open_clip_pytorch_model.bin") == "biomedclip"
    model = load_text_model("auto", folder, device="cpu")
    assert (model.spec.name, model.context_length) == ("biomedclip", 256)
    check(model, other, open_clip.get_tokenizer(f"local-dir:{folder}"))

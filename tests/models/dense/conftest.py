"""Small encoders with random weights, in the layouts in which they are published."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import napari_fewshot as nf

WIDTH, DEPTH = 64, 2


@pytest.fixture
def image():
    """A colour plane, wider than high, that fills no whole number of patches."""
    return np.random.default_rng(0).random((11, 61, 3), np.float32)


@pytest.fixture
def load():
    def load(path, name="dinov2/vits14", precision="fp32"):
        return nf.load_model(name, path, device="cpu", precision=precision)

    return load


@pytest.fixture
def write(tmp_path):
    """Return what writes tensors to a file: safetensors, or torch's format."""

    def write(state, name="weights.safetensors"):
        path = tmp_path / name
        state = {k: t.detach().clone().contiguous() for k, t in state.items()}
        if path.suffix == ".safetensors":
            save_file(state, path)
        else:
            torch.save(state, path)
        return path

    return write


@pytest.fixture
def hugging():
    """Return what makes a network of transformers, all of its numbers random."""
    transformers = pytest.importorskip("transformers")

    def hugging(kind, **more):
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(
            hidden_size=WIDTH,
            num_hidden_layers=DEPTH,
            num_attention_heads=1,
            **{"patch_size": 14, "image_size": 56, **more},
        )
        network = getattr(transformers, f"{kind}Model")(config).eval()
        for tensor in network.parameters():
            torch.nn.init.normal_(tensor, std=0.2)
        return network

    return hugging


@pytest.fixture
def dinov2(hugging, write):
    """A DINOv2 file in Hugging Face's layout."""
    return write(hugging("Dinov2").state_dict())

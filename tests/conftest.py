"""Fixtures for every test: a home of its own, no network, small real images."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path

# Two processes share the machine: each gets its own core, before torch counts them.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


# Before xdist's own, which reads the marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests together that share something dear.

    Those with windows share a screen and a worker process; those of a file what its
    fixtures make once, which two processes would make twice.
    """
    for item in items:
        if item.get_closest_marker("gui") is not None:
            item.add_marker(pytest.mark.xdist_group("windows"))
        elif _is_sharing(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    # Windows are the longest group: begun last, one process would end up waiting.
    items.sort(key=lambda item: item.get_closest_marker("gui") is None)


def _is_sharing(item: pytest.Item) -> bool:
    """Whether a test uses a fixture that its file makes once."""
    known = getattr(item, "_fixtureinfo", None)
    used = [] if known is None else known.name2fixturedefs.values()
    return any(f[-1].scope == "module" for f in used)


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory):
    """Return new folders: pytest would count all that are there before each one."""
    root = tmp_path_factory.mktemp("homes")
    return (root / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def home(homes, monkeypatch: pytest.MonkeyPatch):
    """Keep projects, caches and logs of tests away from the user's own."""
    folder = next(homes)
    folder.mkdir()
    monkeypatch.setenv("NAPARI_FEWSHOT_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch):
    """Fail any test that reaches for another machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        is_local = self.family == getattr(socket, "AF_UNIX", None) or (
            isinstance(address, tuple)
            and str(address[0]) in ("127.0.0.1", "::1", "localhost")
        )
        if not is_local:
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real images beside the checkout, or skip."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return folder


def blobs(
    seed: int, shape: tuple[int, int] = (96, 112), count: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy image (uint8) with bright discs and its labels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for _ in range(count):
        y, x = rng.uniform(8, shape[0] - 8), rng.uniform(8, shape[1] - 8)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < rng.uniform(4, 8) ** 2] = 1
    image = 60 + 90 * labels + rng.normal(0, 12, shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="session")
def blob_pair():
    """Return the maker of synthetic image-labels pairs: ``blob_pair(seed)``."""
    return blobs


@pytest.fixture(scope="session", autouse=True)
def short_practice():
    """Let the network make a few steps on supports where quality is not the question.

    `tests/models/test_tuning.py` tests the steps that users get.
    """
    from napari_fewshot.models import tuning

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "STEPS", 2)
        patch.setattr(tuning, "STEPS_PER_CLASS", 2)
        yield


@pytest.fixture(scope="session")
def tiny_sam(tmp_path_factory):
    """Return a file of SAM's layout with random weights: 128 pixels, two blocks."""
    import torch
    from segment_anything.build_sam import _build_sam
    from segment_anything.modeling import ImageEncoderViT

    sam = _build_sam(64, 2, 2, [1])
    sam.image_encoder = ImageEncoderViT(
        depth=2,
        embed_dim=64,
        img_size=128,
        mlp_ratio=4,
        norm_layer=lambda n: torch.nn.LayerNorm(n, eps=1e-6),
        num_heads=2,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=[1],
        window_size=3,
        out_chans=256,
    )
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in sam.state_dict().items():
            if tensor.dtype.is_floating_point and "pixel_" not in name:
                noise = torch.randn(tensor.shape, generator=generator)
                is_scale = name.endswith("weight") and tensor.ndim == 1
                tensor.copy_(1 + 0.1 * noise if is_scale else 0.06 * noise)
        # What spreads answers over the image: positions must count.
        matrix = sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
        matrix.mul_(25)
    path = tmp_path_factory.mktemp("weights") / "sam_vit_b_01ec64.pth"
    torch.save(sam.state_dict(), path)
    return path

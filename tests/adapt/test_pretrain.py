"""Pre-training: it learns, stops, goes on, and says what is wrong."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest
import torch

from napari_fewshot.adapt._episode import episode_loss
from napari_fewshot.adapt._prompting import (
    BOTH,
    PROMPTS_ONLY,
    SUPPORTS_ONLY,
    correct,
    first_prompts,
)
from napari_fewshot.adapt._tasks import TaskStream, draw_group
from napari_fewshot.adapt.export import export
from napari_fewshot.adapt.pretrain import (
    CHECKPOINT,
    LOG,
    Trainer,
    TrainingConfig,
    learning_rate,
    read_config,
    train,
)
from napari_fewshot.errors import DataError
from napari_fewshot.models import load_model
from napari_fewshot.models._losses import mask_loss
from napari_fewshot.models._network import InContextNetwork

SMALL = TrainingConfig(
    steps=4,
    sizes=(48,),
    tasks=(1,),
    workers=0,
    precision="fp32",
    log_every=2,
    save_every=2,
    test_every=4,
)


def test_one_batch_can_be_learnt():
    batch = draw_group(TaskStream(3, 48, 2, 4, 1), 0)[0]
    torch.manual_seed(0)
    network = InContextNetwork()
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    losses = []
    for _ in range(12):
        loss, _ = episode_loss(network, batch, torch.device("cpu"))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


def test_the_loss_of_a_perfect_answer_is_small():
    target = torch.zeros(2, 1, 32, 32)
    target[0, :, 5:20, 5:20] = 1
    perfect = (target * 2 - 1) * 12
    assert mask_loss(perfect, (), target) < 0.01
    assert mask_loss(-perfect, (), target) > 1


def test_training_stops_and_goes_on(tmp_path):
    train(SMALL, tmp_path)
    rows = list(csv.DictReader((tmp_path / LOG).read_text().splitlines()))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert all(float(row["loss"]) > 0 for row in rows)
    longer = TrainingConfig(**{**vars(SMALL), "steps": 6})
    trainer = Trainer(longer, tmp_path)
    assert trainer.step == 4
    train(longer, tmp_path)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert state["step"] == 6
    assert not list(tmp_path.glob("*.part"))


def test_exported_weights_load_and_agree(tmp_path):
    trainer = Trainer(SMALL, tmp_path)
    trainer.save()
    path = tmp_path / "out" / "weights.safetensors"
    digest = export(tmp_path / CHECKPOINT, path)
    model = load_model("incontext/small", checkpoint=path)
    assert model.sha256 == digest
    for name, value in trainer.average.state_dict().items():
        found = model.network.state_dict()[name]
        torch.testing.assert_close(found, value, rtol=2e-3, atol=1e-4)


def test_the_learning_rate_rises_stays_and_falls():
    config = TrainingConfig(steps=1000, decay=0.5, warmup=100, learning_rate=1.0)
    found = [learning_rate(config, s) for s in (0, 99, 300, 750, 999)]
    np.testing.assert_allclose(found, [0.01, 1, 1, 0.5, 0.01], atol=0.01)


def test_configuration_files(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("steps = 7\nsizes = [64, 96]\n")
    config = read_config(path)
    assert (config.steps, config.sizes) == (7, (64, 96))
    path.write_text("stepps = 7\n")
    with pytest.raises(DataError, match="stepps"):
        read_config(path)


def test_the_command_explains_itself():
    found = subprocess.run(
        [sys.executable, "-m", "napari_fewshot.adapt.pretrain", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--config" in found.stdout


def disc(centre=(24, 24), radius=9):
    rows, columns = np.mgrid[:48, :48]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2


@pytest.mark.parametrize("mode", [BOTH, PROMPTS_ONLY])
def test_simulated_prompts_are_right(mode):
    truth = disc() | disc((40, 40), 4)
    kinds = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        prompts, wanted = first_prompts(rng, truth, mode)
        assert wanted.any()
        assert not (wanted & ~truth).any()
        if mode == BOTH:
            assert (wanted == truth).all()
        kinds.add(tuple((prompts[:3] > 0).any((1, 2))))
        if prompts[0].any():
            assert (prompts[0] > 0)[wanted].any()
    assert len(kinds) >= 3


def test_supports_alone_get_no_prompts():
    prompts, wanted = first_prompts(np.random.default_rng(0), disc(), SUPPORTS_ONLY)
    assert not prompts.any()
    assert (wanted == disc()).all()


def test_corrections_go_to_the_error():
    prompts = np.zeros((5, 48, 48), np.float32)
    correct(np.random.default_rng(0), prompts, np.zeros((48, 48), bool), disc())
    assert prompts[0].any()
    assert not prompts[1].any()
    correct(np.random.default_rng(0), prompts, np.ones((48, 48), bool), disc())
    assert prompts[1].any()

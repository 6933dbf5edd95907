"""Units: clusters of an ASR model's features, written with it, and learned from lips by the tasks that want them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.asr import ASRModel
from model.checkpoint import build_network, load_checkpoint
from model.losses import unit_loss
from shards import open_dataset
from tests.train.runs import SMALL_ASR, flags, logged, task_flags, trainer_of
from train.__main__ import main
from train.tasks.units import units_of
from train.units import cluster

UNITS = 5


@pytest.fixture(scope="module")
def asr(shards: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An ASR model with units, hardly trained. Not to be changed by a test."""
    folder = tmp_path_factory.mktemp("asr")
    assert main(task_flags("asr", shards, folder / "run", steps=2, every=2)) == 0
    newest = folder / "run/checkpoints/step-00000002.pt"
    command = ["units", f"--asr={newest}", f"--shards={shards}", "--device=cpu"]
    assert main([*command, f"--out={folder}/units.pt", f"--units={UNITS}"]) == 0
    return str(folder / "units.pt")


def test_units_are_the_nearest_centroids_of_scaled_features(shards: str, asr: str) -> None:
    checkpoint = load_checkpoint(asr)
    network = build_network(checkpoint)
    assert isinstance(network, ASRModel)
    sample = next(open_dataset(shards).samples("train"))
    mel, lengths = torch.tensor(sample.mel)[None], torch.tensor([len(sample.roi)])
    found = units_of(network, mel, lengths)
    with torch.no_grad():
        features, _ = network.features_after(1, mel, 4 * lengths)
        last = network(mel, 4 * lengths).features
        scaled = (features * checkpoint.weights["unit_scale"])[0].numpy()
    assert torch.equal(features, last), "the only layer is the last"
    far = np.linalg.norm(scaled[:, None] - checkpoint.weights["unit_centroids"].numpy(), axis=2)
    assert found.shape == (1, len(sample.roi))
    assert np.array_equal(found[0].numpy(), far.argmin(axis=1))
    assert (checkpoint.kind, network.settings.units, checkpoint.training) == ("asr", UNITS, None)


def test_cluster_finds_groups_whatever_the_scale_of_a_feature() -> None:
    random = np.random.default_rng(0)
    group = random.integers(3, size=900)
    middle = np.array([[0, 0], [100, 0], [0, 0.01]])
    frames = (middle[group] + random.normal(0, (3, 0.0003), (900, 2))).astype(np.float32)
    scale, centroids = cluster(frames, 3, seed=0)
    nearest = np.linalg.norm((frames * scale)[:, None] - centroids, axis=2).argmin(axis=1)
    assert len({(ours, theirs) for ours, theirs in zip(nearest.tolist(), group.tolist(), strict=True)}) == 3
    assert np.array_equal(cluster(frames, 3, seed=0)[1], centroids), "the same ones each time"


def test_unit_loss_is_the_mean_over_valid_frames() -> None:
    torch.manual_seed(0)
    logits, units = torch.randn(2, 4, UNITS), torch.randint(UNITS, (2, 4))
    ours = unit_loss(logits, units, torch.tensor([4, 1]))
    valid = torch.cat([logits[0], logits[1, :1]]), torch.cat([units[0], units[1, :1]])
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(*valid))


@pytest.mark.parametrize("task", ["vsr", "lip2speech"])
def test_units_are_learned_and_taken_over_from_vsr(shards: str, asr: str, tmp_path: Path, task: str) -> None:
    more = [f"--network.units={UNITS}", f"--init_asr={asr}", "--splits=[val]", "--micro_batches_per_step=1"]
    more += ["--optimizer.learning_rate=0.01"]
    run = tmp_path / "run"
    assert main([*task_flags(task, shards, run, steps=40, every=40), *more, "--validation.every=40"]) == 0
    losses = [line["units"] for line in logged(run).values()]
    assert sum(losses[-5:]) / 5 < 0.8 * sum(losses[:5]) / 5
    best = run / "best.pt"
    start = flags(shards, tmp_path / "next", workers=0, init_vsr=best, init_asr=asr, **{"network.units": UNITS})
    network = trainer_of([*start, SMALL_ASR]).model.network
    kept = load_checkpoint(best).weights["unit_head.weight"]
    assert torch.equal(network.state_dict()["unit_head.weight"], kept)


def test_units_need_an_asr_model_that_has_as_many(
    shards: str, asr: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in ("vsr", "lip2speech"):
        command = task_flags(task, shards, tmp_path / "run", steps=1)
        assert main([*command, "--network.units=7"]) == 2
        assert "network.units: 7" in capsys.readouterr().err
        assert main([*command, "--network.units=7", f"--init_asr={asr}"]) == 2
        assert f"{asr}: has {UNITS} units, and network.units is 7" in capsys.readouterr().err
    assert main([*task_flags("vsr", shards, tmp_path / "run", steps=1), f"--init_asr={asr}"]) == 2
    assert "network.units" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["asr", "vocoder"])
def test_units_of_the_network_are_nothing_to_tasks_that_read_no_lips(shards: str, tmp_path: Path, task: str) -> None:
    assert main([*task_flags(task, shards, tmp_path / "run", steps=1), "--network.units=7"]) == 0


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        *(("--units=1", "--units 1"), ("--units=100000", "--units 100000"), ("--asr=none.pt", "none.pt")),
        *(("--layer=0", "unit_layer: 0"), ("--layer=2", "unit_layer: 2")),
    ],
)
def test_units_command_refuses_what_it_cannot_use(
    shards: str, asr: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, said: str
) -> None:
    command = ["units", f"--asr={asr}", f"--shards={shards}", f"--out={tmp_path / 'x.pt'}", "--device=cpu", flag]
    assert main(command) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x.pt").exists()


def test_units_command_refuses_another_network_and_too_few_frames(
    shards: str, asr: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(task_flags("vsr", shards, tmp_path / "run", steps=1, every=1)) == 0
    command = ["units", f"--shards={shards}", f"--out={tmp_path / 'x.pt'}", "--device=cpu"]
    assert main([*command, f"--asr={tmp_path}/run/best.pt"]) == 2
    assert "a network of the task vsr" in capsys.readouterr().err
    assert main([*command, f"--asr={asr}", "--units=1000"]) == 2
    assert "too few for 1000 units" in capsys.readouterr().err

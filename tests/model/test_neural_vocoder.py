"""The neural vocoder: a clip sounds the same in any batch, at the level and color of its mel, and files are checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.__main__ import main
from model.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from model.mel import MelSettings, analyzed_wave, log_mel, mel_of_analyzed
from model.synthesis import Synthesizer
from model.transforms import TransformSettings
from model.vocoders.load_vocoder import load_vocoder
from model.vocoders.mel_to_wav import mel_to_wav, undo_analysis
from model.vocoders.neural_vocoder import Vocoder, VocoderSettings
from tests.model.networks import small_asr, small_lip_to_speech, small_vocoder
from tests.model.test_griffin_lim import voice

SETTINGS = VocoderSettings(width=24, layers=2)


@pytest.fixture
def vocoder() -> Vocoder:
    torch.manual_seed(0)
    return small_vocoder()


def two_mels() -> Tensor:
    mel = log_mel(torch.stack([voice(), voice(pitch=200)]))
    mel[1, :, 61:] = 0.3
    return mel


@torch.no_grad()
def test_vocoder_gives_a_padded_clip_the_waveform_that_it_has_alone(vocoder: Vocoder) -> None:
    mel = two_mels()
    wav = vocoder(mel, torch.tensor([101, 61]))
    assert (wav.shape, wav.dtype) == ((2, 16_000), torch.float32)
    alone = vocoder(mel[1:, :, :61], torch.tensor([61]))[0]
    torch.testing.assert_close(wav[1, :9600], alone, atol=1e-5 * float(alone.abs().max()), rtol=1e-4)
    assert not wav[1, 9600:].any()
    assert alone.abs().max() > 0.01


@torch.no_grad()
def test_vocoder_makes_zeros_of_clips_without_two_frames(vocoder: Vocoder) -> None:
    wav = vocoder(two_mels()[:, :, :8], torch.tensor([0, 1]))
    assert not wav.any()


@torch.no_grad()
def test_vocoder_begins_at_the_level_and_color_of_the_mel() -> None:
    torch.manual_seed(0)
    noise = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(1))
    mel = log_mel(noise)
    untrained = Vocoder(SETTINGS)
    torch.nn.init.zeros_(untrained.spectrum.weight)  # of the phases: what is random in it is not its level
    # phases as of noise: of equal ones the frames would cancel each other
    torch.nn.init.uniform_(untrained.spectrum.bias[321:], -3, 3)
    made = mel_of_analyzed(untrained(mel, torch.tensor([101])))
    assert (made - mel[:, :, 4:-4].mean()).mean().abs() < 0.15


def test_analyzed_wave_is_what_the_mel_is_measured_on_and_undone_by_the_vocoders() -> None:
    wav = torch.stack([torch.arange(8000) * pitch / 16_000 for pitch in (200, 300)]).mul(2 * torch.pi).sin()
    lengths = torch.tensor([8000, 6400])
    analyzed = analyzed_wave(wav, lengths)
    assert analyzed.shape == (2, 8000 + 1024)
    assert torch.equal(mel_of_analyzed(analyzed[:1]), log_mel(wav[:1]))
    heard = undo_analysis(analyzed[:, 512:-512], torch.tensor([51, 41]))
    for row, samples in enumerate(lengths.tolist()):
        expected = 0.9 * wav[row, :samples] / wav[row, :samples].abs().max()
        torch.testing.assert_close(heard[row, :samples], expected, atol=1e-4, rtol=0)
        assert not heard[row, samples:].any()


def test_mel_to_wav_takes_a_vocoder_and_undoes_the_analysis(vocoder: Vocoder) -> None:
    mel, lengths = two_mels(), torch.tensor([101, 61])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wav = mel_to_wav(mel, lengths, vocoder=vocoder)
    assert not wav.requires_grad
    with torch.no_grad():
        assert torch.equal(wav, undo_analysis(vocoder(mel, lengths), lengths))
    assert wav.abs().max() <= 1
    with pytest.raises(ValueError, match=r"\(2, 79, 101\): expected \(batch, 80, "):
        mel_to_wav(mel[:, :79], vocoder=vocoder)


@torch.no_grad()
def test_vocoder_survives_the_mel_of_an_untrained_network(vocoder: Vocoder) -> None:
    mel = 3 * torch.randn(2, 80, 20, generator=torch.Generator().manual_seed(0))
    wav = mel_to_wav(mel, vocoder=vocoder)
    assert wav.isfinite().all()
    assert (wav != 0).any(dim=1).all()


def test_vocoder_takes_mels_of_another_analysis() -> None:
    mel = MelSettings(sample_rate=22_050, n_fft=512, hop_length=128, win_length=512, n_mels=40, fmax=8000.0)
    wav = voice(0.5)
    made = mel_to_wav(log_mel(wav[None], mel), vocoder=small_vocoder(mel))
    assert made.shape == (1, 8000 // 128 * 128)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"width": 0}, "width 0"),
        ({"kernel": 4}, "an odd kernel"),
        ({"mel": MelSettings(hop_length=400)}, r"mel\.hop_length 400"),
    ],
)
def test_vocoder_settings_refuse_what_no_vocoder_has(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(SETTINGS, **wrong)  # type: ignore[arg-type]


def _save(path: Path, vocoder: Vocoder, mel: MelSettings | None = None) -> Path:
    save_checkpoint(path, Checkpoint(vocoder.settings, vocoder.state_dict(), mel=mel or vocoder.settings.mel))
    return path


def test_vocoder_of_a_file_synthesizes_as_the_one_that_was_saved(vocoder: Vocoder, tmp_path: Path) -> None:
    loaded = load_vocoder(_save(tmp_path / "v.pt", vocoder))
    network = small_lip_to_speech()
    checkpoint = Checkpoint(network.settings, network.state_dict(), transforms=TransformSettings())
    synthesizer = Synthesizer.from_checkpoint(checkpoint, vocoder=loaded)
    mel, lengths = two_mels(), torch.tensor([101, 61])
    waves = synthesizer.waveforms(mel, lengths, ["a", "b"])
    assert (waves == mel_to_wav(mel, lengths, vocoder=vocoder).numpy()).all()
    other = replace(checkpoint, mel=MelSettings(fmax=7000.0))
    with pytest.raises(ValueError, match=r"vocoder of another mel: fmax 7500\.0 \(expected 7000\.0\)"):
        Synthesizer.from_checkpoint(other, vocoder=loaded)


@pytest.mark.parametrize(
    "changed",
    [{"sample_rate": 22_050}, {"hop_length": 200}, {"win_length": 800}, {"preemphasis": 0.9}, {"floor": 1e-4}],
    ids=lambda changed: next(iter(changed)),
)
def test_load_vocoder_refuses_one_of_another_mel_by_name(changed: dict[str, float], tmp_path: Path) -> None:
    (name, found), *_ = changed.items()
    path = _save(tmp_path / "v.pt", small_vocoder(replace(MelSettings(), **changed)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"v\.pt: a vocoder of another mel: {name} {found}"):
        load_vocoder(path)


def test_load_vocoder_refuses_networks_of_other_tasks_and_a_mel_that_contradicts_the_settings(tmp_path: Path) -> None:
    asr = small_asr()
    save_checkpoint(tmp_path / "asr.pt", Checkpoint(asr.settings, asr.state_dict()))
    with pytest.raises(ValueError, match=r"asr\.pt: a network of the task asr, and vocoder was expected"):
        load_vocoder(tmp_path / "asr.pt")
    path = _save(tmp_path / "v.pt", small_vocoder(), MelSettings(fmax=7000.0))
    with pytest.raises(CheckpointError, match=r"v\.pt: .*settings\.mel"):
        load_checkpoint(path)


def test_vocoder_is_described_and_exported_by_the_command(
    vocoder: Vocoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = _save(tmp_path / "v.pt", vocoder), tmp_path / "v.pt2"
    assert main(["info", str(path)]) == 0
    assert "vocoder, " in capsys.readouterr().out
    assert main(["import", str(path), "--out", str(tmp_path / "x.pt")]) == 2
    assert f"{path}: a vocoder of ours" in capsys.readouterr().err
    assert main(["export", str(path), "--out", str(out)]) == 0
    program = torch.export.load(out).module()
    mel, lengths = two_mels()[:, :, :90], torch.tensor([90, 61])
    with torch.no_grad():
        torch.testing.assert_close(
            program(mel, lengths), mel_to_wav(mel, lengths, vocoder=vocoder), atol=1e-5, rtol=1e-4
        )


@pytest.mark.slow
def test_vocoder_compiled_computes_the_same(vocoder: Vocoder) -> None:
    mel, lengths = two_mels(), torch.tensor([101, 61])
    with torch.no_grad():
        made = torch.compile(vocoder)(mel, lengths)
        torch.testing.assert_close(made, vocoder(mel, lengths), atol=1e-4, rtol=1e-3)

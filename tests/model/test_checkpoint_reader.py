"""Damaged and hostile checkpoints: refused with what was found, in little memory, and nothing of them runs."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.checkpoint import Checkpoint, CheckpointError, build_network, load_checkpoint, save_checkpoint
from model.checkpoint_reader import read_torch_file
from tests.irregular_files import a_sparse_giant
from tests.model.networks import small_asr
from tests.peak_memory import peak_kilobytes, reset_peak


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    network = small_asr()
    training = {"optimizer": {"state": {0: {"step": torch.tensor(4.0)}}}, "weights": None}
    path = tmp_path / "x.pt"
    save_checkpoint(path, Checkpoint(network.settings, network.state_dict(), step=7, training=training))
    return path


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor):
        return bool(left.dtype == right.dtype and left.shape == right.shape and torch.equal(left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(_same(left[name], right[name]) for name in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right and type(left) is type(right))


def test_read_torch_file_gives_what_torch_load_gives(checkpoint: Path, tmp_path: Path) -> None:
    assert _same(read_torch_file(checkpoint), torch.load(checkpoint))
    shared = torch.arange(12.0)
    content: dict[str, Any] = {
        "state": nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict(),  # with `_metadata`
        "types": [torch.ones(2).to(each) for each in (torch.float16, torch.bfloat16, torch.float64, torch.complex64)],
        "numbers": [torch.tensor([1, 2], dtype=each) for each in (torch.int64, torch.int32, torch.uint8, torch.bool)],
        "views": (shared[2:7], shared.view(3, 4).T, shared[0], torch.zeros(0, 4)),
        "plain": {"none": None, 3: -(2**70), "t": (1, 2, 3, 4), "f": 1.5, "b": b"\0\xff", "yes": True},
        "parameter": nn.Parameter(torch.ones(2)),
        "ordered": OrderedDict([("z", 1), ("a", "ä▅")]),
    }
    torch.save(content, tmp_path / "y.pt")
    ours, theirs = read_torch_file(tmp_path / "y.pt"), torch.load(tmp_path / "y.pt")
    assert _same(ours | {"ordered": 0, "state": 0}, theirs | {"ordered": 0, "state": 0})
    assert _same(dict(theirs["state"]), ours["state"])
    assert ours["views"][1].stride() == (1, 4)


def test_load_checkpoint_notices_a_flipped_bit_anywhere(checkpoint: Path) -> None:
    """What is flipped where nothing is read, as in the padding between members, leaves the result the same."""
    whole, expected = checkpoint.read_bytes(), read_torch_file(checkpoint)
    with zipfile.ZipFile(checkpoint) as archive:
        weights = [info.header_offset + 64 for info in archive.infolist() if "/data/" in info.filename]
        directory = archive.start_dir
    random = Random(0)
    places = [random.randrange(len(whole)) for _ in range(150)] + [
        random.randrange(directory, len(whole)) for _ in range(150)
    ]
    refused = 0
    for place in (*places, *range(0, 120, 3), *weights):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.randrange(8)
        checkpoint.write_bytes(damaged)
        try:
            assert _same(read_torch_file(checkpoint), expected), f"byte {place}"
        except ValueError:
            refused += 1
    assert refused > 150
    damaged = bytearray(whole)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        place = next(info for info in archive.infolist() if info.filename.endswith("/data/3")).header_offset
    start = place + 30 + sum(struct.unpack("<HH", whole[place + 26 : place + 30]))
    damaged[start] ^= 16
    checkpoint.write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"x\.pt: .*damaged: data/3 has the checksum [0-9a-f]{8}, and"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("cut", [1, 22, 60, 1000])
def test_load_checkpoint_notices_a_cut(checkpoint: Path, cut: int) -> None:
    whole = checkpoint.read_bytes()
    for damaged in (whole[:-cut], whole[cut:], b"\0" * cut + whole, whole + b"\0" * cut):
        checkpoint.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"x\.pt"):
            load_checkpoint(checkpoint)


def _rewritten(path: Path, change: Any, compression: int = zipfile.ZIP_STORED) -> None:
    """The zip with other bytes in its members, and the checksums that go with them."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in change(members).items():
            archive.writestr(name, content)


def test_load_checkpoint_refuses_deflated_and_doubled_members(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    _rewritten(checkpoint, lambda members: members | {"x/data/0": bytes(1 << 24)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"x\.pt: .* is compressed: [\d,]+ bytes that claim [\d,]+"):
        load_checkpoint(checkpoint)
    checkpoint.write_bytes(whole)
    with zipfile.ZipFile(checkpoint, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.infolist()[0].filename, b"other")
    with pytest.raises(CheckpointError, match=r"one member twice"):
        load_checkpoint(checkpoint)


class _Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _structure(path: Path, structure: bytes) -> None:
    """Any bytes as the `data.pkl` of an otherwise whole file."""
    torch.save({"weight": torch.zeros(1)}, path)
    _rewritten(path, lambda members: {name: structure if name.endswith(".pkl") else x for name, x in members.items()})


def _laughs() -> Any:
    content: Any = [1] * 10
    for _ in range(9):
        content = [content] * 10
    return content


def _endless() -> Any:
    content: list[Any] = []
    content.append(content)
    return content


def _encoded_again_and_again() -> bytes:
    """bytes that double with every operation: 40 of them are a terabyte."""
    start = pickle.PROTO + b"\x02c_codecs\nencode\nq\x00X\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R"
    return start + b"X\x03\x00\x00\x00hex\x86h\x00" * 40 + b"."


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        (pickle.dumps(_Call(bytearray, 1 << 36), 2), "it names __builtin__.bytearray"),
        (pickle.dumps(_Call(torch.Tensor, 1 << 36), 2), "it names torch._C.TensorBase|it names torch.Tensor"),
        (pickle.dumps(_Call(eval, "open('ran', 'w')"), 2), "it names __builtin__.eval"),
        (pickle.dumps(_Call(print, "x"), 4), "which torch.save does not write"),
        (_encoded_again_and_again(), "_codecs.encode with arguments"),
        (pickle.dumps(_laughs(), 2), "values: 1,000,001, and at most 1,000,000 is allowed"),
        (pickle.dumps(_endless(), 2), "values inside each other: 33, and at most 32 is allowed"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "remembers a value as number 2147483647"),
        (b"\x80\x02\x8e" + struct.pack("<Q", 1 << 40) + b".", "data.pkl"),
        (b"\x80\x02X\xff\xff\xff\x7fa.", "data.pkl"),
        (b"\x80\x02" + b"]" * 1_100_000 + b".", "operations of data.pkl: 1,000,001"),
        (pickle.dumps({"a\x1b[31m": 1}, 2), "no printable name"),
        (pickle.dumps({1.5: 1}, 2), "no printable name"),
        (pickle.dumps(OrderedDict(), 2)[:-1] + b"}X\x05\x00\x00\x00itemsK\x01sb.", "neither one of ours"),
        (b"\x80\x02ctorch\nFloatStorage\n}X\x04\x00\x00\x00nameK\x01sb.", "data.pkl: AttributeError|data.pkl: "),
        (b"", "data.pkl"),
        (b"\x80\x02}", "data.pkl"),
    ],
)
def test_load_checkpoint_refuses_pickles_that_torch_does_not_write(
    structure: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _structure(tmp_path / "x.pt", structure)
    reset_peak()
    before = peak_kilobytes()
    with pytest.raises(CheckpointError, match=rf"x\.pt: .*({message})"):
        load_checkpoint(tmp_path / "x.pt")
    assert peak_kilobytes() - before < 500_000
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            lambda: torch.zeros(1).expand(1 << 32),
            "head.bias: its numbers, of a storage: 4,294,967,296, and at most 1 is",
        ),
        (lambda: torch.zeros(4).half().as_strided((1 << 16, 1 << 16), (0, 0)), "head.bias: its numbers"),
        (lambda: torch.zeros(1, 1, 1, 1, 1, 1, 1, 1, 1), "head.bias: dimensions: 9, and at most 8 is allowed"),
        (lambda: torch.full((3,), float("nan")), "head.bias: 3 of 3 numbers are not finite"),
        (lambda: torch.tensor([1.0, float("-inf")]), "head.bias: 1 of 2 numbers are not finite"),
        (lambda: torch.tensor([1e300], dtype=torch.float64), "head.bias: 1 of 1 numbers are not finite"),
        (lambda: torch.zeros(3, dtype=torch.complex64), "head.bias is complex64"),
        (lambda: torch.zeros(3).to(torch.float8_e4m3fn), "refused: it names torch"),
    ],
)
def test_load_checkpoint_refuses_claims_and_numbers_by_name(checkpoint: Path, tensor: Any, message: str) -> None:
    content = torch.load(checkpoint)
    content["weights"]["head.bias"] = tensor()
    torch.save(content, checkpoint)
    with pytest.raises(CheckpointError, match=rf"x\.pt: .*{message}"):
        load_checkpoint(checkpoint)


def test_load_checkpoint_refuses_one_storage_claimed_again_and_again(checkpoint: Path) -> None:
    content, shared = torch.load(checkpoint), torch.zeros(10_000)
    content["weights"] |= {f"extra{number}": shared for number in range(100)}
    torch.save(content, checkpoint)
    with pytest.raises(CheckpointError, match=r"numbers of all tensors until here, of a file's bytes: [\d,]+, and at"):
        load_checkpoint(checkpoint)


def test_load_checkpoint_refuses_a_storage_larger_than_its_member(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "x.pt")

    def claim(members: dict[str, bytes]) -> dict[str, bytes]:  # three numbers become 2^30, in storage and shape
        billion = b"J" + struct.pack("<i", 1 << 30)
        return {name: x.replace(b"K\x03", billion) if name.endswith("pkl") else x for name, x in members.items()}

    _rewritten(tmp_path / "x.pt", claim)
    with pytest.raises(CheckpointError, match="weight: a storage that claims 1,073,741,824 numbers, and has 12 bytes"):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("head.bias", torch.zeros(31, dtype=torch.int64), "head.bias is int64 and should be float32"),
        ("norm1.num_batches_tracked", torch.tensor(1.0), "num_batches_tracked is float32 and should be int64"),
        ("norm1.running_var", torch.tensor([-1.0]), "norm1.running_var: a variance of -1.0"),
    ],
)
def test_build_network_refuses_wrongly_typed_weights_by_name(
    checkpoint: Path, name: str, tensor: Tensor, message: str
) -> None:
    content = torch.load(checkpoint)
    shape = content["weights"][name].shape
    content["weights"][name] = tensor.flatten()[0].expand(shape).contiguous()
    torch.save(content, checkpoint)
    with pytest.raises(CheckpointError, match=message):
        build_network(load_checkpoint(checkpoint), checkpoint)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("settings.vocabulary", 1 << 40, "ASRSettings.vocabulary: 1,099,511,627,776, and at most 65,536 is allowed"),
        ("settings.conformer.width", 1 << 40, "ConformerSettings.width: 1,099,511,627,776, and at most"),
        ("settings.conformer.dropout", float("nan"), "ConformerSettings.dropout: inf, and at most"),
        ("mel.n_fft", 1 << 34, "MelSettings.n_fft: 17,179,869,184, and at most 16,384 is allowed"),
        ("mel.sample_rate", -(1 << 40), "MelSettings.sample_rate"),
        ("mel.fmax", float("inf"), "MelSettings.fmax"),
        ("mel.hop_length", 0, "sizes of a mel must be positive"),
        ("mel.hop_length", 1, "n_fft <= 64 hop_length"),
        ("mel.floor", 0.0, "a floor between 0 and 1"),
        ("step", 1 << 80, "step: 1,208,925,819,614,629,174,706,176, and at most"),
        ("step", "7", "step is a str, and int was expected"),
        ("metrics", {"stoi": "x"}, "metrics.stoi is a str"),
        ("tokenizer", "x", "tokenizer is a str"),
        ("training", [1], "training is a list"),
        ("training.optimizer.state", [torch.tensor(float("nan"))], "training.optimizer.state.0: 1 of 1 numbers"),
    ],
)
def test_load_checkpoint_refuses_absurd_values(checkpoint: Path, place: str, value: Any, message: str) -> None:
    content = torch.load(checkpoint)
    *outer, last = place.split(".")
    into = content
    for name in outer:
        into = into[name]
    into[last] = value
    torch.save(content, checkpoint)
    with pytest.raises(CheckpointError, match=rf"x\.pt: .*{message}"):
        load_checkpoint(checkpoint)


def test_load_checkpoint_refuses_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    for path in (tmp_path / "pipe.pt", Path("/dev/zero")):
        with pytest.raises(CheckpointError, match=rf"{path}: a (FIFO|device), where a regular"):
            load_checkpoint(path)
    a_sparse_giant(tmp_path / "sparse.pt")
    with pytest.raises(CheckpointError, match="1,099,511,627,776 bytes, and at most 8,589,934,592 are"):
        load_checkpoint(tmp_path / "sparse.pt")
    with (tmp_path / "sparse.pt").open("r+b") as file:
        file.truncate(4 << 30)
    with pytest.raises(CheckpointError, match="mostly holes"):
        load_checkpoint(tmp_path / "sparse.pt")

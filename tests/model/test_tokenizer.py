"""Text becomes ids and text again, with the published ids of pad, bos, eos and unk."""

from __future__ import annotations

import io
import json
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from model.tokenizer import Tokenizer, train_tokenizer

GRID = """bin lay place set blue green red white at by in with a b c d e f g h i j k l m n o p q r s t u v x y z
zero one two three four five six seven eight nine again now please soon"""
WORDS = GRID.split()
"""The 51 words of the GRID corpus, whose vocabulary is as small as corpora get."""


def sentences(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=6)) for _ in range(count)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(sentences(300), 70)


def pieces_of(tokenizer: Tokenizer) -> list[str]:
    model = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model_bytes)
    return [model.id_to_piece(number) for number in range(model.get_piece_size())]


def foreign_model(**settings: Any) -> bytes:
    """A unigram model that another program trained."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences(50)), model_writer=model, vocab_size=60, minloglevel=2, **settings
    )
    return model.getvalue()


def test_tokenizer_decodes_what_it_encoded(tokenizer: Tokenizer) -> None:
    for text in sentences(50, seed=1):
        ids = tokenizer.encode(text)
        assert min(ids) > 3, "text has no control pieces in it"
        assert tokenizer.decode(ids) == text
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


def test_text_is_taken_in_lower_case(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("PLACE Blue") == tokenizer.encode("place blue")
    assert tokenizer.decode(train_tokenizer(["PLACE BLUE"]).encode("place")) != ""
    assert train_tokenizer(["PLACE Blue"]).model_bytes == train_tokenizer(["place blue"]).model_bytes


def test_control_pieces_have_the_published_ids_and_names(tokenizer: Tokenizer, reference: Path) -> None:
    expected = json.loads((reference / "e_tokens.json").read_text())
    assert pieces_of(tokenizer)[:4] == expected["first_pieces"][:4]
    model = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model_bytes)
    ids = (model.pad_id(), model.bos_id(), model.eos_id(), model.unk_id())
    assert ids == tuple(expected[name] for name in ("pad", "bos", "eos", "unk"))


def test_control_pieces_have_the_ids_of_the_method(tokenizer: Tokenizer) -> None:
    assert pieces_of(tokenizer)[:4] == ["<pad>", "<sos>", "<eos>", "<unk>"]


def test_pad_bos_and_eos_are_passed_over_in_decoding(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("place blue")
    assert tokenizer.decode([1, *ids, 2, 0, 0]) == "place blue"
    assert tokenizer.decode([0, 0, ids[0], 0, *ids[1:]]) == "place blue"


def test_unknown_character_is_unk_and_seen_in_the_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("red ж")
    assert 3 in ids
    assert "⁇" in tokenizer.decode(ids)


def test_long_text_is_cut_after_150_pieces_or_where_asked(tokenizer: Tokenizer) -> None:
    text = " ".join(["place blue"] * 200)
    whole = tokenizer.encode(text, max_pieces=None)
    assert len(whole) > 150
    assert tokenizer.encode(text) == whole[:150]
    assert tokenizer.encode(text, max_pieces=7) == whole[:7]


def test_id_beyond_the_vocabulary_is_refused(tokenizer: Tokenizer) -> None:
    for wrong in (tokenizer.vocabulary_size, -1):
        with pytest.raises(ValueError, match=rf"{wrong}.* 0 to 69"):
            tokenizer.decode([5, wrong])


def test_model_file_is_used_as_it_is(tmp_path: Path) -> None:
    content = foreign_model(pad_id=0, bos_id=1, eos_id=2, unk_id=3)
    (tmp_path / "theirs.model").write_bytes(content)
    tokenizer = Tokenizer.load(tmp_path / "theirs.model")
    assert tokenizer.model_bytes == content
    assert tokenizer.vocabulary_size == 60
    theirs = sentencepiece.SentencePieceProcessor(model_proto=content)
    for text in sentences(20, seed=2):
        assert tokenizer.encode(text) == theirs.encode(text)


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\0" * 100, b"crop_radius"])
def test_file_that_is_no_model_is_refused_by_name(tmp_path: Path, tokenizer: Tokenizer, content: bytes) -> None:
    path = tmp_path / "broken.model"
    path.write_bytes(tokenizer.model_bytes[: len(tokenizer.model_bytes) // 2] if content == b"crop_radius" else content)
    with pytest.raises(ValueError, match=r"broken\.model: not a SentencePiece model"):
        Tokenizer.load(path)


@pytest.mark.parametrize(
    ("settings", "found"), [({}, "no id"), ({"unk_id": 0, "pad_id": 3, "bos_id": 1, "eos_id": 2}, "id 3")]
)
def test_model_whose_pad_is_not_the_blank_is_refused(tmp_path: Path, settings: dict[str, Any], found: str) -> None:
    (tmp_path / "other.model").write_bytes(foreign_model(**settings))
    with pytest.raises(ValueError, match=rf"other\.model: pad has {found}, but 0 is needed"):
        Tokenizer.load(tmp_path / "other.model")


def test_missing_file_is_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.model"):
        Tokenizer.load(tmp_path / "none.model")


def test_tokenizer_is_its_bytes(tokenizer: Tokenizer) -> None:
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy == tokenizer == Tokenizer(tokenizer.model_bytes)
    assert copy.encode("place blue") == tokenizer.encode("place blue")


def test_tokenizer_trained_again_has_the_same_bytes(tokenizer: Tokenizer) -> None:
    assert train_tokenizer(iter(sentences(300)), 70).model_bytes == tokenizer.model_bytes


@pytest.mark.parametrize(("wanted", "got"), [(4000, 82), (82, 82), (60, 60), (31, 31), (30, 31), (1, 31)])
def test_vocabulary_is_as_wanted_or_as_near_as_the_text_allows(wanted: int, got: int) -> None:
    """26 letters, the space and 4 control pieces are the least; 51 words of these letters make 82 at most."""
    tokenizer = train_tokenizer(sentences(1000), wanted)
    assert tokenizer.vocabulary_size == got
    assert tokenizer.decode(tokenizer.encode("place blue at f two now")) == "place blue at f two now"


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "hello world",
        "日本語の テキスト",
        "مرحبا بالعالم",
        "žluťoučký kůň",
        "नमस्ते दुनिया",
        "it's 50% & more 🎉",
        "one\ttwo\nthree",
    ],
)
@pytest.mark.parametrize("vocabulary_size", [1, 4000])
def test_tokenizer_is_trained_on_one_sentence_in_any_language(text: str, vocabulary_size: int) -> None:
    tokenizer = train_tokenizer([text], vocabulary_size)
    assert tokenizer.decode(tokenizer.encode(text)) == " ".join(text.split())


def test_long_sentences_and_reserved_characters_are_not_skipped() -> None:
    long = "quiz " * 5000  # 25 kB; SentencePiece by itself leaves out what is longer than 4 kB
    tokenizer = train_tokenizer(["abc", long, "jk\0m", "xy▅w"])
    for text in ("quiz", "jk", "xy", "w"):
        assert 3 not in tokenizer.encode(text)


@pytest.mark.parametrize("texts", [[], [""], ["  ", "\n"], ["\u200b"], ["\0▅"]])
def test_training_refuses_no_text(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="no text"):
        train_tokenizer(texts)


def test_training_refuses_no_vocabulary() -> None:
    with pytest.raises(ValueError, match="vocabulary_size: 0"):
        train_tokenizer(["a"], 0)


def test_training_and_loading_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    Tokenizer(train_tokenizer(sentences(20)).model_bytes).encode("place")
    with pytest.raises(ValueError, match="no bytes"):
        Tokenizer(b"")
    assert capfd.readouterr() == ("", "")

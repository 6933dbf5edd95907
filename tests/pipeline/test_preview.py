"""The preview page: one safe file, which shows and plays what is stored."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import wave
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.clip import stored_mel
from pipeline.merge import merge
from pipeline.plan import Plan, ShardPlan
from pipeline.preview import draw_clips, write_preview
from runtime.images import color_map
from shards import DatasetError, Sample, SampleMeta, ShardWriter, Sidecar, SkippedClip, Store, open_dataset
from shards.format.sidecar import encode_sidecar

HALF = 11  # a lip region of 32 pixels
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 6 }}"


def sample_of(
    key: str, split: str = "train", speaker: str = "anna", text: str = "a word", frames: int = 10, **meta: Any
) -> Sample:
    """A clip whose n-th frame has the gray level 10 + 5 n, and whose sound is a quiet low tone."""
    roi = np.empty((frames, 2 * (HALF + 5), 2 * (HALF + 5)), np.uint8)
    roi[:] = (10 + 5 * np.arange(frames) % 240)[:, None, None]
    wav = (8000 * np.sin(2 * np.pi * 200 * np.arange(640 * frames) / 16_000)).astype(np.int16)
    known: dict[str, Any] = {
        "set": "main",
        "split": split,
        "speaker": speaker,
        "source": f"{key}.mp4",
        "source_sha256": "0" * 64,
        "frames": frames,
        "fps": 25,
        "crop_radius": HALF,
        "lips": [(50, 60)] * frames,
        "words": [],
        "sound": (0, 640 * frames),
        "notes": [],
    }
    return Sample(key, roi, stored_mel(wav), wav, text, SampleMeta(**(known | meta)))


def dataset_of(
    folder: Path, samples: Sequence[Sample], skipped: Sequence[SkippedClip] = (), empty: Sequence[str] = ()
) -> str:
    """A finished dataset of these samples, a shard a split, and of splits of which nothing could be built."""
    store, shards = Store(str(folder)), []
    for split in sorted({sample.meta.split for sample in samples} | set(empty)):
        name = f"{split}-000000.tar"
        with ShardWriter.create(store, name, "npy") as writer:
            for sample in samples:
                if sample.meta.split == split:
                    writer.write(sample)
        sidecar = Sidecar(
            plan="c0ffee",
            shard=name,
            split=split,
            bytes=writer.bytes,
            sha256=writer.sha256,
            rows=writer.rows,
            skipped=[],
            versions={"numpy": "2.0.0"},
        )
        store.write(name.replace(".tar", ".json"), encode_sidecar(sidecar))
        shards.append(ShardPlan(name, split, ()))
    merge(
        Plan(
            "c0ffee",
            {"dataset": "demo", "crop_radius": HALF},
            {"crop": {"crop_radius": HALF}},
            tuple(shards),
            tuple(skipped),
        ),
        store,
    )
    return str(folder)


class Page(HTMLParser):
    """Elements of a page, as (tag, attributes), and its text outside of script and style."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.source = file.read_text("utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    @property
    def policy(self) -> str:
        (policy,) = [
            meta["content"] for meta in self.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
        ]
        return policy

    def allowed(self, tag: str) -> str:
        """What a policy has to say to let in the page's own styles, or scripts, and no other."""
        contents = re.findall(rf'<{tag}(?: type="module")?>(.*?)</{tag}>', self.source, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    def all(self, tag: str, name: str | None = None) -> list[dict[str, str]]:
        """Attributes of every element of this tag, with this class where one is given."""
        return [found for kind, found in self.elements if kind == tag and name in (None, found.get("class"))]


def content_of(uri: str) -> io.BytesIO:
    return io.BytesIO(base64.b64decode(uri.partition(";base64,")[2], validate=True))


def picture_of(uri: str) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(content_of(uri)).convert("RGB")).astype(int)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pages" / "deep" / "page.html"


def many(tmp_path: Path) -> str:
    """Two splits: train with 12 clips of anna and 2 of bob, test with 3 of carl."""
    samples = [sample_of(f"main/anna/{number:02d}") for number in range(12)]
    samples += [sample_of(f"main/bob/{number:02d}", speaker="bob") for number in range(2)]
    samples += [sample_of(f"main/carl/{number:02d}", split="test", speaker="carl") for number in range(3)]
    return dataset_of(tmp_path / "set", samples)


def test_preview_is_one_file_that_refers_to_nothing_outside_itself(tmp_path: Path, file: Path) -> None:
    assert write_preview(many(tmp_path), file, n=4) == 4
    page = Page(file)
    assert [path.name for path in file.parent.iterdir()] == ["page.html"]
    assert "://" not in page.source
    assert "url(" not in page.source
    assert "@import" not in page.source
    references = [
        found[name]
        for _, found in page.elements
        for name in ("src", "srcset", "href", "poster", "action", "data-sheet")
        if name in found
    ]
    assert len(references) > 4 * 5
    assert all(reference.startswith(("data:", "#split-")) for reference in references)


def test_preview_policy_lets_its_own_script_run_and_nothing_be_fetched(tmp_path: Path, file: Path) -> None:
    write_preview(many(tmp_path), file, n=1)
    page = Page(file)
    assert f"; style-src {page.allowed('style')};" in page.policy
    assert f"; script-src {page.allowed('script')};" in page.policy
    assert page.policy.startswith("default-src 'none'; img-src data:; media-src data:;")


def test_preview_draws_clips_from_splits_and_speakers_in_turn(tmp_path: Path, file: Path) -> None:
    url = many(tmp_path)
    drawn = draw_clips(open_dataset(url), 8, None, seed=3)
    assert list(drawn) == ["test", "train"]
    speakers = [key.split("/")[1] for key in drawn["train"]]
    assert len(drawn["test"]) == 3
    assert sorted(speakers) == ["anna", "anna", "anna", "bob", "bob"]
    assert write_preview(url, file, n=8, seed=3) == 8
    page = Page(file)
    assert len(page.all("article")) == 8
    assert all(key in page.text for keys in drawn.values() for key in keys)


def test_preview_shows_a_small_dataset_whole(tmp_path: Path, file: Path) -> None:
    url = many(tmp_path)
    assert write_preview(url, file, n=1000) == 17
    assert write_preview(url, file, n=1000, split="test") == 3
    assert "train-000000" not in Page(file).text
    assert len(Page(file).all("h2")) == 1


def test_preview_of_the_same_seed_is_the_same_page_and_of_another_seed_other_clips(tmp_path: Path) -> None:
    url = many(tmp_path)
    pages = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_preview(url, tmp_path / name, n=4, seed=seed)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]
    assert draw_clips(open_dataset(url), 4, None, 0) != draw_clips(open_dataset(url), 4, None, 1)
    assert pages[0] != pages[2]


def test_preview_shows_whatever_a_dataset_holds_as_text(tmp_path: Path, file: Path) -> None:
    plain = sample_of("main/x/1", words=[("word", 0.0, 0.2)], notes=["a note", "another"])
    key = "main/" + re.sub(r"[\s.]", "", HOSTILE).replace("/", "")
    hostile = sample_of(
        key, text=HOSTILE, speaker=HOSTILE, source=HOSTILE, words=[(HOSTILE, 0.0, 0.2)], notes=[HOSTILE, "another"]
    )
    write_preview(dataset_of(tmp_path / "plain", [plain]), tmp_path / "plain.html")
    url = dataset_of(tmp_path / "hostile", [hostile])
    write_preview(url, file)
    page = Page(file)
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in Page(tmp_path / "plain.html").elements]
    assert not any(name.startswith("on") for _, found in page.elements for name in found)
    assert page.text.count(HOSTILE) == 5  # transcript, speaker, source, word and note
    assert key in page.text


def test_preview_refuses_half_a_character_by_its_clip(tmp_path: Path, file: Path) -> None:
    url = dataset_of(tmp_path / "set", [sample_of("main/x/1", notes=["@@@@@@"])])
    tar = tmp_path / "set" / "train-000000.tar"
    tar.write_bytes(tar.read_bytes().replace(b"@@@@@@", rb"\ud800"))  # JSON can hold it, UTF-8 not
    with pytest.raises(DatasetError, match=r"main/x/1\.json"):
        write_preview(url, file)


def test_preview_plays_the_stored_sound(tmp_path: Path, file: Path) -> None:
    sample = sample_of("main/x/1")
    write_preview(dataset_of(tmp_path / "set", [sample]), file)
    (audio,) = Page(file).all("audio")
    assert audio["src"].startswith("data:audio/wav;base64,")
    assert "controls" in audio
    with wave.open(content_of(audio["src"])) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (16_000, 1, 2)
        np.testing.assert_array_equal(np.frombuffer(wav.readframes(wav.getnframes()), "<i2"), sample.wav)


def test_preview_sheet_holds_every_frame_in_reading_order(tmp_path: Path, file: Path) -> None:
    write_preview(dataset_of(tmp_path / "set", [sample_of("main/x/1", frames=23)]), file)
    page = Page(file)
    ((canvas,), (article,)) = page.all("canvas"), page.all("article")
    tile, columns = int(article["data-tile"]), int(article["data-columns"])
    sheet = picture_of(canvas["data-sheet"])[:, :, 0]
    assert (article["data-frames"], article["data-fps"]) == ("23", "25")
    assert sheet.shape == (3 * tile, columns * tile)
    for frame in range(23):
        row, column = divmod(frame, columns)
        shown = sheet[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
        # a level is 5 apart from its neighbors; JPEG of even tiles is exact to its rounding
        assert np.abs(shown - (10 + 5 * frame)).max() <= 1


def test_preview_strip_shows_the_middle_frame_of_each_stretch_of_time(tmp_path: Path, file: Path) -> None:
    write_preview(dataset_of(tmp_path / "set", [sample_of("main/x/1", frames=36)]), file)
    page = Page(file)
    strip = picture_of(page.all("img", "strip")[0]["src"])[:, :, 0]
    levels = [int(part.mean().round()) for part in np.split(strip, 12, axis=1)]
    assert levels == [10 + 5 * (3 * part + 1) for part in range(12)]
    narrow = picture_of(page.all("source")[0]["srcset"])[:, :, 0]
    assert [int(part.mean().round()) for part in np.split(narrow, 6, axis=1)] == [
        10 + 5 * (6 * part + 3) for part in range(6)
    ]


def test_preview_draws_a_mel_with_low_frequencies_at_the_bottom(tmp_path: Path, file: Path) -> None:
    sample = sample_of("main/x/1")
    write_preview(dataset_of(tmp_path / "set", [sample]), file)
    mel = picture_of(Page(file).all("img", "mel")[0]["src"])
    assert mel.shape == (80, 40, 3)
    expected = color_map()[((sample.mel.clip(-1, 1) + 1) * 127.5).round().astype(int)]
    np.testing.assert_array_equal(mel[::-1], expected)
    assert mel[:, 20].sum(axis=1).argmax() > 70  # the tone of 200 Hz lies in one of the lowest bands


def test_color_map_grows_lighter_throughout() -> None:
    linear = (color_map() / 255.0) ** 2.2  # near enough to sRGB for an order
    assert (np.diff(linear @ [0.2126, 0.7152, 0.0722]) > 0).all()


def test_preview_puts_words_at_their_times_and_shows_no_impossible_ones(tmp_path: Path, file: Path) -> None:
    words = [
        ("one", 0.1, 0.2),
        ("two", 0.2, 9.0),
        ("later", 5.0, 6.0),
    ]
    write_preview(dataset_of(tmp_path / "set", [sample_of("main/x/1", words=words)]), file)
    shown = Page(file).all("li", "word")
    assert [word["style"] for word in shown] == [
        "left: 25.000%; width: 25.000%; top: 0.0em",
        "left: 50.000%; width: 50.000%; top: 1.5em",
    ]
    assert [word["title"] for word in shown] == ["one: 0.10 to 0.20 s", "two: 0.20 to 0.40 s"]


def test_preview_shows_the_beginning_of_a_long_clip_and_notes_it(tmp_path: Path, file: Path) -> None:
    sample = sample_of("main/x/1", frames=200)
    write_preview(dataset_of(tmp_path / "set", [sample]), file)
    page = Page(file)
    assert "the first 6.4 of 8.0 s are shown" in page.text
    assert page.all("article")[0]["data-frames"] == "160"
    assert picture_of(page.all("img", "mel")[0]["src"]).shape == (80, 640, 3)
    with wave.open(content_of(page.all("audio")[0]["src"])) as wav:
        np.testing.assert_array_equal(np.frombuffer(wav.readframes(160 * 640), "<i2"), sample.wav[: 160 * 640])


def test_preview_head_describes_the_dataset(tmp_path: Path, file: Path) -> None:
    skipped = [
        SkippedClip("main/z/0", "train", "z.mp4", "decode", "video_short", ""),
        SkippedClip("main/z/1", "train", "z.mp4", "sound", "sound_silent", ""),
        SkippedClip("main/z/2", "train", "z.mp4", "sound", "sound_silent", ""),
    ]
    sample = sample_of("main/x/1", notes=["3 frames were mended"], sound=(1600, 6400), text="")
    write_preview(dataset_of(tmp_path / "set", [sample], skipped, empty=["val"]), file)
    text = Page(file).text
    for part in (
        "set",
        "c0ffee",
        "3 clips: sound_silent 2 , video_short 1",
        "numpy 2.0.0",
        "1 of 1 clips",
        "val 0 0.000 0 0",
        "no transcript",
    ):
        assert part in text
    assert "3 frames were mended" in text
    assert "the source has sound from 0.10 to 0.40 s; silence was put around it" in text


def test_preview_refuses_what_it_cannot_show_or_write(tmp_path: Path, file: Path) -> None:
    url = many(tmp_path)
    empty = dataset_of(tmp_path / "empty", [], empty=["train"])
    with pytest.raises(ValueError, match="n: 0"):
        write_preview(url, file, n=0)
    with pytest.raises(DatasetError, match=r"'pretrain'.*test, train"):
        write_preview(url, file, split="pretrain")
    with pytest.raises(ValueError, match="empty: "):
        write_preview(empty, file)
    with pytest.raises(DatasetError, match=r"manifest\.json: no manifest"):
        write_preview(str(tmp_path / "nowhere"), file)
    with pytest.raises(ValueError, match="is a folder"):
        write_preview(url, tmp_path)
    (tmp_path / "taken").touch()
    with pytest.raises(ValueError, match="taken"):
        write_preview(url, tmp_path / "taken" / "page.html")
    assert not file.exists()


def test_preview_that_fails_leaves_the_former_page_as_it_was(tmp_path: Path, file: Path) -> None:
    url = many(tmp_path)
    write_preview(url, file, n=2)
    former = file.read_bytes()
    (tmp_path / "set" / "train-000000.tar").unlink()
    with pytest.raises(DatasetError, match=r"train-000000\.tar: "):
        write_preview(url, file, n=17)
    assert file.read_bytes() == former
    assert [path.name for path in file.parent.iterdir()] == ["page.html"]

"""The page as a server: files in, speech out, bounds kept, strangers kept out, and nothing left behind."""

from __future__ import annotations

import http.client
import io
import os
import re
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from eval.__main__ import main
from eval.synthesize.mux import COMMENT
from tests.corpora import click_track, pictures, write_video
from tests.eval.page_server import Server, Visitor, page_server
from tests.eval.small import small_checkpoint, spoken_clip
from tests.faces import talking_face
from tests.processes import descendants, wait_for
from tests.shards.datasets import write_dataset

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.pt")


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face of 1.2 s, with sound."""
    return write_video(tmp_path_factory.mktemp("videos") / "talking.mp4", talking_face(0, 30)[0], click_track(1.2, 0.5))


@pytest.fixture(scope="module")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    dataset = tmp_path_factory.mktemp("dataset")
    clips = [spoken_clip(f"main/{speaker}/{number}", "train", 40) for speaker in "ab" for number in range(2)]
    write_dataset(str(dataset), {"train-000000.tar": clips})
    bounds = ["--max-mb", "1", "--max-seconds", "3", "--shards", str(dataset)]
    with page_server(checkpoint, tmp_path_factory.mktemp("page"), *bounds) as server:
        yield server


def live_pictures(frames: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], first: int = 0) -> bytes:
    """What the page sends in live mode."""
    content = b""
    for number, frame in enumerate(frames, first):
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=90)
        content += struct.pack("<II", 40 * number, buffer.tell()) + buffer.getvalue()
    return content


def test_page_speaks_a_video_and_forgets_it(server: Server, talking: Path, tmp_path: Path) -> None:
    with Visitor(server) as visitor:
        job = visitor.speak(talking)
        assert job["state"] == "done", job.get("error")
        assert list(job["seconds"]) == ["decoding", "finding lips", "network", "vocoder", "picture", "scores"]
        assert (job["frames"], len(job["squares"]), job["size"]) == (30, 30, [160, 160])
        assert [row[0] for row in job["scores"]] == ["STOI", "ESTOI", "PESQ"]
        made = {}
        for name in ("speech.mp4", "speech.wav", "original.wav", "mel.png", "lips-0.jpg"):
            status, made[name], _ = server.ask("GET", f"/visits/{visitor.visit}/results/{job['id']}/{name}")
            assert status == 200, name
            (tmp_path / name).write_bytes(made[name])
        with av.open(str(tmp_path / "speech.mp4")) as container:
            assert container.metadata["comment"] == COMMENT
        assert COMMENT.encode() in made["speech.wav"]
        assert soundfile.info(tmp_path / "speech.wav").duration == pytest.approx(1.19)
        assert soundfile.info(tmp_path / "original.wav").duration == pytest.approx(1.2)
        assert Image.open(tmp_path / "mel.png").size == (120, 80)
        assert Image.open(tmp_path / "lips-0.jpg").size == (960, 288)
        assert "talking.mp4" not in server.files(), "the upload went with the job"
        assert server.ask("GET", f"/visits/{visitor.visit}/results/{job['id']}/../lock")[0] == 404
        assert visitor.ask("POST", "leave") == {}
        assert server.files() == []
        assert "this page was left" in visitor.ask("DELETE", "job")


def test_page_says_what_is_wrong_as_the_command_line_does(server: Server, talking: Path, tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", talking_face(0, 20)[0], None)
    faceless = write_video(tmp_path / "faceless.mp4", pictures(20), click_track(0.8, 0.2))
    long = write_video(tmp_path / "long.mp4", pictures(80), click_track(3.2, 0.2))
    (tmp_path / "page.mp4").write_bytes(b"<html>" * 99)
    (tmp_path / "none.mp4").write_bytes(b"")
    (tmp_path / "large.mp4").write_bytes(bytes((1 << 20) + 1))
    with Visitor(server) as visitor:
        assert visitor.start() == "no video was sent"
        assert visitor.send(tmp_path / "none.mp4") == "none.mp4: the file has no bytes"
        assert visitor.send(tmp_path / "large.mp4") == "large.mp4: larger than 1 MB, which is the most (--max-mb)"
        assert visitor.speak(silent)["error"].startswith("silent.mp4: it has no sound for a speaker reference")
        assert visitor.speak(faceless)["error"].startswith("faceless.mp4: no face was found: --lip-box")
        assert visitor.speak(tmp_path / "page.mp4")["error"].startswith("page.mp4: not a video that can be read")
        assert visitor.speak(long)["error"] == (
            "long.mp4: 3.2 s, and 3 s at most are synthesized at once: cut it into parts"
        )
        visitor.send(talking)
        assert visitor.start(voice="../../etc/passwd") == "there is no such voice"
        assert visitor.start(voice="file") == "no file with a voice was sent"
        assert visitor.speak(talking)["state"] == "done", "the page goes on"


def test_page_takes_a_voice_from_another_file(server: Server, talking: Path, tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", talking_face(0, 20)[0], None)
    soundfile.write(tmp_path / "voice.wav", click_track(1.0, 0.2), 16_000)
    with Visitor(server) as visitor:
        visitor.send(tmp_path / "voice.wav", "voice", "../../a voice.wav")
        for _ in range(2):  # it stays for the next job
            job = visitor.speak(silent, voice="file")
            assert (job["state"], "scores" in job) == ("done", False)


def test_page_offers_the_speakers_of_the_dataset_as_voices(server: Server, tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", talking_face(0, 20)[0], None)
    page = server.ask("GET", "/")[1].decode()
    assert re.findall(r'<option value="(voice-\d\.wav)">(\w)</option>', page) == [
        ("voice-0.wav", "a"),
        ("voice-1.wav", "b"),
    ]
    with Visitor(server) as visitor:
        assert visitor.speak(silent, voice="voice-1.wav")["state"] == "done"
        assert visitor.start(voice="voice-2.wav") == "there is no such voice"


def test_page_speaks_live_while_pictures_come(server: Server, talking: Path) -> None:
    frames = talking_face(0, 30)[0]
    with Visitor(server) as visitor:
        assert visitor.start(live=True).startswith("live: pictures alone have no sound")
        visitor.send(talking, "voice")
        visitor.start(live=True, voice="file")
        for first in (0, 10, 20):
            end = "?end" if first == 20 else ""
            visitor.ask("POST", f"pictures{end}", live_pictures(frames[first : first + 10], first))
        job = visitor.until("done", "failed")
        assert (job["state"], job["live"], job["frames"]) == ("done", True, 30), job.get("error")
        assert set(job["after"]) == {"decoding", "finding lips", "network", "vocoder"}
        assert server.ask("GET", f"/visits/{visitor.visit}/results/{job['id']}/speech.wav")[0] == 200
        assert visitor.ask("POST", "pictures", b"") == "live: nobody listens"
        for broken, message in (
            (b"abc", "live: pictures were cut"),
            (struct.pack("<II", 0, 9) + b"x" * 9, "not a JPEG"),
        ):
            visitor.start(live=True, voice="file")
            visitor.ask("POST", "pictures?end", broken)
            assert message in visitor.until("failed")["error"]


def test_page_tells_a_second_visitor_his_place(server: Server, talking: Path) -> None:
    with Visitor(server) as first, Visitor(server) as second:
        first.send(talking, "voice")
        first.start(live=True, voice="file")  # it works, and waits for pictures
        first.until("working")
        second.send(talking)
        second.start()
        assert second.until("waiting")["before"] == 1
        first.ask("DELETE", "job")
        assert second.until("done", "failed")["state"] == "done"


def test_page_forgets_a_visitor_who_leaves_while_it_works(server: Server, talking: Path) -> None:
    with Visitor(server) as visitor, Visitor(server) as next_one:
        visitor.send(talking, "voice")
        visitor.start(live=True, voice="file")
        visitor.until("working")
        visitor.ask("POST", "leave")
        wait_for(lambda: not (server.folder / visitor.visit).exists(), "his folder to go")
        assert next_one.speak(talking)["state"] == "done"
        assert not (server.folder / visitor.visit).exists()


@pytest.mark.slow
def test_page_outlives_a_worker_that_is_killed(server: Server, talking: Path) -> None:
    with Visitor(server) as visitor:
        visitor.send(talking, "voice")
        visitor.start(live=True, voice="file")
        next(job for job in visitor.news() if job and job.get("listening"))
        for pid in descendants(server.process.pid):
            if b"eval.serve.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        assert visitor.until("failed")["error"] == "live: the process that worked on it ended: SIGKILL"
        assert visitor.speak(talking)["state"] == "done"
    assert len(list(server.folder.glob("worker-*"))) == 1, "the other's temporary folder went with it"


def test_page_answers_to_its_own_name_and_its_own_pages_only(server: Server) -> None:
    assert server.ask("GET", "/", headers={"Host": "evil.example"})[0] == 421
    assert server.ask("GET", "/", headers={"Host": f"evil.example:{server.port}"})[0] == 421
    assert server.ask("GET", "/", headers={"Host": f"localhost:{server.port}"})[0] == 200
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        assert server.ask("POST", "/visits", headers=headers)[0] == 403
    status, _, answer = server.ask("GET", "/")
    policy = answer.headers["Content-Security-Policy"]
    assert (status, "unsafe" in policy, policy.startswith("default-src 'none'")) == (200, False, True)
    assert server.ask("GET", "/assets/../settings.py")[0] == 404


@pytest.mark.slow
def test_page_for_other_machines_needs_its_token(checkpoint: Path, tmp_path: Path) -> None:
    with page_server(checkpoint, tmp_path / "page", "--host", "0.0.0.0") as server:
        assert server.token is not None
        assert server.ask("GET", "/")[0] == 401
        assert server.ask("GET", "/?token=wrong")[0] == 401
        assert server.ask("POST", "/visits", headers={"Cookie": "lip-to-speech=wrong"})[0] == 401
        status, _, answer = server.ask("GET", f"/?token={server.token}")
        cookie = answer.headers["Set-Cookie"]
        assert (status, "HttpOnly" in cookie, "SameSite=Strict" in cookie) == (200, True, True)
        assert server.ask("POST", "/visits", headers={"Cookie": cookie.partition(";")[0]})[0] == 200
        assert server.ask("GET", f"/?token={server.token}", headers={"Host": "evil.example"})[0] == 421


@pytest.mark.slow
def test_page_ends_a_job_that_takes_too_long_and_refuses_more_than_may_wait(
    checkpoint: Path, talking: Path, tmp_path: Path
) -> None:
    with (
        page_server(checkpoint, tmp_path / "page", "--job-timeout", "3", "--max-waiting", "1") as server,
        Visitor(server) as first,
        Visitor(server) as second,
        Visitor(server) as third,
    ):
        first.send(talking, "voice")
        first.start(live=True, voice="file")
        first.until("working")
        for visitor in (second, third):
            visitor.send(talking)
        second.start()
        assert third.start() == "1 clips wait already, which is the most: try again later"
        assert first.until("failed")["error"] == "live: it took more than 3 s, which is the most"


@pytest.mark.slow
@pytest.mark.parametrize("everything", [False, True])
def test_page_that_is_killed_leaves_no_file_and_no_process(
    checkpoint: Path, talking: Path, tmp_path: Path, everything: bool
) -> None:
    """The server alone, by its id; or all that it has started with it, after which the next server cleans up."""
    with page_server(checkpoint, tmp_path / "page") as server, Visitor(server) as visitor:
        visitor.send(talking, "voice")
        visitor.start(live=True, voice="file")
        visitor.until("working")
        visitor.send(talking)
        folder, pids = server.folder, descendants(server.process.pid)
        assert len(server.files()) == 2
        for pid in [server.process.pid, *(pids if everything else ())]:
            os.kill(pid, signal.SIGKILL)
        server.process.wait(30)
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "its processes to end")
        if everything:
            os.utime(folder, (0, 0))  # it is not about to be used
            with page_server(checkpoint, tmp_path / "page"):
                assert not folder.exists()
        wait_for(lambda: not folder.exists(), "the folder to go")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_page_that_is_stopped_says_nothing_while_it_is_open_somewhere(
    checkpoint: Path, talking: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """With a job under way and a file coming in."""
    with page_server(checkpoint, tmp_path / "page") as server, Visitor(server) as visitor, Visitor(server) as other:
        visitor.send(talking, "voice")
        visitor.start(live=True, voice="file")
        visitor.until("working")
        coming = http.client.HTTPConnection("127.0.0.1", server.port)
        coming.putrequest("PUT", f"/visits/{other.visit}/files/video?name=talking.mp4")
        coming.putheader("Content-Length", "100000")
        coming.endheaders(bytes(1000))
        wait_for(lambda: any(name.startswith("talking") for name in server.files()), "the file to come in")
        pids = descendants(server.process.pid)
        server.process.send_signal(number)
        assert server.process.stdout is not None
        assert server.process.stdout.read().strip() == ""
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "its processes to end")
        coming.close()


def test_serve_names_what_is_wrong(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.pt").write_bytes(b"hello")
    for arguments, message in (
        (["--checkpoint", str(tmp_path / "x.pt"), "--port", "0"], "x.pt: not a checkpoint"),
        (["--checkpoint", str(checkpoint), "--host", "203.0.113.1", "--port", "0"], "--host 203.0.113.1 --port 0"),
        (["--checkpoint", str(checkpoint), "--max-mb", "0"], "max_mb: 0, and 1 to 4,096 was expected"),
        (["--checkpoint", str(checkpoint), "--host", "a b"], "host: 'a b', and an address or a name"),
        (["--checkpoint", str(checkpoint), "--shards", "nosuch", "--port", "0"], "nosuch"),
    ):
        assert main(["serve", *arguments]) == 2
        assert message in capsys.readouterr().err

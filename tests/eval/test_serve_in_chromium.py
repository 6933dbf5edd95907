"""The page in a real browser with a camera that shows a drawn face: record, wait, play, download, speak live."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from eval.synthesize.mux import COMMENT
from eval.synthesize.video_info import probe_video
from tests.corpora import click_track, pictures, write_video
from tests.eval.browser import Opened, chromium, opened
from tests.eval.page_server import Server, Visitor, page_server
from tests.eval.small import small_checkpoint
from tests.faces import on_canvas, talking_face
from tests.processes import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def talking(folder: Path) -> Path:
    return write_video(folder / "talking.mp4", talking_face(0, 30)[0], click_track(1.2, 0.5))


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    checkpoint = small_checkpoint(folder / "best.pt")
    with page_server(checkpoint, folder / "temporary", "--max-seconds", "30") as server:
        yield server


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Browser]:
    """Its camera shows three seconds of a face, again and again; its microphone beeps."""
    camera = folder / "camera.mjpeg"
    with camera.open("wb") as file:
        for frame in on_canvas(talking_face(0, 75)[0], 640, 480, 80, 0, 480):
            Image.fromarray(frame).save(file, "JPEG", quality=90)
    with chromium(
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    ) as browser:
        yield browser


def until(view: Opened, condition: Callable[[], Any], what: str) -> None:
    """Wait; the page's policy lets nobody wait inside of it."""

    def asked() -> Any:
        view.page.wait_for_timeout(20)  # its events are only taken in meanwhile
        return condition()

    wait_for(asked, what, 60)


def until_done(view: Opened) -> None:
    def over() -> bool:
        return view.page.inner_text("#status").startswith("Done") or view.page.is_visible("#error")

    until(view, over, "the job to be done")
    assert not view.page.is_visible("#error"), view.page.inner_text("#error")


def plays(view: Opened, player: str) -> bool:
    found: bool = view.page.evaluate(f"document.querySelector('{player}').currentTime > 0.1")
    return found


def downloaded(view: Opened, link: str, folder: Path) -> Path:
    with view.page.expect_download() as found:
        view.page.click(link)
    path = folder / found.value.suggested_filename
    shutil.copy(found.value.path(), path)
    return path


def test_page_speaks_a_file_in_chromium(browser: Browser, server: Server, talking: Path, tmp_path: Path) -> None:
    with opened(browser, server.address) as view:
        page = view.page
        assert page.is_disabled("#go")
        page.set_input_files("#video", talking)
        page.click("#go")
        until_done(view)
        parts = page.inner_text("#parts").replace("\n", " ")
        for part in ("Decoding", "Finding lips", "Network", "Vocoder", "Writing the video", "Scores"):
            assert part in parts
        assert page.locator("#scores tbody tr").count() == 3
        page.evaluate("document.querySelector('#spoken').play()")
        until(view, lambda: plays(view, "#spoken"), "the speech to play")
        left, width = page.evaluate(
            "(({left, width}) => [left, width].map(parseFloat))(document.querySelector('#square').style)"
        )
        assert (20 < left < 50, 30 < width < 60) == (True, True), "in percent of the picture"
        ink = "[...document.querySelector('#lips').getContext('2d').getImageData(0, 0, 96, 96).data]"
        assert np.std(page.evaluate(ink)[::4]) > 10, "the lips are drawn"
        assert page.evaluate("document.querySelector('#mel').naturalWidth") == 120
        wait_for(
            lambda: float(page.evaluate("parseFloat(document.querySelector('#line').style.left) || 0")) > 5, "line"
        )
        page.evaluate("document.querySelector('#original').play()")
        until(view, lambda: plays(view, "#original"), "the original to play")
        assert page.evaluate("document.querySelector('#spoken').paused")
        assert COMMENT.encode() in downloaded(view, "#wav", tmp_path).read_bytes()
        video = downloaded(view, "#mp4", tmp_path)
        assert (probe_video(video).width, COMMENT.encode() in video.read_bytes()) == (160, True)
        assert view.wrong == []
    wait_for(lambda: server.files() == [], "the files of the closed page to go")


def test_page_takes_a_dropped_file_and_says_what_is_wrong_with_it(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    faceless = write_video(tmp_path / "faceless.mp4", pictures(20), click_track(0.8, 0.2))
    drop = """([name, content]) => {
      const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
      const given = new DataTransfer();
      given.items.add(new File([bytes], name, { type: "video/mp4" }));
      document.querySelector("#drop").dispatchEvent(new DragEvent("drop", { dataTransfer: given, bubbles: true }));
    }"""
    with opened(browser, server.address) as view:
        for name, content, message in (
            ("faceless.mp4", faceless.read_bytes(), "faceless.mp4: no face was found: --lip-box"),
            ("<b>.mp4", b"<html>" * 99, "_b_.mp4: not a video that can be read"),
        ):
            view.page.evaluate(drop, [name, base64.b64encode(content).decode()])
            assert name in view.page.inner_text("#chosen")
            view.page.click("#go")
            until(view, lambda: view.page.is_visible("#error"), "the error")
            assert message in view.page.inner_text("#error")
            assert not view.page.is_visible("#result")
            assert view.page.is_enabled("#go")
        assert view.wrong == []


@pytest.mark.slow
def test_page_records_with_the_camera(browser: Browser, server: Server) -> None:
    with opened(browser, server.address, permissions=["camera", "microphone"]) as view:
        page = view.page
        page.check("input[value=camera]")
        page.click("#camera-on")
        until(view, lambda: page.is_enabled("#record"), "the camera")
        page.click("#record")
        until(view, lambda: page.inner_text("#countdown") == "2", "the countdown")
        until(view, lambda: page.inner_text("#countdown") == "18 s", "two seconds of a take")
        page.click("#record")
        until(view, lambda: page.is_visible("#again"), "the take")
        assert page.evaluate("document.activeElement.id") == "go"
        page.keyboard.press("Enter")
        until_done(view)
        assert page.is_visible("#compared"), "the microphone was on"
        page.evaluate("document.querySelector('#spoken').play()")
        until(view, lambda: plays(view, "#spoken"), "the speech to play")
        page.click("#again")
        until(view, lambda: page.is_enabled("#record"), "the camera, once more")
        page.check("input[value=file]")
        assert page.evaluate("document.querySelector('#preview').srcObject") is None, "the camera is off"
        assert view.wrong == []


def test_page_speaks_live_by_keyboard_alone(browser: Browser, server: Server, talking: Path) -> None:
    with opened(browser, server.address, permissions=["camera"]) as view:
        page = view.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.value") == "file"
        page.keyboard.press("ArrowLeft")
        assert page.evaluate("document.activeElement.value") == "live"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "camera-on"
        page.keyboard.press("Enter")
        until(view, lambda: page.is_enabled("#hold"), "the camera")
        page.set_input_files("#voice-file", talking)
        page.focus("#hold")
        for key in ("Enter", "Space"):
            page.keyboard.down(key)
            page.wait_for_timeout(1000)
            assert page.inner_text("#hold") == "Let go to hear it"
            page.keyboard.up(key)
            until_done(view)
            until(view, lambda: page.is_visible("#latency"), "the time from release")
            assert 0 < float(page.inner_text("#latency-seconds").split()[0]) < 60
            assert "vocoder" in page.inner_text("#latency-parts")
            assert (page.is_visible("#sound"), page.is_visible("#spoken"), page.is_visible("#mp4")) == (
                True,
                False,
                False,
            )
            page.evaluate("document.querySelector('#latency').hidden = true")
        assert view.wrong == []


def test_page_shows_a_second_visitor_his_place(browser: Browser, server: Server, talking: Path) -> None:
    with Visitor(server) as first, opened(browser, server.address) as view:
        first.send(talking, "voice")
        first.start(live=True, voice="file")
        first.until("working")
        view.page.set_input_files("#video", talking)
        view.page.click("#go")
        until(view, lambda: view.page.inner_text("#status") == "Waiting: 1 before you", "his place")
        first.ask("DELETE", "job")
        until_done(view)
        view.page.click("#go")
        view.page.click("#stop")
        assert view.page.inner_text("#status") == "Stopped"
        assert view.page.is_enabled("#go")
        assert view.wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_passes_an_accessibility_check_wide_and_narrow(
    browser: Browser, server: Server, talking: Path, scheme: Any
) -> None:
    for width in (1280, 360):
        with opened(browser, server.address, width, color_scheme=scheme, bypass_csp=True) as view:
            for way in ("camera", "live", "file"):
                view.page.check(f"input[value={way}]", force=True)
                assert view.violations() == []
                assert view.page.evaluate("document.documentElement.scrollWidth") == width
            view.page.set_input_files("#video", talking)
            view.page.click("#go")
            until_done(view)
            assert view.violations() == []
            assert view.page.evaluate("document.documentElement.scrollWidth") == width
            assert view.wrong == []


@pytest.mark.slow
def test_page_says_that_its_server_is_gone(browser: Browser, folder: Path) -> None:
    with page_server(folder / "best.pt", folder / "other") as other, opened(browser, other.address) as view:
        other.process.kill()
        other.process.wait(30)
        until(view, lambda: view.page.is_visible("#lost"), "what the page says")
        assert "The server does not answer" in view.page.inner_text("#lost")

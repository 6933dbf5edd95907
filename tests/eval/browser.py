"""Pages in a real Chromium without a window, offline: what they say, what they do, and what goes wrong in them.

Chromium is what is found on the PATH, or what playwright has installed. Where there is neither, tests are skipped;
where the environment says `CI=true`, they fail.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Error, Page, Request

_NAMES = ("chromium", "google-chrome", "chromium-browser", "google-chrome-stable")
_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """A browser, started with further arguments.

    While it is open, nothing else in this thread can run an event loop of asyncio's: a fixture that gives one lives no
    longer than its module.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _without("playwright is not installed")
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    with sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).exists():
            _without("no Chromium on the PATH and none of playwright's (python -m playwright install chromium)")
        browser = playwright.chromium.launch(executable_path=found, args=[*_ARGUMENTS, *arguments])
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True)
class Opened:
    """A page, and what went wrong in it: errors, requests beyond the file, dialogs."""

    page: Page
    wrong: list[str] = field(default_factory=list)

    def violations(self, *rules: str) -> list[str]:
        """What an accessibility check finds, of these rules of axe, or of all."""
        from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

        options: dict[str, Any] = {"resultTypes": ["violations"]}
        if rules:
            options["runOnly"] = list(rules)
        found = Axe().run(self.page, options=options).response["violations"]
        return [f"{of['id']}: {node['target']}: {node['failureSummary']}" for of in found for node in of["nodes"]]


@contextmanager
def opened(browser: Browser, where: Path | str, width: int = 1280, **context: Any) -> Iterator[Opened]:
    """A file in a context of its own, without a network, or the page at an address of this machine, and nothing beyond
    it; `context` as of playwright's `new_context`."""
    file = isinstance(where, Path)
    made = browser.new_context(viewport={"width": width, "height": 900}, offline=file, **context)
    try:
        found = Opened(made.new_page())
        address = where.as_uri() if isinstance(where, Path) else where
        _listen(found, "file:" if file else address)
        found.page.goto(address)
        yield found
    finally:
        made.close()


def _listen(opened: Opened, own: str) -> None:
    def on_console(said: ConsoleMessage) -> None:
        if said.type != "log":
            opened.wrong.append(said.text)

    def on_error(error: Error) -> None:
        opened.wrong.append(str(error))

    def on_dialog(dialog: Dialog) -> None:
        opened.wrong.append(dialog.message)
        dialog.dismiss()

    def on_request(asked: Request) -> None:
        if not asked.url.startswith((own, "data:", "blob:")):
            opened.wrong.append(asked.url)

    opened.page.on("console", on_console)
    opened.page.on("pageerror", on_error)
    opened.page.on("dialog", on_dialog)
    opened.page.on("request", on_request)


def _without(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)

"""The page itself and the files beside it: styles and scripts of ours, and nothing from elsewhere."""

from __future__ import annotations

from importlib import resources
from typing import Any, NamedTuple

from runtime.html_page import environment

_KINDS = {".css": "text/css", ".js": "text/javascript"}
_STYLES = ("page.css",)
_SCRIPTS = ("page.js", "server.js", "camera.js", "live.js", "result.js", "voice.js")


class Asset(NamedTuple):
    """A file beside the page, and its media type."""

    content: str
    kind: str


class Page(NamedTuple):
    """What a browser loads."""

    html: str
    assets: dict[str, Asset]


def render_page(**values: Any) -> Page:
    """The page, with what its template shows."""
    html = environment("eval.serve").get_template("page.html").render(styles=("base.css", *_STYLES), **values)
    templates = resources.files("eval.serve") / "templates"
    files = {"base.css": resources.files("runtime") / "templates" / "base.css"}
    files |= {name: templates / name for name in (*_STYLES, *_SCRIPTS)}
    assets = {
        name: Asset(file.read_text("utf-8"), _KINDS[f".{name.rpartition('.')[2]}"]) for name, file in files.items()
    }
    return Page(html, assets)

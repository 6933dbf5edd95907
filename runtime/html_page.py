"""Render an HTML page: a template with its style and scripts in one file, which fetches nothing and runs nothing else.

A template extends `base.html` and fills its blocks. Every text is escaped; data for scripts goes through `tojson`,
which leaves no `<` in it. The page's policy names its styles and scripts by their hash, so that whatever a key or a
transcript holds stays text: a page made from a stranger's tars is safe to open and to pass on.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from runtime.atomic import atomic_file

_PACKAGE, _STYLE = "runtime", "base.css"


def write_page(
    file: Path, template: str, *, styles: Sequence[str], scripts: Sequence[str], package: str, **values: Any
) -> Path:
    """Write a page; it appears whole or not at all, and the folders it lies in are made. Returns its path.

    Args:
        file: the page.
        template: extends `base.html`.
        styles, scripts: files beside the template; `base.css` goes before the styles. Scripts are modules, each with
            names of its own.
        package: whose `templates` hold these; what is not there is looked for here.
        values: what the template shows.

    Raises:
        ValueError: `file` cannot be a file.
        OSError: the disk failed.
    """
    check_page(file)
    assets = {
        "styles": [_asset(name, package) for name in (_STYLE, *styles)],
        "scripts": [_asset(name, package) for name in scripts],
    }
    parts = environment(package).get_template(template).generate(**assets, **values)
    try:
        with atomic_file(file) as out:
            # a lone surrogate can stand in a clip's JSON, but not in UTF-8
            out.writelines(part.encode("utf-8", "replace") for part in parts)
    except (FileNotFoundError, NotADirectoryError, FileExistsError, PermissionError) as error:
        raise ValueError(f"{file}: cannot be written: {error.strerror}") from error
    return file


def environment(package: str) -> jinja2.Environment:
    """Where the templates of a package are found, and after them those of ours."""
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in dict.fromkeys((package, _PACKAGE))]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"counted": counted}
    return made


def check_page(file: Path) -> None:
    """Refuse what cannot be a page before there is work for it (ValueError)."""
    if file.is_dir():
        raise ValueError(f"{file}: is a folder, the name of a file to write was expected")


def counted(number: int, what: str) -> str:
    """1,243 clips; 1 clip."""
    return f"{number:,} {what if number == 1 else what + 's'}"


def _asset(name: str, package: str) -> dict[str, str]:
    """A style or script of ours, which goes into the page as it is, and what the page's policy calls it."""
    places = [resources.files(place) / "templates" / name for place in (package, _PACKAGE)]
    content = next((place for place in places if place.is_file()), places[-1]).read_text("utf-8").strip()
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return {"content": Markup(content), "hash": f"'sha256-{digest}'"}

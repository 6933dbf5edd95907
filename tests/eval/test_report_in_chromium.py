"""The report in a real browser: it opens, plays, sorts, and its figures are those that were measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from eval.report.report import write_report
from eval.report.tables import ROWS_PER_PAGE as ROWS
from eval.results import Evaluation
from tests.eval.browser import chromium, opened
from tests.eval.evaluations import CLIPS, HOSTILE_KEY, METRICS, NONE, evaluation_of, row_of, sixty_clips

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

# sorts a table by each of its columns, up and down, and says where it is wrong
SORT = """(box) => {
  const { compare } = new Intl.Collator("en", { numeric: true });
  const heads = [...box.querySelectorAll("thead th")];
  const wrong = [];
  heads.forEach((head, place) => {
    const number = head.classList.contains("number");
    for (const way of ["ascending", "descending"]) {
      head.querySelector("button").click();
      const cells = [...box.querySelectorAll("tbody tr")].map((row) => row.cells[place]);
      const texts = cells.map((cell) => (number ? cell.dataset.value : cell.textContent.trim()));
      const missing = texts.map((text) => text === undefined || text === "" || text === "\u2013");
      const present = texts.filter((_, at) => !missing[at]);
      const order = present.slice(1).map((text, at) => (number ? text - present[at] : compare(text, present[at])));
      const sorted = order.every((step) => (way === "ascending" ? step >= 0 : step <= 0));
      const last = !missing.some((one, at) => one && missing.slice(at).includes(false));
      const marked = head.getAttribute("aria-sort") === way && box.querySelectorAll("[aria-sort]").length === 1;
      if (!cells.length || !sorted || !last || !marked) wrong.push(`${head.textContent} ${way}: ${texts}`);
    }
  });
  return wrong;
}"""

Made = tuple[Evaluation, Path]


@pytest.fixture(scope="module")
def evaluation(made_up: Made) -> Evaluation:
    return made_up[0]


@pytest.fixture(scope="module")
def file(made_up: Made) -> Path:
    return made_up[1]


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Made:
    evaluation, dataset, summary = sixty_clips(tmp_path_factory.mktemp("report"))
    return evaluation, write_report(evaluation, dataset, summary, shown=1)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def table(page: Any, name: str) -> Locator:
    found: Locator = page.locator(f"#table-{name}")
    return found


def column_of(box: Locator, place: int) -> list[str]:
    read = "(rows, place) => rows.map((row) => row.cells[place].dataset.value ?? row.cells[place].textContent.trim())"
    found: list[str] = box.locator("tbody tr").evaluate_all(read, place)
    return found


def test_report_opens_in_chromium_without_an_error_or_a_request(browser: Browser, file: Path) -> None:
    with opened(browser, file) as view:
        assert "x best.pt on test" in view.page.title()
        view.page.wait_for_function("document.querySelectorAll('th button').length > 20")
        assert view.page.locator("img").evaluate_all("of => of.every((one) => one.complete && one.naturalWidth > 0)")
        assert view.wrong == []


def test_report_players_play_one_at_a_time(browser: Browser, file: Path) -> None:
    with opened(browser, file) as view:
        sounds = view.page.locator("audio")
        view.page.wait_for_function("[...document.querySelectorAll('audio')].every((one) => one.duration > 0.4)")
        for place in (0, 1, sounds.count() - 1):
            handle = sounds.nth(place).element_handle()
            sounds.nth(place).evaluate("(one) => one.play()")  # comes back when it plays, or raises
            view.page.wait_for_function("(one) => one.currentTime > 0.1", arg=handle)
        assert sounds.evaluate_all("(all) => all.filter((one) => !one.paused).length") <= 1  # one at a time
        line = view.page.locator("article").last.locator(".line").first
        assert float(line.evaluate("(one) => parseFloat(one.style.left)")) > 0
        view.page.locator("article").first.locator(".mel").first.click()
        view.page.wait_for_function("document.querySelector('audio').currentTime > 0.2")
        assert view.wrong == []


def test_report_tables_sort_by_every_column(browser: Browser, file: Path) -> None:
    with opened(browser, file) as view:
        boxes = view.page.locator(".table")
        assert boxes.count() == 6  # systems, differences, failures, speakers, clips, not evaluated
        assert [boxes.nth(number).evaluate(SORT) for number in range(6)] == [[]] * 6
        assert view.wrong == []


def test_report_table_sorts_by_keyboard_and_missing_figures_come_last(browser: Browser, file: Path) -> None:
    with opened(browser, file) as view:
        box = table(view.page, "clips")
        button = box.locator("thead th").filter(has_text="PESQ").locator("button")
        button.focus()
        assert button.evaluate("(one) => getComputedStyle(one).outlineStyle") == "solid"  # it is seen where one is
        for key, way in (("Enter", "ascending"), ("Space", "descending")):
            button.press(key)
            assert box.locator("[aria-sort]").get_attribute("aria-sort") == way
            box.locator(".next").click()
            assert column_of(box, 6)[-4:] == [NONE] * 4
            assert NONE not in column_of(box, 6)[:-4]


def test_report_figures_read_back_from_the_page_equal_the_parquet_file(
    browser: Browser, file: Path, evaluation: Evaluation
) -> None:
    with opened(browser, file) as view:
        box = table(view.page, "clips")
        pages = [[column_of(box, place) for place in range(9)]]
        box.locator(".next").click()
        pages.append([column_of(box, place) for place in range(9)])
        assert [len(page[0]) for page in pages] == [ROWS, CLIPS - ROWS]
        assert box.locator(".next").is_disabled()
    shown = {key: row for page in pages for key, *row in zip(*page, strict=True)}
    rows = {row["key"]: row for row in evaluation.rows("network").to_pylist()}
    assert shown.keys() == rows.keys()
    for key, row in rows.items():
        expected = [row["seconds"], *(row[name] for name in METRICS), row["word_errors"] / row["words"]]
        assert [None if value == NONE else float(value) for value in shown[key][1:]] == expected


def test_report_search_finds_clips_by_name_text_and_speaker(browser: Browser, file: Path) -> None:
    with opened(browser, file) as view:
        box = table(view.page, "clips")
        box.get_by_label("Search").fill("S/07")
        assert column_of(box, 0) == ["main/s/07"]
        assert box.locator(".range").text_content() == f"1 clip found of {CLIPS}"
        box.get_by_label("Search").fill("<!--<SCRIPT> more")
        assert column_of(box, 0) == [HOSTILE_KEY]
        box.get_by_label("Search").fill("")
        assert len(column_of(box, 0)) == ROWS
        assert view.wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_passes_an_accessibility_check(browser: Browser, file: Path, scheme: Any) -> None:
    for width in (1280, 390):
        with opened(browser, file, width, color_scheme=scheme, reduced_motion="reduce") as view:
            view.page.locator("summary").click()
            assert view.violations() == []


def test_report_on_a_phone_does_not_scroll_sideways(browser: Browser, file: Path) -> None:
    with opened(browser, file, 360) as view:
        assert view.page.evaluate("document.documentElement.scrollWidth") == 360
        wide = table(view.page, "clips").locator(".scroll")
        assert wide.evaluate("(one) => one.scrollWidth > one.clientWidth")  # it scrolls by itself


def test_report_is_readable_without_scripts_and_on_paper(browser: Browser, file: Path) -> None:
    with opened(browser, file, 1032, java_script_enabled=False) as view:
        assert table(view.page, "clips").locator("tbody tr").count() == ROWS
        assert f"The first {ROWS} of {CLIPS} clips" in (
            table(view.page, "clips").locator(".range").text_content() or ""
        )
        assert not table(view.page, "clips").get_by_label("Search").is_visible()
    with opened(browser, file, 1032) as view:  # pixels between the margins of A4, landscape
        view.page.emulate_media(media="print")
        assert view.page.evaluate("document.documentElement.scrollWidth") <= 1032
        assert not view.page.locator("audio").first.is_visible()
        assert not table(view.page, "clips").get_by_label("Search").is_visible()


@pytest.mark.slow
def test_report_of_ten_thousand_clips_sorts_and_searches_quickly(browser: Browser, tmp_path: Path) -> None:
    rows = [row_of(f"main/s/{number:05d}", "network", wav=None) for number in range(10_000)]
    made = evaluation_of(tmp_path, rows)
    means = {name: {"mean": 0.5, "low": 0.4, "high": 0.6, "clips": 10_000, "failed": 0} for name in made.measured}
    speakers = {f"speaker{number}": {"clips": 2, "estoi": 0.5} for number in range(5000)}
    summary = {"clips": 10_000, "seconds": 9e3, "systems": {"network": means}, "speakers": speakers, "failures": {}}
    page = write_report(made, None, summary)
    assert page.stat().st_size < 8e6
    with opened(browser, page) as view:
        assert view.page.locator("tbody tr").count() < 300
        clock = """(box) => { const start = performance.now(); box.querySelectorAll("thead button")[3].click();
            box.querySelector("input").value = "99"; box.querySelector("input").dispatchEvent(new Event("input"));
            return performance.now() - start; }"""
        assert table(view.page, "clips").evaluate(clock) < 2000  # milliseconds; about 100 where nothing else runs
        assert view.wrong == []

"""The page in a real browser, as wide as a phone and as a desk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from eagle3_plugin.report.build import page
from eagle3_plugin.report.html import html
from tests.report import results
from tests.report.browser import Browser, browsing

pytestmark = pytest.mark.slow

RESULTS = {
    "card": results.card,
    "sets": results.sets,
    "stand in": results.stand_in,
    "hostile": results.hostile,
    "one cell": results.one_cell,
    "nothing": results.nothing,
    "large": results.large,
}
PHONE, DESK, PAPER_SHEET = 390, 1280, 1000
"""In CSS pixels; the last is A4 on its side, which has 1032 between its margins."""

OVERFLOW = "document.scrollingElement.scrollWidth - window.innerWidth"
TOO_WIDE = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.table, .unseen')
  && !(e instanceof SVGElement && !(e instanceof SVGSVGElement))
  && e.getBoundingClientRect().right > window.innerWidth + 0.5).map(e => e.outerHTML.slice(0, 80))
"""
OUTSIDE = """[...document.querySelectorAll('.panel svg')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text, .mark')].filter(e => {
    const box = e.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1
        || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
  }).map(e => e.outerHTML.slice(0, 120));
})"""
COLLISIONS = """[...document.querySelectorAll('.panel svg')].flatMap(svg => {
  const texts = [...svg.querySelectorAll('text')].map(e => [e, e.getBoundingClientRect()]);
  return texts.flatMap(([e, a], i) => texts.slice(i + 1).filter(([_, b]) =>
    a.left < b.right && b.left < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom
  ).map(([f]) => e.textContent + ' / ' + f.textContent));
})"""
CUT = """[...document.querySelectorAll('table')].filter(e =>
  e.getBoundingClientRect().right > window.innerWidth).map(e => e.innerText.slice(0, 80))"""
CUT_CAPTIONS = """[...document.querySelectorAll('caption span')].filter(e =>
  e.getBoundingClientRect().right > window.innerWidth).map(e => e.innerText)"""
BROKEN = """[...document.querySelectorAll('[aria-label*="turns"] td')].filter(e => {
  const words = document.createRange();
  words.selectNodeContents(e);
  return words.getClientRects().length > 1;
}).map(e => e.textContent)"""
BROKEN_WORDS = """[...document.querySelectorAll('th, td:not(.long)')].flatMap(cell => {
  const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), broken = [];
  while (texts.nextNode()) for (const word of texts.currentNode.data.matchAll(/[\\w.]+/g)) {
    const range = document.createRange();
    range.setStart(texts.currentNode, word.index);
    range.setEnd(texts.currentNode, word.index + word[0].length);
    const tops = [...range.getClientRects()].map(rect => rect.top);
    if (Math.max(...tops) - Math.min(...tops) > 3) broken.push(word[0]);
  }
  return broken.map(word => cell.closest('.table').getAttribute('aria-label') + ': ' + word);
})"""
SCROLLED = """[...document.querySelectorAll('.table')].filter(
  table => table.scrollWidth > table.clientWidth + 1).map(table => {
  table.scrollLeft = table.scrollWidth;
  const name = table.querySelector('tbody th').getBoundingClientRect();
  return [name.left - table.getBoundingClientRect().left, name.width / table.clientWidth];
})"""
OPEN_ALL = "document.querySelectorAll('details').forEach(e => e.open = true)"
PAPER = "getComputedStyle(document.documentElement).backgroundColor"
PROVENANCE = """document.querySelector('details:last-of-type table').checkVisibility(
  {contentVisibilityAuto: true})"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The file of each result."""
    folder = tmp_path_factory.mktemp("pages")
    for name, make in RESULTS.items():
        (folder / f"{name}.html").write_text(html(page(make())), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in RESULTS}


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", RESULTS)
def test_the_page_fits_the_window_and_nothing_runs_into_another(
    browser: Browser, pages: Mapping[str, Path], name: str, width: int
) -> None:
    path = pages[name]
    browser.open(path, width)
    browser.run(OPEN_ALL)
    assert browser.run("window.innerWidth") == width
    assert browser.run(OVERFLOW) <= 0
    assert browser.run(TOO_WIDE) == []
    assert browser.run(OUTSIDE) == []
    assert browser.run(COLLISIONS) == []
    assert browser.run(CUT_CAPTIONS) == []


def test_tables_of_parts_and_of_latency_scroll_in_their_own_box_on_a_phone(
    browser: Browser, pages: Mapping[str, Path]
) -> None:
    browser.open(pages["sets"], PHONE)
    browser.run(OPEN_ALL)
    for caption in ("Speed of turns", "Acceptance of turns", "Latency by set"):
        box = f"""document.querySelector('.table[aria-label^="{caption}"]')"""
        assert browser.run(f"{box}.scrollWidth > {box}.clientWidth"), caption
        assert browser.run(f"{box}.getBoundingClientRect().right") <= PHONE
        browser.run(f"{box}.scrollLeft = 10000")
        last = f"{box}.querySelector('thead th:last-child').getBoundingClientRect()"
        assert browser.run(f"{last}.right") <= PHONE
    assert browser.run(OVERFLOW) <= 0


@pytest.mark.parametrize("name", RESULTS)
def test_the_browser_asks_for_nothing_and_complains_of_nothing(
    browser: Browser, pages: Mapping[str, Path], name: str
) -> None:
    path = pages[name]
    browser.open(path, DESK)
    assert browser.requested == [path.as_uri()]
    assert browser.trouble == []


def test_names_with_markup_are_text_to_the_browser(
    browser: Browser, pages: Mapping[str, Path]
) -> None:
    browser.open(pages["hostile"], DESK)
    assert browser.run("document.querySelectorAll('script, img, a').length") == 0
    assert browser.run("document.title") == f"Eagle3-Qwen3-4B-Instruct-2507-zh on {results.LONG}"
    assert results.HOSTILE in browser.run("document.body.textContent")


def test_the_page_is_dark_where_the_reader_wants_it_and_light_on_paper(
    browser: Browser, pages: Mapping[str, Path]
) -> None:
    path = pages["card"]
    browser.open(path, DESK)
    assert browser.run(PAPER) == "rgb(255, 255, 255)"
    browser.open(path, DESK, scheme="dark")
    assert browser.run(PAPER) == "rgb(22, 25, 29)"
    browser.open(path, DESK, scheme="dark", media="print")
    assert browser.run(PAPER) == "rgb(255, 255, 255)"


def test_print_shows_what_is_folded_on_the_screen(
    browser: Browser, pages: Mapping[str, Path]
) -> None:
    path = pages["card"]
    browser.open(path, DESK)
    assert browser.run(PROVENANCE) is False
    browser.open(path, DESK, media="print")
    assert browser.run(PROVENANCE) is True


@pytest.mark.parametrize("name", RESULTS)
def test_no_table_is_cut_off_on_paper(
    browser: Browser, pages: Mapping[str, Path], name: str
) -> None:
    browser.open(pages[name], PAPER_SHEET, media="print")
    assert browser.run(CUT) == []


def test_tables_of_parts_have_one_line_a_row_on_paper(
    browser: Browser, pages: Mapping[str, Path]
) -> None:
    browser.open(pages["sets"], PAPER_SHEET, media="print")
    assert browser.run(BROKEN) == []


@pytest.mark.parametrize("name", ["card", "sets", "large"])
def test_no_word_of_a_table_is_broken_on_paper(
    browser: Browser, pages: Mapping[str, Path], name: str
) -> None:
    browser.open(pages[name], PAPER_SHEET, media="print")
    assert browser.run(BROKEN_WORDS) == []


def test_the_names_of_the_rows_stay_in_sight_on_a_phone(
    browser: Browser, pages: Mapping[str, Path]
) -> None:
    browser.open(pages["sets"], PHONE)
    browser.run(OPEN_ALL)
    scrolled = browser.run(SCROLLED)
    assert len(scrolled) >= 2
    for left, share in scrolled:
        assert left == pytest.approx(0, abs=1)
        assert share < 0.5


def test_folded_parts_and_wide_tables_are_reached_by_the_tab_key(
    browser: Browser, pages: Mapping[str, Path]
) -> None:
    browser.open(pages["card"], PHONE)
    found = []
    for _ in range(40):
        for kind in ("rawKeyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9)
        found.append(
            browser.run("document.activeElement.className || document.activeElement.tagName")
        )
    assert "table" in found
    assert "SUMMARY" in found

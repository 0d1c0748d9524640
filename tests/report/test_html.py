"""The page as HTML, parsed: its structure, and that nothing in it leads outside."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest

from eagle3_plugin.report.build import page
from eagle3_plugin.report.html import html
from tests.report import results

VOID = ("meta", "br")
LEADS_OUTSIDE = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")


@dataclass
class Parsed(HTMLParser):
    """Elements with their attributes, and the text, in order."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def parsed(text: str) -> Parsed:
    found = Parsed()
    found.feed(text)
    found.close()
    assert found.open == []
    return found


def test_the_document_has_one_heading_and_its_sections_in_order() -> None:
    text = html(page(results.card()))
    found = parsed(text)
    counts = Counter(tag for tag, _ in found.elements)
    assert text.startswith('<!doctype html>\n<html lang="en">')
    assert (counts["h1"], counts["main"], counts["style"]) == (1, 1, 1)
    assert (counts["section"], counts["details"], counts["h2"]) == (6, 4, 10)
    assert counts["figure"] == 3 + 4 + 1 + 3 + 6


def test_every_chart_says_in_words_what_it_shows_and_every_table_has_headers() -> None:
    found = parsed(html(page(results.sets())))
    charts = [a for a in found.named("svg") if a.get("role") == "img"]
    assert len(charts) == len(found.named("figure"))
    assert all(len(chart.get("aria-label") or "") > 20 for chart in charts)
    assert all(header.get("scope") in ("col", "row") for header in found.named("th"))
    assert len(found.named("caption")) == len(found.named("table"))


def test_rounded_numbers_have_all_digits_in_their_titles() -> None:
    result = results.with_speedup(results.card(), "5,4,16", 4, 1.23456)
    found = parsed(html(page(result)))
    titles = [a.get("title") for a in found.named("td")]
    assert "1.23456 (1.13456 to 1.33456)" in titles


@pytest.mark.parametrize("make", [results.card, results.sets, results.hostile, results.nothing])
def test_nothing_in_the_document_leads_outside(make: results.Maker) -> None:
    text = html(page(make()))
    found = parsed(text)
    names = {name for _, attributes in found.elements for name in attributes}
    assert not names & set(LEADS_OUTSIDE)
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r"url\(|@import|@font-face", text)
    policies = [a.get("content") for a in found.named("meta") if "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_hostile_names_stay_text_in_every_place() -> None:
    found = parsed(html(page(results.hostile())))
    assert {tag for tag, _ in found.elements} & {"script", "img", "iframe", "a", "b"} == set()
    assert results.HOSTILE in found.texts
    assert "vLLM 0.5.23 on a\\u{202e}b\\u{200b}c\\u{7}d" in "".join(found.texts)


def test_each_badge_is_one_of_the_four_bases() -> None:
    found = parsed(html(page(results.card())))
    classes = {a.get("class") for a in found.named("span") if "badge" in (a.get("class") or "")}
    assert classes == {"badge measured", "badge card", "badge modelled"}

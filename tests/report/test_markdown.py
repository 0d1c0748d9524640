"""The page as Markdown, read by a CommonMark parser (markdown-it-py)."""

from __future__ import annotations

from collections import Counter

from markdown_it import MarkdownIt

from eagle3_plugin.report.build import page
from eagle3_plugin.report.markdown import markdown
from tests.report import results

PARSER = MarkdownIt("commonmark").enable("table")


def kinds(text: str) -> Counter[str]:
    tokens = PARSER.parse(text)
    inline = (child for token in tokens for child in token.children or ())
    return Counter(token.type for token in (*tokens, *inline))


def test_it_has_the_sections_and_all_tables_of_the_page() -> None:
    text = markdown(page(results.card()))
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings[:3] == ["## Speed", "## Against the card", "## Against the plan"]
    assert kinds(text)["table_open"] == 17
    assert "### Speedup against parallel conversations (measured)" in text


def test_parts_and_latency_by_set_are_in_it() -> None:
    text = markdown(page(results.sets()))
    assert "**Latency by set, load and server**" in text
    assert "| tokens/s per conversation (measured) | speedup (measured) | time to first" in text
    _, parts = text.split("## By turn and by modality")
    assert "| rounds (measured) | tokens per verify (measured) | position 1 (measured) |" in parts


def test_a_warning_is_a_quotation_at_the_top() -> None:
    text = markdown(page(results.sets()))
    assert text.split("\n\n")[2].startswith(
        "> **Attention:** Partial: 12 conversation(s) of this run are missing"
    )


def test_names_with_markup_are_text() -> None:
    text = markdown(page(results.hostile()))
    found = kinds(text)
    assert not found.keys() & {"html_inline", "html_block", "link_open", "image", "code_inline"}
    shown = PARSER.render(text).count("&lt;script&gt;alert(1)&lt;/script&gt;")
    assert shown >= 10
    assert "|" not in "".join(
        token.content for token in PARSER.parse(text) if token.type == "fence"
    )


def test_rows_keep_their_cells_whatever_is_in_them() -> None:
    tokens = PARSER.parse(markdown(page(results.hostile())))
    rows, cells = [], 0
    for token in tokens:
        if token.type == "tr_open":
            cells = 0
        elif token.type in ("td_open", "th_open"):
            cells += 1
        elif token.type == "tr_close":
            rows.append(cells)
        elif token.type == "table_close":
            assert len(set(rows)) == 1
            rows = []

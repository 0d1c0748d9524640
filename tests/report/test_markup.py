from __future__ import annotations

from eagle3_plugin.report.markup import element, printed, visible


def test_text_and_attributes_cannot_become_markup() -> None:
    made = element("p", {"title": '"><script>'}, "<b>&", element("br"), "</p>")
    expected = '<p title="&quot;&gt;<script&gt;">&lt;b&gt;&amp;<br>&lt;/p&gt;</p>'
    assert printed(made) == expected


def test_an_attribute_that_is_none_is_left_out() -> None:
    assert printed(element("td", {"title": None, "tabindex": 0})) == '<td tabindex="0"></td>'


def test_what_cannot_be_seen_or_turns_the_text_is_printed_by_its_number() -> None:
    assert visible("a\u202eb\x00c\ud800\n") == "a\\u{202e}b\\u{0}c\\u{d800}\n"
    assert visible("中文 ü 😀") == "中文 ü 😀"

"""What the demo prints at its end: speed, equality and acceptance, by engine and modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eagle3_plugin import console
from eagle3_plugin.demo_engines import CHAIN, DemoEngine

if TYPE_CHECKING:
    from eagle3_plugin.demo import Demo
    from eagle3_plugin.demo_subjects import Subject


def show_demo(done: Demo, subject: Subject, engines: Sequence[DemoEngine]) -> None:
    """All tables, and the commands that a user would want next."""
    from eagle3_plugin.show import SERVE_LINES, show_bench

    if "image" in subject.asked:
        _show_first_picture(done, subject, engines)
    for engine in engines:
        for name, seen in done.seen.items():
            console.out.print()
            if len(engines) > 1 or len(done.seen) > 1:
                console.out.print(f"{engine.title}, {name}", style="bold")
            show_bench(seen.bench[engine.name])
    if len(engines) > 1 or len(done.seen) > 1:
        _side_by_side(done, engines)
    for name, seen in done.seen.items():
        console.out.print(
            f"expected by the oracle, {name}: {seen.expected_tokens_per_verify:.2f} tokens per "
            "verify"
        )
    console.out.print(
        "(speed of a tiny model on a CPU says nothing about a GPU; equality and acceptance do)"
    )
    lines: list[str] = []
    for engine in engines:
        lines.append(f"eagle3 check DRAFT --target TARGET --engine {engine.name}")
        lines.append(SERVE_LINES[engine.name]("TARGET", "DRAFT"))
    console.print_next(*lines)


def _show_first_picture(done: Demo, subject: Subject, engines: Sequence[DemoEngine]) -> None:
    from eagle3_plugin.draft.images import open_image
    from eagle3_plugin.show_picture import show_picture

    prompt = subject.asked["image"].prompts[0]
    console.out.print()
    show_picture(open_image(prompt.images[0]))
    console.out.print(f"asked: {_question(prompt.value)}", markup=False)
    for engine in engines:
        console.out.print(f"{engine.title}: {done.answer[engine.name]}", markup=False)


def _question(messages: Any) -> str:
    """The text parts of the last message."""
    content = messages[-1]["content"]
    parts = [content] if isinstance(content, str) else [p.get("text", "") for p in content]
    return " ".join(filter(None, parts))


def _side_by_side(done: Demo, engines: Sequence[DemoEngine]) -> None:
    rows = []
    for name, seen in done.seen.items():
        value = f"{seen.expected_tokens_per_verify:.3f}"
        rows.append([name, "oracle", str(seen.expected_num_rounds), value])
        for engine in engines:
            counts = seen.bench[engine.name].acceptance
            assert counts is not None
            shown = f"{counts.tokens_per_verify or 0:.3f}"
            rows.append([name, engine.title, str(counts.num_rounds), shown])
    console.out.print()
    title = f"the same draft, prompts and chain of {CHAIN}"
    console.print_table(title, ["", "", "rounds", "tokens per verify"], rows)

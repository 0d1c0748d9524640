"""The generated parts of README.md: `python -m tests.readme_parts` writes them anew.

A part stands between `<!-- NAME -->` and `<!-- end NAME -->`; `test_readme.py` fails on drift.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from eagle3_plugin.draft.check import rules_table
from eagle3_plugin.draft.read import DIALECTS, WRITABLE
from eagle3_plugin.planning.limit_rules import LIMITS
from tests.engines import matrix

README = Path(__file__).resolve().parent.parent / "README.md"
VERBS = (
    "inspect",
    "check",
    "convert",
    "score",
    "plan",
    "serve",
    "bench",
    "report",
    "watch",
    "tune",
    "plugins",
    "demo",
)


def dialect_table() -> str:
    """Every dialect, who writes it, and whether we write it too."""
    rows = ["| dialect | who writes it | read | write |", "|---|---|---|---|"]
    for name, module in DIALECTS.items():
        written = "yes" if name in WRITABLE else "-"
        rows.append(f"| `{name}` | {module.TITLE} | yes | {written} |")
    return "\n".join(rows)


def limits_table() -> str:
    """Every limit of an engine that the planner goes by, and where it was read."""
    rows = ["| id | engine | effect | what | read in |", "|---|---|---|---|---|"]
    for limit in LIMITS:
        cells = (f"`{limit.id}`", limit.engine or "both", limit.effect, limit.what, limit.source)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def command_help() -> str:
    """`--help` of each verb, 80 columns wide."""
    parts = []
    for verb in VERBS:
        command = [sys.executable, "-m", "eagle3_plugin.cli", verb, "--help"]
        environment = {**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        text = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
        text = text.replace("python -m eagle3_plugin.cli", "eagle3")
        parts.append(f"```\n{text}\n```")
    return "\n\n".join(parts)


PARTS: Mapping[str, Callable[[], str]] = {
    "engines": matrix.markdown,
    "dialects": dialect_table,
    "rules": rules_table,
    "limits": limits_table,
    "commands": command_help,
}


def generated(text: str) -> str:
    """The README with all its parts as they should be."""
    for name, make in PARTS.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"README.md has no part {name}")
        part = make()
        text = pattern.sub(lambda m, part=part: m[1] + part + "\n" + m[2], text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    README.write_text(generated(README.read_text(encoding="utf-8")), encoding="utf-8")

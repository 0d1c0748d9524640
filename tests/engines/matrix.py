"""Verify rounds of every variant in both engines, stock and with the plugin: the README's table.

    python -m tests.engines.matrix

runs it (about ten minutes of one core) and writes `matrix.json` beside this file; then
`python -m tests.readme_parts` puts the table into the README. The same folder, prompts and settings
for all: 5 prompts of 32 tokens, 96 tokens each, a chain of 3, float32, temperature 0.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from eagle3_plugin.tiny import VARIANTS, tiny_pair
from tests.engines.jobs import Job, oracle, run_jobs
from tests.engines.parity import prompts_of, served_draft

FILE = Path(__file__).with_name("matrix.json")
COLUMNS = {
    "vLLM stock": ("vllm", ""),
    "vLLM plugin": ("vllm", "eagle3"),
    "SGLang stock": ("sglang", "none"),
    "SGLang plugin": ("sglang", "eagle3"),
}
VERSIONS = "vLLM 0.32.0, SGLang 0.5.23, torch 2.13.0"


def main() -> None:
    if sys.argv[1:]:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    hardware = f"{platform.machine()} CPU"
    table = {"versions": VERSIONS, "hardware": hardware, "rounds": rows}
    FILE.write_text(json.dumps(table, indent=1) + "\n")


def measure(folder: Path) -> dict[str, dict[str, int | str]]:
    """Variant -> column -> verify rounds, or what the engine did instead."""
    prompts, max_tokens = prompts_of("qwen3")
    target = tiny_pair("llama").target
    drafts = {variant: served_draft(variant, folder) for variant in VARIANTS}
    rows: dict[str, dict[str, int | str]] = {variant: {} for variant in VARIANTS}
    texts: list[Any] = []
    for column, (engine, plugins) in COLUMNS.items():
        jobs = [Job(target, None, prompts, max_tokens, {"plugins": plugins})]
        jobs += [Job(target, d, prompts, max_tokens, {"plugins": plugins}) for d in drafts.values()]
        baseline, *results = run_jobs(engine, jobs, folder / column.replace(" ", "-"))
        texts.append(baseline["outputs"])
        if texts[-1] != texts[0]:
            raise SystemExit(f"{column}: the target writes another text than in vLLM")
        for (variant, job), found in zip(
            zip(VARIANTS, jobs[1:], strict=True), results, strict=True
        ):
            if not rows[variant]:
                chains = oracle(job, baseline["outputs"])
                rows[variant]["oracle"] = sum(len(c.rounds(max_tokens)) for c in chains)
            rows[variant][column] = _cell(found, baseline["outputs"])
    return rows


def _cell(found: Any, outputs: list[list[int]]) -> int | str:
    if "error" in found:
        return "refused"
    if found["outputs"] != outputs:
        return "other output"
    rounds: list[int] = found["rounds"]
    return sum(rounds)


def markdown() -> str:
    """The table for the README."""
    table = json.loads(FILE.read_text())
    columns = ["oracle", *COLUMNS]
    lines = ["| draft | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for variant, row in table["rounds"].items():
        cells = [
            f"**{row[c]}**" if c in COLUMNS and row[c] != row["oracle"] else str(row[c])
            for c in columns
        ]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    lines += ["", f"Measured on a {table['hardware']} with {table['versions']}, tiny pairs."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

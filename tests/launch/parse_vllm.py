"""Run in vLLM's environment: what the parser of `vllm serve` makes of each command line on stdin.

stdin: a JSON list of lists of words. stdout, last line: a JSON list of {"values": {...}} or, for
words that it refuses, {"error": ...}. Names inside --speculative-config are held against the
fields of vLLM's SpeculativeConfig.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from vllm.config import SpeculativeConfig
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

FIELDS = {field.name for field in dataclasses.fields(SpeculativeConfig)}


class Parser(FlexibleArgumentParser):  # type: ignore[misc] # has no types
    """Raises where the original leaves the process; takes no flag by its first letters."""

    def error(self, message: str) -> Any:
        raise ValueError(message)


def main() -> None:
    parser = make_arg_parser(Parser(allow_abbrev=False))
    print(json.dumps([parsed(parser, words) for words in json.load(sys.stdin)], default=str))


def parsed(parser: Any, words: list[str]) -> dict[str, Any]:
    try:
        arguments = parser.parse_args(words)
        validate_parsed_serve_args(arguments)
    except (TypeError, ValueError) as error:
        return {"error": str(error)}
    unknown = sorted(set(arguments.speculative_config or ()) - FIELDS)
    if unknown:
        return {"error": f"--speculative-config has no {', '.join(unknown)}"}
    return {"values": vars(arguments)}


if __name__ == "__main__":
    main()

"""Run in SGLang's environment: what its own parser makes of each command line on stdin.

stdin: a JSON list of lists of words. stdout, last line: a JSON list of {"values": {...}} or, for
words that it refuses or takes only as an abbreviation, {"error": ...}.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from sglang.srt.server_args import ServerArgs


class Parser(argparse.ArgumentParser):
    """Raises where the original leaves the process; takes no flag by its first letters."""

    def error(self, message: str) -> Any:
        raise ValueError(message)


def main() -> None:
    parser = Parser(allow_abbrev=False)
    ServerArgs.add_cli_args(parser)
    print(json.dumps([parsed(parser, words) for words in json.load(sys.stdin)], default=str))


def parsed(parser: argparse.ArgumentParser, words: list[str]) -> dict[str, Any]:
    try:
        return {"values": vars(parser.parse_args(words))}
    except ValueError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    main()

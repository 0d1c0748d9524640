"""`python -m eagle3_plugin.tiny [NAME ...]`: trains what is not cached, prints where it is."""

from __future__ import annotations

import sys

from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.tiny import VL_VARIANTS, TinyPair, VlPair, tiny_moe_pair, tiny_pair, tiny_vl_pair

MOE_NAME = "moe"


def main(names: list[str]) -> int:
    """One line for each name (default `llama`): the name, the target's folder, the draft's."""
    try:
        for name in names or ["llama"]:
            pair = _pair(name)
            print(name, pair.target, pair.draft, sep="\t", flush=True)
    except Eagle3Error as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


def _pair(name: str) -> TinyPair | VlPair:
    if name in VL_VARIANTS:
        return tiny_vl_pair(name)
    return tiny_moe_pair() if name == MOE_NAME else tiny_pair(name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

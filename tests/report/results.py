"""Results for the tests of the report, made from the examples: large, small, hostile and bare."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from eagle3_plugin.measuring.bootstrap import BOOTSTRAP
from eagle3_plugin.measuring.equal import Equality
from eagle3_plugin.measuring.record import ALL_SETS, BASELINE, Estimate
from eagle3_plugin.measuring.result import Prediction, Result, from_json, read_result
from eagle3_plugin.measuring.summaries import summaries

Maker = Callable[[], Result]

EXAMPLES = Path(__file__).parent.parent / "measuring"

HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(1)>\"'&|`*_[x](javascript:y)"
HIDDEN = "a\u202eb\u200bc\x07d"
FEW = BOOTSTRAP.model_copy(update={"num_resamples": 20})
LONG = "Qwen3-VL-" + "very-long-name-without-a-space-" * 8 + "2B"
CHINESE = "中文多轮对话基准测试集合，第二个版本，用于评估投机解码的接受长度与吞吐量"


def card() -> Result:
    """Card A's protocol, whole: two sets, 1 and 4 at a time, one tree."""
    return read_result(EXAMPLES / "example_card.json")


def sets() -> Result:
    """Two chains over two sets, with images, a server that died, differences and a problem."""
    return read_result(EXAMPLES / "example_sets.json")


def stand_in() -> Result:
    """Card A's protocol in vLLM, which ran a chain in place of the tree."""
    whole = card()
    assert whole.card is not None
    names = {"5,4,16": "5,1,6"}
    table = whole.card.model_copy(update={"stands_for": names})
    return renamed(whole, names).model_copy(update={"card": table})


def renamed(result: Result, names: Mapping[str, str]) -> Result:
    """The result with every string that is one of these names replaced."""
    return from_json(_renamed(result.to_json(), names))


def hostile() -> Result:
    """Names, outputs and reasons that would break a page that does not escape them."""
    names = {
        "gsm8k": HOSTILE,
        "my-images": CHINESE,
        "Qwen/Qwen3-4B-Instruct-2507": f"org/{LONG}",
        "RTX 4090": HIDDEN,
        " a cat on <b>the</b> mat": HOSTILE,
        "the engine ended with exit code 137 while it served": f"{HOSTILE} {LONG}",
        "example: no figure here was measured": HOSTILE,
    }
    return renamed(sets(), names)


def one_cell() -> Result:
    """The baseline alone answered one set once."""
    whole = card()
    cells = tuple(cell for cell in whole.cells if cell.server == BASELINE)[:1]
    changes = {"cells": cells, "summaries": summaries(cells), "servers": whole.servers[:1]}
    return whole.model_copy(update={**_bare(), **changes})


def nothing() -> Result:
    """The first server did not start."""
    whole = sets()
    changes = {"cells": (), "summaries": (), "servers": (), "is_partial": True}
    return whole.model_copy(update={**_bare(), **changes, "missing": whole.missing})


def large() -> Result:
    """Five settings, seven sets and 1, 2, 4, 8 and 16 at a time, with a long name among them."""
    whole = card()
    base, tree = whole.cells[0], whole.cells[1]
    settings = ("5,4,16", "3,1,4", "8,1,9", "2,2,4", "1,1,2")
    names = ("humaneval", "math500", "ceval", "cmmlu", "gsm8k", LONG, CHINESE)
    cells = [
        cell.model_copy(update={"server": server, "set": name, "concurrency": load})
        for name, load in product(names, (1, 2, 4, 8, 16))
        for server, cell in ((BASELINE, base), *((s, tree) for s in settings))
    ]
    served = (whole.servers[0], *(_like(whole.servers[1], name=s, settings=s) for s in settings))
    used = tuple(_like(whole.sets[0], name=name) for name in names)
    changes: dict[str, Any] = {"cells": tuple(cells), "servers": served}
    changes["summaries"] = summaries(cells, FEW)
    return whole.model_copy(update={**changes, "sets": used})


def distribution(p_value: float) -> Equality:
    """What a test above temperature 0 found."""
    found: Equality = _like(
        sets().equality[1],
        how="distribution",
        compared_by=None,
        p_value=p_value,
        why="2,000 first tokens of a vocabulary of 32",
    )
    return found


def prediction(**changes: Any) -> Prediction:
    found: Prediction = _like(card().predictions[0], **changes)
    return found


def _bare() -> Mapping[str, Any]:
    return {"equality": (), "card": None, "predictions": (), "problems": (), "missing": ()}


def _like(one: Any, **changes: Any) -> Any:
    return type(one).model_validate_json(json.dumps({**one.model_dump(mode="json"), **changes}))


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(v, names) for key, v in value.items()}
    if isinstance(value, list):
        return [_renamed(v, names) for v in value]
    return names.get(value, value) if isinstance(value, str) else value


def with_speedup(result: Result, server: str, concurrency: int, value: float) -> Result:
    """The result with this speedup of all sets, from 0.1 below to 0.1 above."""
    estimate = Estimate(value=value, low=round(value - 0.1, 9), high=round(value + 0.1, 9))
    wanted = (server, ALL_SETS, concurrency)
    changed = tuple(
        s.model_copy(update={"ratios": {**s.ratios, "tokens_per_s_per_conversation": estimate}})
        if (s.server, s.set, s.concurrency) == wanted
        else s
        for s in result.summaries
    )
    return result.model_copy(update={"summaries": changed})

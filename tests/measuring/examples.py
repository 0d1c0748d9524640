"""Two results with made-up times, for everything that reads results.

`python -m tests.measuring.examples` writes them beside this file. The figures in them follow from
the requests by the package's own code; none was measured.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from eagle3_plugin.measuring.bootstrap import BOOTSTRAP
from eagle3_plugin.measuring.card import card_table
from eagle3_plugin.measuring.equal import Difference, Equality, TokenLogprobs
from eagle3_plugin.measuring.provenance import (
    Chat,
    Machine,
    Model,
    ModelFile,
    Provenance,
    Sampling,
    Versions,
)
from eagle3_plugin.measuring.record import BASELINE, Counts
from eagle3_plugin.measuring.result import (
    Cell,
    Missing,
    Prediction,
    Request,
    Result,
    Served,
    SetUsed,
)
from eagle3_plugin.measuring.summaries import make_cell, summaries
from eagle3_plugin.planning.cards import find_card
from eagle3_plugin.settings import Settings

FOLDER = Path(__file__).parent
NAMES = ("card", "sets")
BEGUN = "2026-11-21T08:00:00Z"
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
STEP_S = 0.0099
RATES = (0.78, 0.70, 0.64, 0.60, 0.55)


def path(name: str) -> Path:
    """Where an example is kept."""
    return FOLDER / f"example_{name}.json"


def card_example() -> Result:
    """Card A's protocol, whole: two sets, 1 and 4 conversations at a time, one tree."""
    card = find_card("A")
    cells = [
        _cell(server, name, concurrency, repeat, num_conversations=4, num_turns=2)
        for repeat in (0, 1)
        for concurrency in (1, 4)
        for name in ("mt-bench-zh", "mt-bench-en")
        for server in (BASELINE, "5,4,16")
    ]
    found = summaries(cells)
    return Result(
        is_partial=False,
        provenance=_provenance("sglang", settings=("5,4,16",), concurrency=(1, 4), num_repeats=2),
        servers=(_served(BASELINE), _served("5,4,16")),
        sets=(_set("mt-bench-zh", 4, 8), _set("mt-bench-en", 4, 8)),
        summaries=found,
        equality=(_equality("5,4,16", 32, 0, ()),),
        card=card_table(card, found, {}),
        predictions=(
            Prediction(
                server="5,4,16", concurrency=1, measure="speedup",
                value=2.05, low=1.86, high=2.24, basis="modelled",
            ),
            Prediction(
                server="5,4,16", concurrency=4, measure="speedup",
                value=1.92, low=1.74, high=2.11, basis="modelled",
            ),
        ),
        missing=(),
        problems=(),
        bootstrap=BOOTSTRAP,
        cells=tuple(cells),
    )  # fmt: skip


def sets_example() -> Result:
    """Two chains over two sets, with images, a server that died, differences and a problem."""
    cells = [
        _cell(server, name, 2, repeat, num_conversations=6, num_turns=turns, images=images)
        for repeat in (0, 1)
        for name, turns, images in (("gsm8k", 1, 0), ("my-images", 3, 3))
        for server in (BASELINE, "3,1,4", "5,1,6")
        if (server, repeat) != ("5,1,6", 1)
    ]
    return Result(
        is_partial=True,
        provenance=_provenance(
            "vllm", settings=("3,1,4", "5,1,6"), concurrency=(2,), num_repeats=2
        ),
        servers=(_served(BASELINE), _served("3,1,4"), _served("5,1,6")),
        sets=(_set("gsm8k", 6, 6), _set("my-images", 6, 18)),
        summaries=summaries(cells),
        equality=(
            _equality("3,1,4", 48, 12, _differences()),
            _equality("5,1,6", 24, 0, ()),
        ),
        card=None,
        predictions=(),
        missing=(
            Missing(
                server="5,1,6", set=None, concurrency=2, repeat=1, num_conversations=12,
                reason="the engine ended with exit code 137 while it served",
            ),
        ),
        problems=(
            "3,1,4, gsm8k, 2 at a time, repeat 2: the answers tell of 61 rounds, and the engine's "
            "counters of 64; expected the same",
        ),
        bootstrap=BOOTSTRAP,
        cells=tuple(cells),
    )  # fmt: skip


def _cell(
    server: str,
    name: str,
    concurrency: int,
    repeat: int,
    *,
    num_conversations: int,
    num_turns: int,
    images: int = 0,
) -> Cell:
    """The loop as a simulation: each of `concurrency` clients takes the next conversation."""
    dice = random.Random(f"{server} {name} {concurrency} {repeat}")
    free_at_s = [0.0] * concurrency
    requests = []
    for conversation in range(num_conversations):
        client = free_at_s.index(min(free_at_s))
        for turn in range(num_turns):
            modality = "image" if conversation < images and turn == 0 else "text"
            request = _request(dice, server, conversation, turn, modality, free_at_s[client])
            free_at_s[client] = request.begin_s + request.request_s
            requests.append(request)
    whole = [r.counts.value for r in requests if r.counts]
    return make_cell(
        server=server,
        set=name,
        concurrency=concurrency,
        repeat=repeat,
        begun_at=BEGUN,
        elapsed_s=round(max(free_at_s), 6),
        requests=requests,
        counted=type(whole[0]).total(whole, 0) if whole else None,
    )


def _request(
    dice: random.Random, server: str, conversation: int, turn: int, modality: str, begin_s: float
) -> Request:
    num_tokens = dice.randint(80, 128)
    first_s = dice.uniform(0.02, 0.03) + 0.01 * turn
    counts = None if server == BASELINE else _counts(dice, server, num_tokens, modality)
    steps_s = STEP_S * (num_tokens if counts is None else 1.55 * counts.num_rounds)
    return Request(
        conversation=conversation,
        turn=turn,
        modality=modality,
        begin_s=round(begin_s, 6),
        time_to_first_token_s=round(first_s, 6),
        request_s=round(first_s + steps_s * dice.uniform(0.98, 1.02), 6),
        num_prompt_tokens=dice.randint(40, 90) + 120 * turn,
        num_tokens=num_tokens,
        finish_reason="length" if num_tokens == 128 else "stop",
        counts=counts,
    )


def _counts(dice: random.Random, server: str, num_tokens: int, modality: str) -> Counts:
    settings = Settings.parse(server)
    lift = 0.12 if settings.topk > 1 else -0.25 if modality == "image" else 0.0
    made = 1
    by_position = [0] * settings.num_steps
    num_rounds = 0
    while made < num_tokens:
        num_rounds += 1
        made += 1
        for position, rate in zip(range(settings.num_steps), RATES, strict=False):
            if dice.random() > rate + lift:
                break
            by_position[position] += 1
            made += 1
    return Counts(
        num_rounds=num_rounds,
        num_draft_tokens=num_rounds * (settings.num_draft_tokens - 1),
        accepted_draft_tokens=sum(by_position),
        accepted_by_position=tuple(by_position),
    )


def _differences() -> Iterable[Difference]:
    yield Difference(
        set="gsm8k", conversation=2, turn=0, concurrency=2, repeat=0, position=57,
        found=(9707, 11, 358), expected=(21806, 25, 220),
        logprobs=TokenLogprobs(found=-0.6931, expected=-0.6934),
        baseline_logprobs=TokenLogprobs(found=-0.6936, expected=-0.6930),
        gap_nats=0.0006, is_near_tie=True,
        why="both servers give the two tokens log-probabilities at most 0.0006 nats apart",
    )  # fmt: skip
    yield Difference(
        set="my-images", conversation=4, turn=1, concurrency=2, repeat=1, position=3,
        found=" a cat on <b>the</b> mat", expected=" a dog beside the mat",
        logprobs=TokenLogprobs(found=-0.12, expected=-2.31),
        baseline_logprobs=TokenLogprobs(found=-2.44, expected=-0.10),
        gap_nats=2.34, is_near_tie=False,
        why="the two tokens are 2.34 nats apart, expected at most 0.25",
    )  # fmt: skip


def _equality(server: str, compared: int, apart: int, found: Iterable[Difference]) -> Equality:
    differences = tuple(found)
    return Equality(
        server=server,
        how="outputs",
        compared_by="token_ids",
        num_compared=compared - apart,
        num_equal=compared - apart - len(differences),
        num_near_ties=sum(d.is_near_tie is True for d in differences),
        num_different=sum(d.is_near_tie is not True for d in differences),
        num_not_compared=apart,
        near_tie_nats=0.25,
        p_value=None,
        why="",
        differences=differences,
    )


def _served(name: str) -> Served:
    return Served(
        name=name,
        settings="off" if name == BASELINE else name,
        url=None,
        command="python -m sglang.launch_server --model-path Qwen/Qwen3-4B-Instruct-2507",
        started_s=31.5,
        notes=(),
    )


def _set(name: str, num_conversations: int, num_turns: int) -> SetUsed:
    return SetUsed(
        name=name,
        source=f"org/{name}",
        revision="0123456789abcdef0123456789abcdef01234567",
        num_conversations=num_conversations,
        num_turns=num_turns,
        sha256=SHA,
    )


def _provenance(engine: Any, **asked: Any) -> Provenance:
    files = (ModelFile(name="model.safetensors", num_bytes=436858112, sha256=SHA),)
    card = find_card("A")
    return Provenance(
        command=f"eagle3 bench {engine} --card A --repeats 2",
        started_at=BEGUN,
        finished_at="2026-11-21T08:12:31Z",
        duration_s=751.0,
        num_resumed=0,
        engine=engine,
        versions=Versions(
            plugin="0.1.0", engine="0.5.23", torch="2.13.0", transformers="5.19.0", python="3.11.9"
        ),
        machine=Machine(
            device="gpu", hardware="RTX 4090", num_gpus=1, driver="580.95", system="Linux 6.8"
        ),
        target=Model(name=card.target, revision="a" * 40, files=files),
        draft=Model(name=card.draft, revision="b" * 40, files=files),
        words=("--dtype", "float16"),
        limit=4,
        num_warm_up_requests=4,
        sampling=Sampling(
            temperature=0.0,
            seed=0,
            max_tokens=128,
            ignore_eos=False,
            top_p=1.0,
            top_k=-1,
            min_p=0.0,
            repetition_penalty=1.0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
        ),
        chat=Chat(template_sha256=SHA, thinking=None),
        notes=("example: no figure here was measured",),
        **asked,
    )


EXAMPLES: Mapping[str, Any] = {"card": card_example, "sets": sets_example}


def text(name: str) -> str:
    """The example as its file has it."""
    return json.dumps(EXAMPLES[name]().to_json(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for example in NAMES:
        path(example).write_text(text(example), encoding="utf-8")

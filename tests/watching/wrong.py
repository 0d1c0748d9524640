"""Drafts of the tiny pair that are wrong in a way that no engine notices, and traffic for them."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.convert import convert
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.read import read_draft
from eagle3_plugin.draft.target_config import read_target
from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.hub import resolve
from eagle3_plugin.serving.client import Client

NUM_TOKENS = 64
CONCURRENCY = 8


def shifted(draft: Path, target: Path, out: Path, by: int) -> Path:
    """The draft converted with every tap wrongly settled that many layers on."""
    config = json.loads((draft / "config.json").read_text())
    settled = read_target(str(target))
    checkpoint = Checkpoint.open(resolve(str(draft)))
    taps = read_draft(checkpoint, Settle(target_num_layers=settled.num_layers)).config.taps_for(
        settled.num_layers
    )
    wrong = tuple(tap + by for tap in taps)
    if "eagle_aux_hidden_state_layer_ids" in config:
        raise AssertionError(f"{draft} names its taps; expected one that leaves them open")
    convert(read_draft(checkpoint, Settle(taps=wrong)), out, "universal", target=settled)
    return out


def not_a_number(draft: Path, out: Path) -> Path:
    """The draft with NaN for its fc weights, as a training run that diverged leaves it."""
    shutil.copytree(draft, out)
    file = out / "model.safetensors"
    tensors = load_file(file)
    tensors["fc.weight"] = torch.full_like(tensors["fc.weight"], float("nan"))
    save_file(tensors, file)
    return out


Request = Mapping[str, Any]


def to_the_limit(prompts: Sequence[Sequence[int]]) -> list[Request]:
    """Token ids as requests that go on past an end token."""
    return [
        {"prompt_token_ids": list(ids), "max_tokens": NUM_TOKENS, "ignore_eos": True}
        for ids in prompts
    ]


@contextmanager
def traffic(url: str, requests: Sequence[Request]) -> Iterator[list[int]]:
    """The requests in turn, again and again, CONCURRENCY at a time; yields a list that grows by the
    number of tokens of each answer. Ends when the server is gone, too."""
    client = Client.connect(url)
    stop, answered = threading.Event(), list[int]()
    turn = iter(range(10**9))
    lock = threading.Lock()

    def send() -> None:
        while not stop.is_set():
            with lock:
                request = requests[next(turn) % len(requests)]
            try:
                answered.append(client.completion(**request).num_tokens)
            except Eagle3Error:
                return

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        workers = [pool.submit(send) for _ in range(CONCURRENCY)]
        try:
            yield answered
        finally:
            stop.set()
    for worker in workers:
        worker.result()

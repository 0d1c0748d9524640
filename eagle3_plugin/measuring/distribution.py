"""Whether two servers draw from the same distribution: a test over many seeds, for temperature > 0.

Each of a few prompts is answered with `NUM_TOKENS` tokens under each of many seeds by both servers,
each with seeds of its own: under the same seed a first token can be the same in both, and then it
is not drawn twice, as the test takes it to be.
The first token comes from the prompt's own pass; those after it are drafted and verified. For each
prompt and position the tokens are counted in a table of two rows; the statistic is the sum of the
tables' chi-squares. Its distribution, if the servers do not differ, is had by permutation: the
seeds are dealt anew to the two servers, each with its answers to all prompts. So rare tokens need
no pooling, and the positions of one answer, and the answers under one seed, may depend on each
other (Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005, chapter 3). They do:
vLLM draws the first token of every prompt with the same noise under the same seed. Dealing each
prompt's answers by themselves would take them for independent and see differences where none are.
A p-value below ALPHA says that the distributions differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.measuring.equal import ALPHA, Equality
from eagle3_plugin.measuring.loop import Asking
from eagle3_plugin.serving.client import Client

NUM_TOKENS: Final = 4
NUM_PERMUTATIONS: Final = 9999
"""The smallest p-value is 1 / (this + 1)."""

BATCH: Final = 200
"""Permutations at a time: some megabytes."""

ROUNDING: Final = 1e-9
"""Of a statistic, relative: the same seeds dealt again may sum up in another order."""

UNSOUND: Final[Mapping[str, str]] = {
    "vllm": "the verification of vLLM 0.32's CPU build reads temperature and top_p from memory "
    "that was never written (utils/cpu_triton_utils.py, _expand_kernel_impl)",
    "sglang": "SGLang 0.5.23 verifies greedily on a CPU, whatever the temperature "
    "(srt/speculative/eagle_utils.py:488)",
}
"""Why answers of a speculative server at temperature > 0 are wrong on a CPU, by engine."""

Outputs = NDArray[np.int64]
"""[prompt, seed, NUM_TOKENS]; -1 after an output's end."""


def require_sound(engine: str, device: str | None, temperature: float) -> None:
    """Raises UsageError where the engine would not sample as asked."""
    if temperature > 0 and device == "cpu":
        raise UsageError(
            f"--temperature {temperature:g} on a CPU: {UNSOUND[engine]}; expected temperature 0",
            hint="Leave --temperature out, or measure on a GPU.",
        )


def outputs(
    client: Client, prompts: Sequence[Mapping[str, Any]], seeds: range, asking: Asking
) -> Outputs:
    """The short answers of one server. asking: of the run; its tokens and its seed are not used."""
    found = np.full((len(prompts), len(seeds), NUM_TOKENS), -1, dtype=np.int64)
    for row, prompt in enumerate(prompts):
        for column, seed in enumerate(seeds):
            answer = replace(asking, max_tokens=NUM_TOKENS, seed=seed).send(client, prompt)
            if answer.token_ids is None:
                raise EngineError(
                    f"{client.url} gives no token ids; expected them for the distribution test",
                    hint="Give prompts of text.",
                )
            found[row, column, : len(answer.token_ids)] = answer.token_ids[:NUM_TOKENS]
    return found


def p_value(ours: Outputs, theirs: Outputs, *, seed: int = 0) -> float:
    """How likely such a difference is if the two do not differ.

    A seed's answers to all prompts stay together: see the top of this file.
    """
    generator = np.random.default_rng(seed)
    codes = _codes(np.concatenate([_by_seed(ours), _by_seed(theirs)]))
    is_ours = np.arange(len(codes)) < ours.shape[1]
    found = _statistics(codes, is_ours[None])[0]
    num_beyond = 0
    for first in range(0, NUM_PERMUTATIONS, BATCH):
        num_dealt = min(BATCH, NUM_PERMUTATIONS - first)
        dealt = generator.permuted(np.tile(is_ours, (num_dealt, 1)), axis=1)
        num_beyond += int((_statistics(codes, dealt) >= found * (1 - ROUNDING)).sum())
    return (num_beyond + 1) / (NUM_PERMUTATIONS + 1)


def conclude(server: str, ours: Outputs, theirs: Outputs) -> Equality:
    """The test as a result says it."""
    p = p_value(ours, theirs)
    verdict = "no sign of a difference" if p >= ALPHA else "the distributions differ"
    return Equality(
        server=server,
        how="distribution",
        compared_by="token_ids",
        num_compared=ours.shape[0] * ours.shape[1],
        num_equal=0,
        num_near_ties=0,
        num_different=0,
        num_not_compared=0,
        near_tie_nats=None,
        p_value=p,
        why=f"{verdict}: {ours.shape[0]} prompts, {ours.shape[1]} seeds, {NUM_TOKENS} tokens each",
        differences=(),
    )


def _by_seed(answers: Outputs) -> NDArray[np.int64]:
    """[seed, prompt and position]"""
    return answers.swapaxes(0, 1).reshape(answers.shape[1], -1)


def _codes(answers: NDArray[np.int64]) -> NDArray[np.float64]:
    """[seed, column]: one column for each token at each position, 1 where the answer has it.

    Scaled by the square root of how often the token came, so that squares of sums are chi-squares.
    """
    columns = []
    for position in range(answers.shape[1]):
        tokens, index = np.unique(answers[:, position], return_inverse=True)
        one_hot = np.eye(len(tokens))[index]
        columns.append(one_hot / np.sqrt(one_hot.sum(0)))
    return np.concatenate(columns, axis=1)


def _statistics(codes: NDArray[np.float64], dealt: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of each way to deal the seeds, the chi-squares of all positions, but for a factor that only
    depends on the sizes. dealt: [way, seed], whether the seed is ours."""
    apart = (dealt - dealt.mean(1, keepdims=True)) @ codes
    return np.asarray((apart**2).sum(1))

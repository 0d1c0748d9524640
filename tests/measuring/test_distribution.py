"""The test at temperature > 0: rarely wrong where nothing differs, and never where much does."""

from __future__ import annotations

import numpy as np
import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.measuring import distribution
from eagle3_plugin.measuring.distribution import Outputs, conclude, p_value, require_sound

VOCABULARY = np.array([0.5, 0.25, 0.15, 0.1])


def drawn(seed: int, shares: np.ndarray = VOCABULARY, num_seeds: int = 200) -> Outputs:
    generator = np.random.default_rng(seed)
    return generator.choice(len(shares), size=(2, num_seeds, 4), p=shares).astype(np.int64)


@pytest.fixture
def _few_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for a p-value to a hundredth."""
    monkeypatch.setattr(distribution, "NUM_PERMUTATIONS", 199)


@pytest.mark.usefixtures("_few_permutations")
def test_p_values_of_equal_servers_are_spread_evenly() -> None:
    """Of 100 pairs about 10 have p <= 0.1; 19 and more come once in 200 times (binomial)."""
    found = [p_value(drawn(2 * i), drawn(2 * i + 1), seed=i) for i in range(100)]
    assert sum(p <= 0.1 for p in found) <= 19
    assert 0.35 <= float(np.mean(found)) <= 0.65


@pytest.mark.usefixtures("_few_permutations")
def test_answers_that_are_the_same_to_all_prompts_raise_no_more_alarms() -> None:
    """Prompts that depend on each other as much as can be: each seed gives all four one answer.

    Of 300 pairs about 15 have p <= 0.05; 25 and more come once in 100 times (binomial). With each
    prompt's answers dealt by themselves 49 had.
    """
    found = [p_value(_alike(drawn(2 * i)), _alike(drawn(2 * i + 1)), seed=i) for i in range(300)]
    assert sum(p <= 0.05 for p in found) < 25


def test_a_difference_is_seen_through_prompts_that_depend_on_each_other() -> None:
    sharper = VOCABULARY ** (1 / 0.7)
    ours = _alike(drawn(1, sharper / sharper.sum(), 1000))
    assert p_value(ours, _alike(drawn(2, num_seeds=1000))) == 1 / 10_000


def _alike(answers: Outputs) -> Outputs:
    """The first prompt's answers, given to four."""
    return np.repeat(answers[:1], 4, axis=0)


def test_a_distribution_that_is_off_by_a_little_is_seen() -> None:
    """Temperature 1 against 0.8 on the same logits."""
    sharper = VOCABULARY ** (1 / 0.8)
    found = conclude("3,1,4", drawn(1, sharper / sharper.sum(), 1000), drawn(2, num_seeds=1000))
    assert found.p_value is not None
    assert found.p_value < 0.001
    assert found.ok is False
    assert found.why == "the distributions differ: 2 prompts, 1000 seeds, 4 tokens each"


def test_a_server_that_verifies_greedily_is_seen() -> None:
    theirs = drawn(1)
    ours = theirs.copy()
    ours[:, :, 1:] = 0
    assert p_value(ours, theirs) == 1 / 10_000


def test_equal_outputs_have_no_sign_of_a_difference() -> None:
    same = drawn(1)
    found = conclude("3,1,4", same, same)
    assert found.p_value == 1.0
    assert found.ok is True
    assert found.how == "distribution"


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("vllm", "--temperature 0.7 on a CPU: the verification of vLLM 0.32's CPU build"),
        ("sglang", "--temperature 0.7 on a CPU: SGLang 0.5.23 verifies greedily on a CPU"),
    ],
)
def test_a_cpu_is_refused_by_name(engine: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        require_sound(engine, "cpu", 0.7)
    require_sound(engine, "cpu", 0.0)
    require_sound(engine, "gpu", 0.7)
    require_sound(engine, None, 0.7)

from __future__ import annotations

from dataclasses import replace

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.probe import Probe
from eagle3_plugin.planning.probe_constants import probe_constants
from eagle3_plugin.planning.settings import OFF, chains
from eagle3_plugin.settings import Settings, chain

THREE = chain(3)

CONSTANTS = replace(
    probe_constants(),
    decay=1.0,
    step_fixed=0.02,
    step_share=0.1,
    typical_overhead=0.4,
    tree_overhead=0.2,
    node_share=0.5,
)


def probe(tokens_per_verify: float, speedup: float, settings: Settings = THREE) -> Probe:
    return Probe(settings, tokens_per_verify, speedup, CONSTANTS)


def test_the_probe_is_predicted_as_measured_and_off_is_1() -> None:
    found = probe(2.8, 2.0)

    assert (found.predicted_speedup(chain(3)), found.predicted_speedup(OFF)) == (2.0, 1.0)


def test_a_longer_chain_costs_a_fixed_part_and_a_share_of_the_overhead_for_each_step() -> None:
    # A round of 2.8 / 2 = 1.4 baseline steps; each further step 0.02 + 0.1 * 0.4.
    assert probe(2.8, 2.0).expected_round_ratio(chain(5)) == pytest.approx(1.52)
    assert probe(2.8, 2.0).expected_round_ratio(chain(1)) == pytest.approx(1.28)


def test_a_tree_costs_more_and_a_share_of_a_step_for_each_further_token() -> None:
    # 1.4 + 0.2 + 2 steps * 0.06 + 10 tokens * 0.5 * 0.06
    assert probe(2.8, 2.0).expected_round_ratio(Settings(5, 4, 16)) == pytest.approx(2.02)


def test_a_longer_chain_yields_more_by_the_rates_behind_the_probe() -> None:
    # 2.952 = 1 + 0.8 + 0.64 + 0.512; then 0.4096 and 0.32768.
    found = probe(2.952, 2.0).expected_tokens_per_verify(chain(5))

    assert found == pytest.approx(3.68928)


@pytest.mark.parametrize("settings", [chain(5), Settings(5, 4, 16)])
def test_any_settings_can_be_the_probe(settings: Settings) -> None:
    of_three = probe(2.8, 2.0)
    ratio = of_three.expected_round_ratio(settings)

    assert probe(2.8, 2.8 / ratio, settings).overhead == pytest.approx(0.4)


def test_a_baseline_slower_than_the_round_gives_the_typical_overhead() -> None:
    # SpecBundle's Llama-4-Scout: rounds of 0.91 to 0.98 baseline steps.
    found = probe(2.8, 2.8 / 0.95)

    assert found.overhead == 0.4
    assert found.expected_round_ratio(chain(5)) == pytest.approx(0.95 * 1.52 / 1.4)


def test_a_draft_that_is_seldom_right_is_switched_off() -> None:
    # SpecForge issue 339: Qwen3-30B-A3B on two H100, every setting a loss.
    assert Probe(chain(3), 1.86, 0.718).best((OFF, *chains())) is OFF


def test_a_draft_that_is_nearly_always_right_gets_the_longest_chain() -> None:
    assert Probe(chain(3), 3.6, 2.4).best((OFF, *chains())) == chain(7)


@pytest.mark.parametrize(
    ("tokens_per_verify", "speedups"),
    [
        # vllm-project/vllm issue 20780, Llama-3.1-8B: EAGLE-3, EAGLE-1.
        (2.79, {2: 1.637, 3: 1.729, 4: 1.746, 5: 1.712, 6: 1.683, 7: 1.648}),
        (2.29, {2: 1.618, 3: 1.648, 4: 1.578, 5: 1.501, 6: 1.431, 7: 1.36}),
        # sgl-project/sglang pull requests 23336 (GLM-4.7-FP8, MTP) and 21599.
        (3.04, {1: 1.33, 3: 1.717, 7: 1.638}),
        (3.88, {1: 1.347, 3: 2.072, 7: 2.168}),
    ],
)
def test_other_engines_and_drafts_than_those_fitted_lose_at_most_5_percent(
    tokens_per_verify: float, speedups: dict[int, float]
) -> None:
    # A step costs more of the overhead there (0.24 to 0.32 of it) than in the fitted sweep.
    choice = Probe(chain(3), tokens_per_verify, speedups[3]).best((OFF, *map(chain, speedups)))

    assert choice is not OFF
    assert speedups[choice.num_steps] >= 0.95 * max(speedups.values())


def test_a_tree_is_not_chosen_on_hope() -> None:
    found = Probe(chain(3), 1.3, 1.2)
    tree = Settings(2, 8, 32)

    assert found.predicted_speedup(tree) > found.predicted_speedup(chain(2))
    assert found.cautious_speedup(tree) < 1.2
    assert found.best((OFF, chain(3), tree)) == chain(3)


def test_a_tree_that_was_measured_counts_as_measured() -> None:
    tree = Settings(5, 4, 16)

    assert Probe(tree, 3.33, 2.08).best((OFF, tree)) == tree


def test_of_equal_choices_the_shorter_one_is_taken() -> None:
    # Never right: chains only cost. Rounds of one baseline step: off is as good as the probe.
    assert probe(1.0, 1.0).best((chain(3), OFF)) is OFF


@pytest.mark.parametrize("speedup", [0.0, -1.0])
def test_a_speedup_must_be_positive(speedup: float) -> None:
    with pytest.raises(UsageError, match=r"speedup is -?[01], expected more than 0"):
        probe(2.0, speedup)


def test_a_probe_has_to_be_possible() -> None:
    with pytest.raises(UsageError, match="5 tokens per verify with settings 3,1,4, expected 1 to"):
        probe(5.0, 2.0)

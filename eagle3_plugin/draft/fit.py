"""Whether a draft and a target belong together, as far as their configs tell."""

from __future__ import annotations

from eagle3_plugin.draft.config import DraftConfig, TargetConfig
from eagle3_plugin.errors import Problem


def fit_problems(config: DraftConfig, target: TargetConfig) -> list[Problem]:
    """What makes the pair unusable: an engine would crash late, or accept nothing in silence."""
    problems = []
    if config.target_hidden_size != target.hidden_size:
        problems.append(
            Problem(
                "target-hidden-size",
                f"the draft was trained on a target with hidden size {config.target_hidden_size}; "
                f"this target has {target.hidden_size}",
                "Use the target that the draft was trained for.",
            )
        )
    if config.vocab_size != target.vocab_size:
        problems.append(
            Problem(
                "target-vocabulary",
                f"the draft was trained for a vocabulary of {config.vocab_size}; this target has "
                f"{target.vocab_size}",
                "Use the target that the draft was trained for.",
            )
        )
    taps = config.taps_for(target.num_layers)
    outside = [tap for tap in taps if not 0 <= tap <= target.num_layers]
    if outside or len(set(taps)) != len(taps):
        problems.append(
            Problem(
                "taps-range",
                f"taps {list(taps)} do not lie in a target of {target.num_layers} layers "
                f"(boundaries 0 to {target.num_layers}, each once)",
                "Use the target that the draft was trained for, or give the right --taps.",
            )
        )
    return problems

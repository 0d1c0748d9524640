"""What the plugin refuses before SGLang serves an image, without an SGLang."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import LlamaConfig

from eagle3_plugin.engines.draft_config import CANONICAL_KEY
from eagle3_plugin.engines.sglang.draft_config import apply_overrides
from eagle3_plugin.engines.sglang.images import tap_as_trained
from eagle3_plugin.engines.sglang.plugin import overridden
from eagle3_plugin.errors import EngineError
from tests.drafts import draft_config

DEEPSTACK = range(2)


def runner(decoder: Any, **changes: Any) -> Any:
    """A model runner of SGLang, as far as it is looked at, for a draft with taps 2, 4 and 5."""
    draft = draft_config(taps=(2, 4, 5), **changes)
    config = SimpleNamespace(**{CANONICAL_KEY: draft.model_dump(mode="json")})
    return SimpleNamespace(
        model=SimpleNamespace(model=decoder),
        is_draft_worker=False,
        spec_aux_config=SimpleNamespace(draft_model_config=SimpleNamespace(hf_config=config)),
    )


def decoder(**values: Any) -> Any:
    return SimpleNamespace(deepstack_embed_to_decoder_layer=DEEPSTACK, **values)


@pytest.mark.parametrize(("tap", "wanted"), [("before", True), ("after", False)])
def test_the_target_adds_deepstack_features_where_the_draft_was_tapped(
    tap: str, wanted: bool
) -> None:
    target = decoder(use_hf_deepstack_order=False)
    assert tap_as_trained(lambda _: "done", runner(target, deepstack_tap=tap)) == "done"
    assert target.use_hf_deepstack_order is wanted


def test_an_unknown_tap_is_after_and_said(caplog: pytest.LogCaptureFixture) -> None:
    target = decoder(use_hf_deepstack_order=False)
    with caplog.at_level(logging.INFO):
        tap_as_trained(lambda _: None, runner(target))
    assert target.use_hf_deepstack_order is False
    assert (
        "taps [2] of image tokens relative to the deepstack features: unknown, taken as after"
        in (caplog.text)
    )


def test_nothing_is_said_of_a_target_without_deepstack(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        tap_as_trained(lambda _: None, runner(SimpleNamespace()))
    assert caplog.text == ""


def test_a_target_that_captures_before_is_refused_for_other_drafts() -> None:
    """SGLang captures so with --rl-on-policy-target."""
    target = decoder(use_hf_deepstack_order=True)
    with pytest.raises(EngineError) as caught:
        tap_as_trained(lambda _: None, runner(target, deepstack_tap="after"))
    assert str(caught.value) == (
        "with --rl-on-policy-target SGLang captures boundaries [2] before the deepstack features "
        "are added; the draft's deepstack tap is after\n"
        "hint: Serve without --rl-on-policy-target."
    )


def test_an_sglang_that_cannot_choose_is_refused() -> None:
    with pytest.raises(EngineError) as caught:
        tap_as_trained(lambda _: None, runner(decoder(), deepstack_tap="before"))
    assert str(caught.value) == (
        "this SGLang cannot capture boundaries [2] before the deepstack features, which "
        "SimpleNamespace adds there\nhint: Use SGLang 0.5.23."
    )


def test_overrides_of_type_and_length_reach_the_draft() -> None:
    config = LlamaConfig(max_position_embeddings=1024)
    apply_overrides(config, {"max_position_embeddings": 4096, "vision_config": {"depth": 1}})
    assert config.max_position_embeddings == 4096
    apply_overrides(config, {"max_position_embeddings": 64, "num_hidden_layers": 32})
    assert config.max_position_embeddings == 4096
    assert not hasattr(config, "vision_config")


def test_a_rope_in_the_overrides_is_the_targets(caplog: pytest.LogCaptureFixture) -> None:
    config = LlamaConfig()
    with caplog.at_level("INFO"):
        apply_overrides(config, {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}})
    assert config.to_dict() == LlamaConfig().to_dict()
    assert "rope_scaling of --json-model-override-args is the target's" in caplog.text


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [("num_hidden_layers", 2, 32), ("norm_output", True, None), ("vocab_size", 7, 32000)],
)
def test_overrides_that_change_the_draft_are_refused(key: str, value: Any, found: Any) -> None:
    with pytest.raises(EngineError) as caught:
        apply_overrides(LlamaConfig(), {key: value, "max_position_embeddings": 4096})
    assert str(caught.value) == (
        "SGLang gives --json-model-override-args to the draft too, and these would change it: "
        f"{key} = {value!r} (the draft has {found!r})\n"
        "hint: Write what is meant for the target into a copy of its config.json; what a draft was "
        "trained with is settled by `eagle3 convert`."
    )


def test_the_target_is_read_with_its_overrides() -> None:
    target = {"model_type": "qwen3_vl", "text_config": {"num_hidden_layers": 8, "hidden_size": 64}}
    found = overridden(target, {"text_config": {"num_hidden_layers": 7}, "dtype": "float16"})
    assert found == {
        "model_type": "qwen3_vl",
        "text_config": {"num_hidden_layers": 7, "hidden_size": 64},
        "dtype": "float16",
    }


def test_a_rope_of_the_target_is_changed_under_either_name() -> None:
    target = {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}, "rope_scaling": None}
    found = overridden(target, {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}})
    assert found == {
        "rope_parameters": {"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0},
    }

"""What stock vLLM 0.32 and stock SGLang 0.5.23 take from a draft's config.json.

Two functions with one result type: rules compare it with what the draft is. Read in the released
sources: vLLM model_executor/models/{llama,qwen3}_eagle3.py, transformers_utils/configs/, and both
runners' tap readers; SGLang models/llama_eagle3.py and spec_aux_hidden_state.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from eagle3_plugin.draft.dialects.fields import architecture_of

Ids = tuple[int, ...]
LayerClass = Literal["llama", "qwen3"]

SGLANG_NAME = "LlamaForCausalLMEagle3"
PLAIN_NAMES = ("LlamaForCausalLM", "Qwen3ForCausalLM")
PLUGIN_NAMES = (
    "LlamaForCausalLMEagle3",
    "Eagle3LlamaForCausalLM",
    "Eagle3Speculator",
    "Eagle3DraftModel",
    "Qwen3ForCausalLMEagle3",
    "Eagle3Qwen3ForCausalLM",
    "Eagle3Qwen3vlForCausalLM",
    "Qwen3VLForConditionalGenerationEagle3",
    *PLAIN_NAMES,
)
PLUGIN_TARGETS = "qwen3"
"""How the model_type of a target starts that the plugin acts for. Both are `engines/names.py`'s,
which this layer may not import; a test compares the two."""

VLLM_CLASSES: Mapping[str, LayerClass] = {
    "LlamaForCausalLMEagle3": "llama",
    "Eagle3LlamaForCausalLM": "llama",
    "Eagle3Qwen3vlForCausalLM": "llama",
    "Eagle3Qwen2_5vlForCausalLM": "llama",
    "Eagle3MiniMaxM2ForCausalLM": "llama",
    "Eagle3Qwen3ForCausalLM": "qwen3",
}
"""Architecture -> layers of the draft class (vLLM 0.32 model_executor/models/registry.py:658)."""

MODEL_TYPES = ("llama", "qwen3", "qwen3_vl_text")
SPECULATORS_TYPES: Mapping[str, LayerClass] = {"llama": "llama", "qwen3": "qwen3"}

_TAP_KEY = "eagle_aux_hidden_state_layer_ids"
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_key_value_heads",
          "head_dim")  # fmt: skip
_DEFAULT_SIZES: Mapping[str, Mapping[str, int]] = {
    "llama": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32},
    "qwen3": {"hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
              "num_key_value_heads": 32, "head_dim": 128},
    "qwen3_vl_text": {"hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
                      "num_key_value_heads": 32, "head_dim": 128},
}  # fmt: skip
"""What transformers 5.19 fills in by model_type; the rest it derives from the number of heads."""

_DEFAULT_THETAS: Mapping[str, float] = {"llama": 1e4, "qwen3": 1e4, "qwen3_vl_text": 5e5}
"""transformers 5.19, LlamaConfig, Qwen3Config and Qwen3VLTextConfig."""


SGLANG_DTYPES: Mapping[str, str] = {"bfloat16": "BF16", "float64": "F64"}
"""SGLang 0.5.23 configs/model_config.py:2284: float32, and a config that states none, are F16."""


@dataclass(frozen=True)
class StockReading:
    """What the engine would run.

    layers: the layer class, None = the engine refuses this config or takes it for another model.
    taps: boundaries by runner, None = the default ones. draft_vocab_size: None = the engine fails
    because the field is not there. lm_head: `embedding` = the draft's embed_tokens.
    sizes: those that config.json leaves out, None = the engine has no default and fails.
    theta: of a config that names none; None = it names one. dtype: what the draft runs in unless
    --dtype is given, None = the target's.
    """

    layers: LayerClass | None
    model_type: str
    taps: Mapping[str, Ids | None]
    num_taps: int
    residual: Literal["raw", "normed"]
    fc_input_norm: Literal["none", "joint", "per_tap"]
    feedback: Literal["prenorm", "postnorm"]
    attention_bias: bool
    attention_output_bias: bool
    fc_bias: bool
    draft_vocab_size: int | None
    lm_head: Literal["own", "target", "embedding"]
    sizes: Mapping[str, int | None]
    theta: float | None
    dtype: str | None


def read_as_vllm(raw: Mapping[str, Any]) -> StockReading:
    """What stock vLLM 0.32 takes; a speculators config is flattened as vLLM does it."""
    nested = is_speculators(raw)
    layer = section(raw, "transformer_layer_config") if nested else raw
    eagle = {} if nested else section(raw, "eagle_config")
    layers = vllm_layers(raw)
    top_ids, nested_ids = _ids(raw.get(_TAP_KEY)), _ids(eagle.get(_TAP_KEY))
    bias = bool(layer.get("attention_bias"))
    residual = raw.get("norm_before_residual", nested)
    return StockReading(
        layers=layers,
        model_type=_model_type(layer),
        taps={
            "vLLM V1": top_ids or nested_ids,
            "vLLM V2": top_ids or _ids(eagle.get("layer_ids")),
        },
        num_taps=_vllm_num_taps({} if nested else raw, layers, top_ids, nested_ids),
        residual="normed" if residual else "raw",
        fc_input_norm=_fc_input_norm(eagle, raw, bool(raw.get("fc_norm"))),
        feedback="postnorm" if raw.get("norm_output") else "prenorm",
        attention_bias=bias,
        attention_output_bias=layers == "llama" and (bias or bool(layer.get("bias"))),
        fc_bias=False,
        draft_vocab_size=_count(raw.get("draft_vocab_size")) or _count(layer.get("vocab_size")),
        lm_head="own",
        sizes=_absent_sizes(layer, nested),
        theta=_absent_theta(layer, 1e6 if nested and layers == "qwen3" else None, nested),
        dtype=None,
    )


def read_as_sglang(raw: Mapping[str, Any]) -> StockReading:
    """What stock SGLang 0.5.23 takes."""
    eagle = section(raw, "eagle_config")
    ids = _ids(eagle.get(_TAP_KEY))
    bias = bool(raw.get("bias"))
    per_tap = bool(raw.get("fc_norm")) or bool(raw.get("use_aux_norm"))
    given = _count(raw.get("draft_vocab_size"))
    shared = "draft_vocab_size" in raw and given is None
    tied = raw.get("tie_word_embeddings") is True
    return StockReading(
        layers="llama" if architecture_of(raw) == SGLANG_NAME else None,
        model_type=_model_type(raw),
        taps={"SGLang": tuple(i + 1 for i in ids) if ids else None},
        num_taps=_count(raw.get("num_aux_hidden_states")) or (len(ids) if ids else 3),
        residual="raw",
        fc_input_norm=_fc_input_norm(eagle, raw, per_tap),
        feedback="postnorm" if raw.get("norm_output") else "prenorm",
        attention_bias=False,
        attention_output_bias=bool(raw.get("attention_bias")) or bias,
        fc_bias=bias,
        draft_vocab_size=_count(raw.get("vocab_size")) if shared else given,
        lm_head="embedding" if tied else "target" if shared else "own",
        sizes=_absent_sizes(raw, False),
        theta=_absent_theta(raw, None, False),
        dtype=SGLANG_DTYPES.get(str(raw.get("dtype") or raw.get("torch_dtype")), "F16"),
    )


def vllm_layers(raw: Mapping[str, Any]) -> LayerClass | None:
    """The layer class that stock vLLM builds for this config, None if it refuses it."""
    if is_speculators(raw):
        known = raw.get("speculators_config") is not None and raw.get("model_type") is None
        kind = section(raw, "transformer_layer_config").get("model_type", "llama")
        ours = raw.get("speculators_model_type") == "eagle3"
        return SPECULATORS_TYPES.get(str(kind)) if known and ours else None
    name = architecture_of(raw)
    if not (name.startswith("Eagle3") or name.endswith("Eagle3")):
        name = f"Eagle3{name}"
    return VLLM_CLASSES.get(name)


def is_speculators(raw: Mapping[str, Any]) -> bool:
    keys = ("speculators_model_type", "speculators_config", "transformer_layer_config")
    return any(raw.get(key) is not None for key in keys)


def section(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _model_type(layer: Mapping[str, Any]) -> str:
    kind = layer.get("model_type")
    return kind if isinstance(kind, str) else ""


def _vllm_num_taps(
    raw: Mapping[str, Any], layers: LayerClass | None, top: Ids | None, nested: Ids | None
) -> int:
    """The Llama class counts the nested list only, the Qwen3 class the top-level one too."""
    stated = raw.get("num_aux_layers") if layers == "qwen3" else None
    stated = _count(stated) or _count(raw.get("num_aux_hidden_states"))
    ids = (top or nested) if layers == "qwen3" else nested
    return stated or (len(ids) if ids else 3)


def _fc_input_norm(
    eagle: Mapping[str, Any], raw: Mapping[str, Any], per_tap: bool
) -> Literal["none", "joint", "per_tap"]:
    if eagle.get("norm_before_fc", raw.get("norm_before_fc")):
        return "joint"
    return "per_tap" if per_tap else "none"


def _absent_sizes(layer: Mapping[str, Any], nested: bool) -> dict[str, int | None]:
    """A speculators layer is not parsed by transformers, so nothing fills its gaps."""
    heads, hidden = _count(layer.get("num_attention_heads")), _count(layer.get("hidden_size"))
    per_head = hidden // heads if hidden and heads else None
    derived = {"num_key_value_heads": heads, "head_dim": per_head}
    defaults = {} if nested else _DEFAULT_SIZES.get(_model_type(layer), {})
    absent = [name for name in _SIZES if layer.get(name) is None]
    return {name: defaults.get(name, derived.get(name)) for name in absent}


def _absent_theta(layer: Mapping[str, Any], default: float | None, nested: bool) -> float | None:
    places = (layer, section(layer, "rope_scaling"), section(layer, "rope_parameters"))
    if any(place.get("rope_theta") is not None for place in places):
        return None
    return default or (1e4 if nested else _DEFAULT_THETAS.get(_model_type(layer), 1e4))


def _ids(value: Any) -> Ids | None:
    is_ids = isinstance(value, list) and all(type(i) is int for i in value)
    return tuple(value) if is_ids and value else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None

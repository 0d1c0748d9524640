"""The table of limits: SGLang 0.5.23 (`sglang/srt/…`) and vLLM 0.32.0 (`vllm/…`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from eagle3_plugin.planning.cost import Engine, Machine
from eagle3_plugin.settings import Settings

Effect = Literal["rejects", "note", "schedule", "held", "set"]


@dataclass(frozen=True)
class Server:
    """Where and how a server will run, as far as a limit depends on it.

    max_requests: the most requests that it is started for.
    flags: of its command line, without the dashes, with their values; "" for a bare flag.
    model_type: of the target's config.json; "" when it is not known.
    """

    machine: Machine
    max_requests: int
    flags: Mapping[str, str] = field(default_factory=dict)
    model_type: str = ""

    def flag_is(self, name: str, *values: str) -> bool:
        """Whether that flag is given, with one of these values if there are any."""
        return name in self.flags and (not values or self.flags[name] in values)

    def number(self, name: str, default: int) -> int:
        return int(self.flags.get(name, default))


Applies = Callable[[Settings, Server], bool]


@dataclass(frozen=True)
class Limit:
    """One rule. `engine` None: of the arithmetic or the machine, not of an engine.

    effect: `rejects` = such settings are not ranked; `note` = they run, and the plan says what
    happens; `schedule` = the same of a schedule by batch size; `held` = settings.py makes no such
    settings; `set` = the plan's command sets it.
    flags: the server's flags that `applies` asks for.
    """

    id: str
    engine: Engine | None
    effect: Effect
    what: str
    source: str
    applies: Applies
    flags: tuple[str, ...]


SGLANG_MAX_REQUESTS: Final = 48
"""What SGLang makes of an unset --max-running-requests with speculation."""

VLLM_GRAPH_TOKENS: Final = 512
VLLM_GRAPH_TOKENS_SM100: Final = 1024
"""The largest CUDA graph that vLLM captures unless told otherwise, in tokens."""

VLLM_FEW_TOKENS: Final = 8192

PAGE_TREE_BACKENDS: Final = ("flashinfer", "fa3", "triton")

BACKEND: Final = "attention-backend"
PAGE: Final = "page-size"
DP: Final = "data-parallel-size"
TOKENS: Final = "max-num-batched-tokens"
SLIDING_WINDOW: Final = ("gemma3", "gemma3_text", "gpt_oss", "llama4", "mistral")
MLA: Final = ("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm4_moe_lite")


def vllm_graph_tokens(server: Server) -> int:
    """vLLM's default ceiling; data-centre Blackwell (sm100) has the higher one."""
    is_sm100 = server.machine.gpu.compute_capability.startswith("10.")
    return VLLM_GRAPH_TOKENS_SM100 if is_sm100 else VLLM_GRAPH_TOKENS


def _never(settings: Settings, server: Server) -> bool:
    return False


def _vllm_tokens(server: Server) -> int:
    """max-num-batched-tokens, by default of the server (vllm/engine/arg_utils.py:2922-2968)."""
    gpu = server.machine.gpu
    gib = gpu.mem_gib or 0
    is_large = gib >= 70 and "A100" not in gpu.name
    return server.number(TOKENS, 16384 if gib >= 160 else 8192 if is_large else 2048)


def _tree_with(name: str, *values: str) -> Applies:
    return lambda settings, server: not settings.is_chain and server.flag_is(name, *values)


def _tree_for(*model_types: str) -> Applies:
    return lambda settings, server: not settings.is_chain and server.model_type in model_types


def _any_with(name: str, *values: str) -> Applies:
    return lambda settings, server: server.flag_is(name, *values)


def _is_tree(settings: Settings, server: Server) -> bool:
    return not settings.is_chain


def _is_chain(settings: Settings, server: Server) -> bool:
    return settings.is_chain


def _is_amd_tree(settings: Settings, server: Server) -> bool:
    return not settings.is_chain and server.machine.gpu.vendor == "AMD"


def _has_pages(server: Server) -> bool:
    return server.number(PAGE, 1) > 1


def _paged_tree(settings: Settings, server: Server) -> bool:
    backend = server.flags.get(BACKEND)
    other = backend is not None and backend not in PAGE_TREE_BACKENDS
    return not settings.is_chain and _has_pages(server) and other


def _windowed_tree(settings: Settings, server: Server) -> bool:
    is_fa3 = server.flag_is(BACKEND, "fa3") and server.model_type in SLIDING_WINDOW
    return not settings.is_chain and _has_pages(server) and is_fa3


def _wide_disaggregated(settings: Settings, server: Server) -> bool:
    return settings.topk > 16 and server.flag_is("disaggregation-mode", "prefill", "decode")


def _minimax_on_amd(settings: Settings, server: Server) -> bool:
    return _is_amd_tree(settings, server) and server.model_type == "minimax_m3"


def _beyond_graphs(settings: Settings, server: Server) -> bool:
    width = settings.num_steps + 1
    return server.max_requests * width > vllm_graph_tokens(server)


def _beyond_budget(settings: Settings, server: Server) -> bool:
    return server.max_requests * (settings.num_steps + 1) > _vllm_tokens(server)


def _few_tokens(settings: Settings, server: Server) -> bool:
    return _vllm_tokens(server) < VLLM_FEW_TOKENS


def _schedule_stays(name: str, *values: str) -> Applies:
    return lambda settings, server: settings.is_chain and server.flag_is(name, *values)


_HOOK = "sglang/srt/arg_groups/speculative_hook.py"
_ATTENTION = "sglang/srt/layers/attention"
_MEMORY = "sglang/srt/arg_groups/memory_hook.py"
_VLLM = "vllm/config/vllm.py"
_SPECULATIVE = "vllm/config/speculative.py"

_Row = tuple[str, Effect, str, str, Applies, tuple[str, ...]]
"""id, effect, what, source, applies, flags."""

_SGLANG_ROWS: tuple[_Row, ...] = (
    ("sglang-chain-tokens", "held", "topk 1 runs num_steps + 1 tokens, whatever is asked",
     f"{_HOOK}:1255-1266", _never, ()),
    ("sglang-tree-nodes", "held", "a tree has 1 + k + (s - 1) k² nodes; more fail at run time",
     "sglang/srt/speculative/eagle_utils.py:100-110, spec_utils.py:417-471", _never, ()),
    ("sglang-all-three", "held", "num_steps, topk and num_draft_tokens go together",
     f"{_HOOK}:1158-1163", _never, ()),
    ("sglang-tree-trtllm-mha", "rejects", "attention backend trtllm_mha has chains only",
     f"{_HOOK}:1176-1180", _tree_with(BACKEND, "trtllm_mha"), (BACKEND,)),
    ("sglang-tree-flashinfer-mla", "rejects", "FlashInfer's MLA kernel has chains only",
     f"{_ATTENTION}/flashinfer_mla_backend.py:1196", _tree_for(*MLA), ()),
    ("sglang-tree-flashmla", "rejects", "attention backend flashmla has chains only",
     f"{_ATTENTION}/flashmla_backend.py:608", _tree_with(BACKEND, "flashmla"), (BACKEND,)),
    ("sglang-tree-lightning", "rejects", "lightning attention has chains only",
     f"{_ATTENTION}/linear/lightning_backend.py:88",
     _tree_for("bailing_hybrid"), ()),
    ("sglang-tree-kda", "rejects", "KDA verified by FlashInfer has chains only",
     f"{_ATTENTION}/linear/kda_backend.py:508", _tree_for("kimi_linear"), ()),
    ("sglang-tree-qsa", "rejects", "attention backend qsa has chains only",
     f"{_ATTENTION}/qwen_sparse_attn_backend.py:289, 2037", _tree_with(BACKEND, "qsa"),
     (BACKEND,)),
    ("sglang-tree-minimax-rocm", "rejects", "MiniMax sparse attention on ROCm has chains only",
     f"{_ATTENTION}/minimax_sparse_backend.py:281", _minimax_on_amd, ()),
    ("sglang-tree-deepseek-v4", "rejects", "DeepSeek-V4 has chains only",
     "sglang/srt/arg_groups/deepseek_v4_hook.py:156", _tree_for("deepseek_v4"), ()),
    ("sglang-tree-hisparse", "rejects", "hierarchical sparse attention has chains only",
     "sglang/srt/arg_groups/hisparse_hook.py:118", _tree_with("enable-hisparse"),
     ("enable-hisparse",)),
    ("sglang-kv-sharding", "rejects", "KV cache sharding has no EAGLE-3",
     "sglang/srt/arg_groups/kv_shard_hook.py:107-118", _any_with("enable-kv-cache-sharding"),
     ("enable-kv-cache-sharding",)),
    ("sglang-tree-unified-memory", "rejects", "unified memory has chains only",
     "sglang/srt/arg_groups/kv_cache_hook.py:601", _tree_with("enable-unified-memory"),
     ("enable-unified-memory",)),
    ("sglang-tree-replayssm", "rejects", "the replay of linear attention has chains only",
     "sglang/srt/arg_groups/attention_hook.py:450-458",
     _tree_with("enable-linear-replayssm-spec"), ("enable-linear-replayssm-spec",)),
    ("sglang-tree-rejection", "rejects", "rejection sampling has chains only",
     f"{_HOOK}:1224-1227", _tree_with("speculative-use-rejection-sampling"),
     ("speculative-use-rejection-sampling",)),
    ("sglang-tree-pages", "rejects",
     "trees with pages of more than one token need flashinfer, fa3 or triton",
     f"{_HOOK}:1268-1282", _paged_tree, (BACKEND, PAGE)),
    ("sglang-tree-window", "rejects", "fa3 has no trees with pages and a sliding window",
     f"{_ATTENTION}/flashattention_backend.py:3418", _windowed_tree, (BACKEND, PAGE)),
    ("sglang-tree-rocm", "rejects",
     "on ROCm a tree is verified greedily: temperature and top_p are ignored",
     f"{_HOOK}:1182-1206", _is_amd_tree, ()),
    ("sglang-disaggregation-topk", "rejects", "disaggregation carries a topk of 16 at most",
     "sglang/srt/disaggregation/utils.py:650", _wide_disaggregated, ("disaggregation-mode",)),
    ("sglang-mixed-chunk", "note", "--enable-mixed-chunk is switched off with speculation",
     f"{_HOOK}:1104-1118", _any_with("enable-mixed-chunk"), ("enable-mixed-chunk",)),
    ("sglang-adaptive-dp", "schedule", "--speculative-adaptive is off with DP attention",
     "sglang/srt/speculative/adaptive_spec_params.py:81-85",
     _schedule_stays("enable-dp-attention"), ("enable-dp-attention",)),
    ("sglang-adaptive-overlap", "schedule", "--speculative-adaptive is off with two-batch overlap",
     "sglang/srt/speculative/adaptive_spec_params.py:91-95",
     _schedule_stays("enable-two-batch-overlap"), ("enable-two-batch-overlap",)),
    ("sglang-adaptive-pdmux", "schedule", "--speculative-adaptive is off with pdmux",
     "sglang/srt/speculative/adaptive_spec_params.py:96-100", _schedule_stays("enable-pdmux"),
     ("enable-pdmux",)),
    ("sglang-adaptive-tree", "schedule", "--speculative-adaptive has chains only",
     "sglang/srt/speculative/adaptive_spec_params.py:75-79", _is_tree, ()),
    ("sglang-max-running-requests", "set", f"unset it becomes {SGLANG_MAX_REQUESTS}",
     f"{_HOOK}:1086-1094", _never, ()),
    ("sglang-graph-batch", "set", "beyond the largest graph a batch runs without one",
     f"{_MEMORY}:90-170", _never, ()),
    ("sglang-kv-reserve", "set", "each request keeps 2 max(s k, n) slots of KV cache free",
     "sglang/srt/mem_cache/allocation_sizing.py:28-70", _never, ()),
    ("sglang-memory-fraction", "set",
     "the default leaves nothing for the draft, its KV cache and its graphs",
     f"{_MEMORY}:281-342, 418-462", _never, ()),
)  # fmt: skip

_VLLM_ROWS: tuple[_Row, ...] = (
    ("vllm-chains-only", "rejects", "vLLM drafts chains only",
     "vllm/v1/spec_decode/llm_base_proposer.py:1625", _is_tree, ()),
    ("vllm-draft-tokens", "held", "num_speculative_tokens is above 0",
     f"{_SPECULATIVE}:393, 1503-1506", _never, ()),
    ("vllm-token-budget", "rejects",
     "all requests' tokens to verify exceed max-num-batched-tokens",
     f"{_VLLM}:667-685, 2254-2290", _beyond_budget, (TOKENS,)),
    ("vllm-few-tokens", "note", "max-num-batched-tokens below 8192 can slow speculation down",
     f"{_VLLM}:2254-2290", _few_tokens, (TOKENS,)),
    ("vllm-parallel-drafting", "rejects", "parallel drafting needs a draft trained for it",
     f"{_SPECULATIVE}:478", _any_with("parallel-drafting"), ("parallel-drafting",)),
    ("vllm-padded-batch", "note", "some attention backends need the padded drafter batch",
     f"{_SPECULATIVE}:447", _any_with("disable-padded-drafter-batch"),
     ("disable-padded-drafter-batch",)),
    ("vllm-schedule-dp", "schedule", "a schedule by batch size is off under data parallelism",
     f"{_VLLM}:1058-1078", _schedule_stays(DP), (DP,)),
    ("vllm-graph-tokens", "set", "beyond the largest graph a batch runs without one",
     f"{_VLLM}:2297-2330", _beyond_graphs, ()),
    ("vllm-schedule-graphs", "schedule",
     "a schedule by batch size leaves piecewise graphs unless VLLM_USE_V2_MODEL_RUNNER=1",
     f"{_VLLM}:1039-1056", _is_chain, ()),
)  # fmt: skip

LIMITS: Final = (
    *(Limit(row[0], "sglang", *row[1:]) for row in _SGLANG_ROWS),
    *(Limit(row[0], "vllm", *row[1:]) for row in _VLLM_ROWS),
    Limit(
        "memory",
        None,
        "rejects",
        "weights, KV cache and graphs do not fit",
        "planning/memory.py",
        _never,
        (),
    ),
    Limit(
        "break-even",
        None,
        "rejects",
        "a round costs more steps than it can yield tokens",
        "tokens per verify <= num_steps + 1 (arXiv 2211.17192, theorem 3.8)",
        _never,
        (),
    ),
)
"""The last two are judged in plan.py, which knows the cost and the memory."""

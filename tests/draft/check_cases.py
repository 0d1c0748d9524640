"""One small draft for each rule of `eagle3 check`: what is changed, and which findings follow."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eagle3_plugin.draft.check import Report, check
from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.config import DraftConfig, TargetConfig
from eagle3_plugin.draft.dialects.settle import NOTHING_SETTLED, Settle
from eagle3_plugin.draft.rules.rule import Engine
from eagle3_plugin.draft.sidecar import new_sidecar
from eagle3_plugin.hub import resolve
from tests.drafts import draft_config, write_random
from tests.stored import edit_tensors, load_tensors, save_tensors, set_offsets

TAP_IDS = "eagle_aux_hidden_state_layer_ids"


def target_config(**changes: Any) -> TargetConfig:
    """A text target of 8 layers, for which `drafts.draft_config()` is a draft."""
    values: dict[str, Any] = {
        "architecture": "Qwen3ForCausalLM",
        "model_type": "qwen3",
        "hidden_size": 64,
        "num_layers": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": 512,
        "max_position_embeddings": 1024,
        "rope": {"theta": 1000000.0},
        "tie_word_embeddings": False,
    }
    return TargetConfig.model_validate(values | changes)


@dataclass(frozen=True)
class Trip:
    """expected: rule -> severity in vLLM, vLLM with the plugin, SGLang, SGLang with the plugin.

    draft: changes of DraftConfig; fields: of config.json as it is written; edit: of the folder;
    target: of the target, None = no target is given; sidecar: what an eagle3.json says besides.
    """

    name: str
    expected: dict[str, str]
    draft: dict[str, Any] = field(default_factory=dict)
    dialect: str = "sglang"
    fields: dict[str, Any] = field(default_factory=dict)
    edit: Callable[[Path], None] | None = None
    target: dict[str, Any] | None = field(default_factory=dict)
    settle: Settle = NOTHING_SETTLED
    sidecar: dict[str, Any] = field(default_factory=dict)
    folder: str = "draft"
    versions: tuple[str | None, str | None] = ("0.32.0", "0.5.23")


def opened(folder: Path) -> Checkpoint:
    return Checkpoint.open(resolve(str(folder)))


def written(trip: Trip, folder: Path) -> Path:
    path = folder / trip.folder
    if not path.exists():
        write_random(path, draft_config(**trip.draft), trip.dialect, config_changes=trip.fields)
        if trip.sidecar:
            add_sidecar(path, draft_config(**trip.draft, **trip.sidecar))
        if trip.edit is not None:
            trip.edit(path)
    return path


def add_sidecar(folder: Path, config: DraftConfig) -> None:
    """An eagle3.json beside the config.json of that folder."""
    written_config = json.loads((folder / "config.json").read_text())
    (folder / "eagle3.json").write_text(json.dumps(new_sidecar(config, written_config, {})))


def run(trip: Trip, path: Path, column: str, settle: Settle | None = None) -> Report:
    """The report on a folder in one engine, with a case's target, answers and releases."""
    engine: Engine = "sglang" if column.startswith("sglang") else "vllm"
    return check(
        opened(path),
        None if trip.target is None else target_config(**trip.target),
        engine,
        plugin=column.endswith("+plugin"),
        settle=trip.settle if settle is None else settle,
        engine_version=trip.versions[engine == "sglang"],
    )


def tensors(*, drop: tuple[str, ...] = (), **add: Any) -> Callable[[Path], None]:
    return lambda folder: edit_tensors(folder, drop=drop, **add)


def renamed(names: dict[str, str]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        save_tensors(folder, {names.get(n, n): t for n, t in load_tensors(folder).items()})

    return edit


def prefixed(folder: Path) -> None:
    save_tensors(folder, {f"model.{name}": t for name, t in load_tensors(folder).items()})


def not_a_number(folder: Path) -> None:
    """One NaN of bfloat16 (0x7fc0) in a norm."""
    table = load_tensors(folder)
    dtype, shape, data = table["norm.weight"]
    save_tensors(folder, table | {"norm.weight": (dtype, shape, data[:4] + b"\xc0\x7f" + data[6:])})


def offsets(values: list[int]) -> Callable[[Path], None]:
    return lambda folder: set_offsets(folder, values)


def unmasked(values: list[int]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        set_offsets(folder, values)
        edit_tensors(folder, drop=("t2d",))

    return edit


def then(*edits: Callable[[Path], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        for one in edits:
            one(folder)

    return edit


def stale_sidecar(folder: Path) -> None:
    (folder / "eagle3.json").write_text('{"schema": 1, "config_sha256": "0", "draft": {}}')


def zero_mask(folder: Path) -> None:
    edit_tensors(folder, t2d=("BOOL", (512,)))


def nested_theta_removed(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["transformer_layer_config"]["rope_theta"]
    path.write_text(json.dumps(config))


MROPE = {"rope": {"theta": 1e6, "mrope_section": (6, 5, 5), "mrope_interleaved": True}}
IMAGES = MROPE | {"is_multimodal": True}
SECTION = {"rope_type": "default", "mrope_section": [6, 5, 5]}
ALL = "error error error error"
STOCK = "error info error info"
WARNED = "warning warning warning warning"
TOLD = "info info info info"
ROOT: dict[str, Any] = {"taps": (3, 4, 6)}

SETTING_TRIPS = (
    Trip("an unknown release", {"engine-version-unknown": TOLD},
         versions=(None, None)),
    Trip("another release", {"engine-version": WARNED},
         versions=("0.31.0", "0.5.24")),
    Trip("a local build of the release", {}, versions=("0.32.0+cpu", "0.5.23.post1")),
    Trip("a release that is too old",
         {"engine-version": WARNED, "engine-too-old": "error error - error"},
         versions=("0.10.1.1", "0.5.10.post1")),
    Trip("a release before draft layers with norms",
         {"engine-version": WARNED, "engine-too-old": "error error - -",
          "qk-norm": "- - error info", "architecture": "- - error info"},
         dialect="vllm", draft={"decoder": "qwen3"}, versions=("0.23.0", "0.5.22")),
    Trip("no target", {"target-unknown": TOLD}, target=None),
    Trip("an answer that the files do not give",
         {"answers-not-in-files": "- error - error", "taps-misread": STOCK},
         settle=Settle(taps=(2, 4, 6))),
    Trip("an answer that the files give too", {}, settle=Settle(residual="raw")),
    Trip("a draft called AngelSlim", {"taps-angelslim": WARNED},
         folder="AngelSlim"),
    Trip("AngelSlim's config", {"taps-angelslim": WARNED},
         fields={"modal_type": "LLM"}),
    Trip("norm_output false", {"norm-output-false": TOLD},
         fields={"norm_output": False}),
    Trip("a stale eagle3.json", {"sidecar-stale": "warning error warning error"},
         edit=stale_sidecar),
)  # fmt: skip

PROBLEM_TRIPS = (
    Trip("no fc", {"not-eagle3": ALL}, edit=tensors(drop=("fc.weight",))),
    Trip("an unknown name",
         {"dialect-unknown": ALL, "architecture": ALL,
          "plugin-not-ours": "- warning - warning"},
         fields={"architectures": ["MyDraft"]}),
    Trip("a field is absent", {"config-field-missing": ALL}, fields={"rms_norm_eps": None}),
    Trip("a field of another type", {"config-field-type": ALL}, fields={"num_hidden_layers": "1"}),
    Trip("heads that do not divide", {"config-inconsistent": ALL},
         fields={"num_key_value_heads": 3}),
    Trip("another activation", {"unsupported": ALL}, fields={"hidden_act": "gelu"}),
    Trip("boundaries in eagle_config", {"taps-ambiguous": ALL},
         fields={"eagle_config": {TAP_IDS: [2, 4, 5]}}),
    Trip("output ids at the top level",
         {"taps-ambiguous": ALL, "architecture": "- - error info"}, dialect="vllm",
         fields={TAP_IDS: [1, 3, 4]}),
    Trip("two lists that disagree", {"taps-conflict": ALL}, dialect="universal", draft=ROOT,
         fields={TAP_IDS: [2, 4, 6]}),
    Trip("four taps and no list", {"taps-unknown": ALL},
         fields={"num_aux_hidden_states": 4}, edit=tensors(fc__weight=("BF16", (64, 256)))),
    Trip("a tap twice", {"taps-repeat": ALL}, fields={"eagle_config": {TAP_IDS: [2, 2, 5]}}),
    Trip("speculators without norm_before_residual",
         {"residual-ambiguous": ALL, "format-speculators": "- - error info"},
         dialect="speculators", fields={"norm_before_residual": None}),
    Trip("SpecForge's norm_output", {"norm-output-ambiguous": ALL}, fields={"norm_output": True}),
    Trip("a norm that is switched off", {"norm-conflict": ALL},
         draft={"fc_input_norm": "joint"}, fields={"norm_before_fc": False}),
    Trip("fewer layers than the config says", {"num-layers": ALL},
         fields={"num_hidden_layers": 2}),
    Trip("a missing norm", {"tensor-missing": ALL}, edit=tensors(drop=("norm.weight",))),
    Trip("an unknown tensor", {"tensor-extra": ALL}, edit=tensors(extra=("BF16", (4,)))),
    Trip("a norm of another width", {"tensor-shape": ALL},
         edit=tensors(norm__weight=("BF16", (65,)))),
    Trip("a norm under two names", {"tensor-twice": ALL, "tensor-prefix": "error info - -"},
         edit=tensors(model__norm__weight=("BF16", (64,)))),
    Trip("8-bit weights", {"tensor-dtype": ALL},
         edit=tensors(midlayer__mlp__up_proj__weight=("I8", (96, 64)))),
    Trip("an fc of no tap's width", {"fc-width": ALL, "tensor-shape": ALL},
         edit=tensors(fc__weight=("BF16", (64, 193)))),
    Trip("no lm_head", {"lm-head-missing": ALL, "tensor-missing": ALL},
         edit=tensors(drop=("lm_head.weight",))),
    Trip("a narrow draft without an embedding", {"embedding-missing": ALL},
         draft={"hidden_size": 32, "embedding": "own"},
         edit=tensors(drop=("embed_tokens.weight",))),
    Trip("a reduced head without d2t", {"d2t-missing": ALL}, edit=tensors(drop=("d2t", "t2d"))),
    Trip("a short d2t", {"d2t-length": ALL}, edit=offsets([0] * 127)),
    Trip("d2t leads out", {"d2t-range": ALL}, edit=offsets([0] * 127 + [400])),
    Trip("absolute ids in d2t", {"d2t-absolute": ALL}, edit=unmasked(list(range(200, 328)))),
    Trip("an id twice in d2t", {"d2t-duplicates": ALL}, edit=offsets([1, 0] + [0] * 126)),
    Trip("d2t in floating point", {"d2t-dtype": "warning error error error"},
         edit=tensors(d2t=("F32", (128,)))),
    Trip("two thetas", {"rope-conflict": ALL},
         fields={"rope_parameters": {"rope_type": "default", "rope_theta": 5e6}}),
    Trip("an unknown rope", {"rope-type": ALL}, fields={"rope_scaling": {"rope_type": "longrope"}}),
    Trip("a factor that means nothing", {"rope-parameter": ALL},
         fields={"rope_scaling": {"rope_type": "default", "factor": 4.0}}),
    Trip("yarn without a factor", {"rope": ALL}, fields={"rope_scaling": {"rope_type": "yarn"}}),
    Trip("a section of another head_dim", {"mrope-section": ALL},
         fields={"rope_scaling": SECTION | {"mrope_section": [6, 5, 4], "mrope_interleaved": True}},
         target=MROPE),
    Trip("another target's width", {"target-hidden-size": ALL}, target={"hidden_size": 63}),
    Trip("another target's vocabulary", {"target-vocabulary": ALL}, target={"vocab_size": 513}),
    Trip("a shallow target", {"taps-range": ALL}, dialect="universal", draft={"taps": (2, 4, 9)}),
)  # fmt: skip

WEIGHT_TRIPS = (
    Trip("a NaN", {"tensor-not-finite": ALL}, edit=not_a_number),
    Trip("a prefix", {"tensor-prefix": STOCK}, edit=prefixed),
    Trip("a prefix everywhere but on the head", {"tensor-prefix": "error info - -"},
         edit=then(prefixed, renamed({"model.lm_head.weight": "lm_head.weight"}))),
    Trip("old names of the norms", {"tensor-aux-norm-names": "error info - -"},
         draft={"fc_input_norm": "per_tap"},
         edit=renamed({"fc_norm.0.weight": "aux_norm_low.weight",
                       "fc_norm.1.weight": "aux_norm_mid.weight",
                       "fc_norm.2.weight": "aux_norm_high.weight"})),
    Trip("the verifier's norm", {"tensor-dead": "error info - -"},
         edit=tensors(verifier_norm__weight=("BF16", (64,)))),
    Trip("an empty t2d", {"t2d-disagrees": WARNED}, edit=zero_mask),
    Trip("a norm in F32", {"tensor-dtype-mixed": TOLD},
         edit=tensors(norm__weight=("F32", (64,)))),
    Trip("weights in F32", {"tensor-dtype-wide": TOLD, "dtype-auto": "- - warning info"},
         draft={"dtype": "F32"}),
    Trip("a tensor above one MiB", {"weights-not-read": TOLD},
         draft={"draft_vocab_size": 16384, "vocab_size": 16385}, target={"vocab_size": 16385}),
)  # fmt: skip

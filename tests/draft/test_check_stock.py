"""What the rules say that stock vLLM reads, against vLLM itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.rules.stock import PLUGIN_NAMES, VLLM_CLASSES, read_as_vllm, vllm_layers
from tests.draft.check_cases import TAP_IDS

pytestmark = [pytest.mark.engine, pytest.mark.slow]

CONFIGS: list[dict[str, Any]] = [
    {},
    {"eagle_config": {TAP_IDS: [1, 2, 3]}},
    {TAP_IDS: [1, 2, 3]},
    {TAP_IDS: [4, 5, 6], "eagle_config": {TAP_IDS: [1, 2, 3]}},
    {"eagle_config": {"layer_ids": [7, 8]}},
    {TAP_IDS: [], "eagle_config": {TAP_IDS: [1]}},
    {"eagle_config": None},
]

ASK = """
import json, sys
from types import SimpleNamespace as Namespace
from transformers import AutoConfig, LlamaConfig
from vllm.model_executor.models.registry import _SPECULATIVE_DECODING_MODELS as models
from vllm.transformers_utils.configs.eagle import EAGLEConfig
from vllm.v1.worker.gpu.spec_decode.eagle.eagle3_utils import get_eagle3_aux_layers_from_config
from vllm.v1.worker.gpu_model_runner import GPUModelRunner
names, configs = json.loads(sys.argv[1])
v1 = GPUModelRunner._get_eagle3_aux_layers_from_config
taps = []
for config in configs:
    spec = Namespace(draft_model_config=Namespace(hf_config=Namespace(**config)))
    runner = Namespace(speculative_config=spec)
    taps.append([v1(runner), get_eagle3_aux_layers_from_config(spec)])
classes = {}
for name in names:
    draft = EAGLEConfig(LlamaConfig(architectures=[name]), method="eagle3")
    classes[name] = models.get(draft.architectures[0], [None])[0]
sizes = {}
for kind in ("llama", "qwen3", "qwen3_vl_text"):
    config = AutoConfig.for_model(kind, num_attention_heads=32)
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_key_value_heads",
            "head_dim")
    sizes[kind] = {key: getattr(config, key) for key in keys}
    sizes[kind]["theta"] = config.rope_parameters["rope_theta"]
print("ANSWER" + json.dumps([taps, classes, sizes]))
"""


def test_stock_vllm_reads_taps_names_and_absent_fields_as_the_rules_say(
    vllm_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", "")
    names = sorted({*PLUGIN_NAMES, *VLLM_CLASSES, "MyDraft"})
    done = subprocess.run(
        [str(vllm_python), "-c", ASK, json.dumps([names, CONFIGS])],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert "ANSWER" in done.stdout, done.stderr[-2000:]
    taps, classes, sizes = json.loads(done.stdout.partition("ANSWER")[2])
    for config, answer in zip(CONFIGS, taps, strict=True):
        ours = read_as_vllm(config).taps
        assert [ours[f"vLLM {v}"] and list(ours[f"vLLM {v}"] or ()) for v in ("V1", "V2")] == answer
    modules = {"llama": "llama_eagle3", "qwen3": "qwen3_eagle3", None: None}
    assert {n: modules[vllm_layers({"architectures": [n]})] for n in names} == classes
    for kind, expected in sizes.items():
        read = read_as_vllm({"model_type": kind, "num_attention_heads": 32})
        known = {key: value for key, value in read.sizes.items() if value is not None}
        assert known | {"theta": read.theta} == {
            key: value for key, value in expected.items() if key in {*known, "theta"}
        }

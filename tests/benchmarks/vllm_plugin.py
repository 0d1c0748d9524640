"""What the plugin costs in vLLM: decoding speed against stock, and time added to a start.

    python -m tests.benchmarks.vllm_plugin [PAIRS]

Decoding: the tiny pair in the `universal` dialect, which stock vLLM serves rightly, runs in turn
with and without the plugin, each pair in the other order than the one before, after one pair that
does not count; the figure is the median ratio of the pairs. Start: the plugin's own steps are timed
in vLLM's process on a draft of seed A's size (218 million parameters), since the spread of a whole
start is larger than what is looked for.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.convert import convert
from eagle3_plugin.draft.read import read_draft
from eagle3_plugin.hub import resolve
from eagle3_plugin.tiny import tiny_pair
from tests.drafts import draft_config, write_random
from tests.engines.jobs import Job, run_jobs

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venvs" / "vllm" / "bin" / "python"
SEED_A = {
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "draft_vocab_size": 32000,
    "target_hidden_size": 2560,
}
TARGET_A = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 2560,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 262144,
    "rope_theta": 5000000.0,
}
STEPS = """
import json, sys, time
import vllm, vllm.config.model, vllm.transformers_utils.config
from vllm.config import SpeculativeConfig
from vllm.model_executor.models import ModelRegistry
import torch, transformers
from safetensors.torch import load_file
draft, target = sys.argv[1], json.loads(sys.argv[2])
transformers.AutoConfig.for_model("llama")
weights = load_file(draft + "/model.safetensors")
begin = time.monotonic()
from eagle3_plugin.engines.vllm.plugin import register
register()
registered = time.monotonic()
from eagle3_plugin.engines.draft_config import canonical_config, hugging_face_config
from eagle3_plugin.engines.vllm.draft_config import engine_config
config = hugging_face_config(draft, None, target, engine_config)
read = time.monotonic()
from eagle3_plugin.engines.vllm import models
imported = time.monotonic()
models.canonical_weights(canonical_config(config), weights.items())
print(json.dumps({
    "register_s": registered - begin, "read_config_s": read - registered,
    "check_weights_s": time.monotonic() - imported,
}))
"""


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as folder:
        decoding(Path(folder), pairs)
        start(Path(folder))


def decoding(folder: Path, pairs: int) -> None:
    """Prints the ratio of tokens per second, plugin over stock."""
    pair = tiny_pair("llama")
    draft = folder / "universal"
    convert(read_draft(Checkpoint.open(resolve(str(pair.draft)))), draft, "universal")
    prompts = [list(p) for p in pair.prompts[:6]]
    orders = [("eagle3", ""), ("", "eagle3")] * (pairs // 2 + 1)
    jobs = [
        (plugins, Job(pair.target, draft, prompts, 192, {"plugins": plugins}))
        for order in orders[: pairs + 1]
        for plugins in order
    ]
    results = run_jobs("vllm", [job for _, job in jobs], folder / "runs")
    for result in results:
        assert result["outputs"] == results[0]["outputs"]
        assert result["rounds"] == results[0]["rounds"]
    seconds: dict[str, list[float]] = {"eagle3": [], "": []}
    for (plugins, _), result in zip(jobs[2:], results[2:], strict=True):
        seconds[plugins].append(result["elapsed_s"])
    ratios = [stock / ours for ours, stock in zip(seconds["eagle3"], seconds[""], strict=True)]
    print(
        f"decoding, plugin / stock tokens per second, measured on {platform.machine()} CPU: "
        f"median {statistics.median(ratios):.3f} of {pairs} pairs "
        f"({min(ratios):.3f} to {max(ratios):.3f})"
    )


def start(folder: Path) -> None:
    """Prints the seconds that the plugin's steps take, on a draft of seed A's size."""
    draft = write_random(folder / "seed-a", draft_config(**SEED_A))
    command = [str(PYTHON), "-c", STEPS, str(draft), json.dumps(TARGET_A)]
    runs = []
    for _ in range(5):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.strip().rpartition("\n")[2]))
    steps = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    whole = statistics.median(sum(run.values()) for run in runs)
    listed = ", ".join(f"{name} {seconds:.3f}" for name, seconds in steps.items())
    print(f"start, seconds added, measured, median of 5: {whole:.3f} ({listed})")


if __name__ == "__main__":
    main()

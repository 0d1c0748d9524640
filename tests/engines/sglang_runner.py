"""Runs jobs in real SGLang, each in a forked child of one process that imported SGLang once.

    python sglang_runner.py JOBS.json RESULTS.json

It runs in SGLang's environment. A job is an object:
    target, draft (or null), prompts (lists of token ids), max_tokens, and optionally
    settings (num_steps, topk, num_draft_tokens; 3, 1, 4), dtype (float32),
    plugins (SGLANG_PLUGINS; "none" = no plugin), environment (more variables),
    engine (more arguments of Engine), batches (lists of prompt indices sent together; else each
    prompt is sent by itself), sampling (more sampling parameters, one object or one a prompt).
Its result has either `error` (type and message) or
    elapsed_s (of all prompts), outputs (token ids of each prompt), rounds (verifies of each),
    meta (meta_info of each), trees (per prompt and round, the ids that were verified and their
    depths, the newest token first; only when each prompt is sent by itself),
    log (what the engine printed).

SGLang starts its scheduler with `spawn`, which imports everything again for 30 seconds. Here it is
made to fork, so that a job takes a few seconds and the recorder below is in the scheduler too.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "SGLANG_USE_CPU_ENGINE": "1",
    "TORCH_COMPILE_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
OPTIONS: dict[str, Any] = {
    "device": "cpu",
    "attention_backend": "torch_native",
    "prefill_attention_backend": "intel_amx",
    "decode_attention_backend": "intel_amx",
    "disable_cuda_graph": True,
    "skip_tokenizer_init": True,
    "mem_fraction_static": 0.1,
    "max_total_tokens": 8192,
    "max_running_requests": 4,
    "disable_radix_cache": True,
    "log_level": "info",
}


def main() -> None:
    jobs_path, results_path = map(Path, sys.argv[1:3])
    os.environ.update(ENVIRONMENT)
    import sglang.srt.entrypoints.engine as engine
    import sglang.srt.managers.scheduler
    import sglang.srt.speculative.eagle_worker_v2  # noqa: F401

    set_start_method = multiprocessing.set_start_method
    engine.mp.set_start_method = lambda method, force=False: set_start_method("fork", force=True)
    results = []
    for index, job in enumerate(json.loads(jobs_path.read_text())):
        part = results_path.with_suffix(f".{index}")
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            _child(job, part)
        os.waitpid(child, 0)
        results.append(json.loads(part.read_text()) if part.exists() else _died(part))
        results_path.write_text(json.dumps(results))


def _died(part: Path) -> dict[str, Any]:
    """SGLang kills the whole tree when its scheduler fails; why is in the log."""
    log = part.with_name(part.name + ".log").read_text()
    return {"error": {"type": "died", "message": log}, "log": log}


def _child(job: dict[str, Any], part: Path) -> None:
    log = part.with_name(part.name + ".log")
    with log.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    try:
        os.environ["SGLANG_PLUGINS"] = job.get("plugins", "eagle3")
        os.environ.update(job.get("environment", {}))
        result = run(job, part.with_name(part.name + ".trees"))
    except BaseException as error:
        traceback.print_exc()
        result = {"error": {"type": type(error).__name__, "message": str(error)}}
    result["log"] = log.read_text()
    part.write_text(json.dumps(result))
    os._exit(0)


def run(job: dict[str, Any], record: Path) -> dict[str, Any]:
    """Starts the engine of one job, sends its prompts, and counts."""
    import sglang

    options = {**OPTIONS, "model_path": job["target"], "dtype": job.get("dtype", "float32")}
    if job["draft"] is not None:
        num_steps, topk, num_draft_tokens = job.get("settings", (3, 1, 4))
        options |= {
            "speculative_algorithm": "EAGLE3",
            "speculative_draft_model_path": job["draft"],
            "speculative_num_steps": num_steps,
            "speculative_eagle_topk": topk,
            "speculative_num_draft_tokens": num_draft_tokens,
        }
        _record(record)
    engine = sglang.Engine(**{**options, **job.get("engine", {})})
    params = {"temperature": 0, "max_new_tokens": job["max_tokens"], "ignore_eos": True}
    more = job.get("sampling", {})
    prompts = job["prompts"]
    answers: dict[int, Any] = {}
    begin = time.monotonic()
    for batch in job.get("batches") or [[i] for i in range(len(prompts))]:
        found = engine.generate(
            input_ids=[prompts[i] for i in batch],
            sampling_params=[
                {**params, **(more[i] if isinstance(more, list) else more)} for i in batch
            ],
        )
        answers |= dict(zip(batch, found, strict=True))
    elapsed_s = time.monotonic() - begin
    engine.shutdown()
    metas = [answers[i]["meta_info"] for i in range(len(prompts))]
    return {
        "elapsed_s": elapsed_s,
        "outputs": [list(answers[i]["output_ids"]) for i in range(len(prompts))],
        "rounds": [meta.get("spec_verify_ct", 0) for meta in metas],
        "meta": metas,
        "trees": _by_prompt(record, [meta.get("spec_verify_ct", 0) for meta in metas])
        if job["draft"] is not None and not job.get("batches")
        else None,
    }


def _by_prompt(record: Path, rounds: list[int]) -> list[list[Any]]:
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert len(lines) == sum(rounds), f"{len(lines)} verify passes, {sum(rounds)} counted"
    taken = iter(lines)
    return [[next(taken) for _ in range(count)] for count in rounds]


def _record(path: Path) -> None:
    """Keeps what each verify pass is given; in the scheduler, which is forked from this process."""
    import sglang.srt.speculative.eagle_worker_common as worker

    build = worker.build_tree_kernel_efficient

    def recorded(*args: Any, **kwargs: Any) -> Any:
        built = build(*args, **kwargs)
        seq_lens: Any = args[4]
        width = len(built[5]) // len(seq_lens)
        depths = built[1].view(len(seq_lens), width) - seq_lens[:, None]
        line = {"ids": built[5].tolist(), "depths": depths.flatten().tolist()}
        with path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        return built

    worker.build_tree_kernel_efficient = recorded


if __name__ == "__main__":
    main()

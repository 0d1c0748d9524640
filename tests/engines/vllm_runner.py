"""Runs jobs in real vLLM, each in a forked child of one process that imported vLLM once.

    python vllm_runner.py JOBS.json RESULTS.json

It runs in vLLM's environment. A job is an object:
    target, draft (or null), prompts (lists of token ids), max_tokens, and optionally
    num_speculative_tokens (3), dtype (float32), plugins (VLLM_PLUGINS; null = all, "" = none),
    speculative (more fields of the speculative config), engine (more arguments of LLM).
Its result has either `error` (type and message) or
    elapsed_s (of all prompts), outputs (token ids of each prompt),
    rounds (verifies of each prompt), accepted (draft tokens),
    drafts (per prompt and round, the drafted ids), taps (what the target captures), draft_class.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def main() -> None:
    jobs_path, results_path = map(Path, sys.argv[1:3])
    os.environ.update(ENVIRONMENT)
    import vllm.entrypoints.llm
    import vllm.v1.engine.llm_engine
    import vllm.v1.worker.cpu_worker  # noqa: F401

    results = []
    for index, job in enumerate(json.loads(jobs_path.read_text())):
        part = results_path.with_suffix(f".{index}")
        child = os.fork()
        if child == 0:
            _child(job, part)
        os.waitpid(child, 0)
        died = {"error": {"type": "died", "message": "the process ended without a result"}}
        results.append(json.loads(part.read_text()) if part.exists() else died)
        results_path.write_text(json.dumps(results))


def _child(job: dict[str, Any], part: Path) -> None:
    try:
        if job.get("plugins") is not None:
            os.environ["VLLM_PLUGINS"] = job["plugins"]
        result = run(job)
    except BaseException as error:
        traceback.print_exc()
        result = {"error": {"type": type(error).__name__, "message": str(error)}}
    part.write_text(json.dumps(result))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Starts the engine of one job, sends its prompts one after the other, and counts."""
    from vllm import LLM, SamplingParams

    options: dict[str, Any] = {
        "skip_tokenizer_init": True,
        "dtype": job.get("dtype", "float32"),
        "enforce_eager": True,
        "max_model_len": 512,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 1024,
        "enable_prefix_caching": False,
        "disable_log_stats": False,
        **job.get("engine", {}),
    }
    if job["draft"] is not None:
        options["speculative_config"] = {
            "method": "eagle3",
            "model": job["draft"],
            "num_speculative_tokens": job.get("num_speculative_tokens", 3),
            **job.get("speculative", {}),
        }
    llm = LLM(job["target"], **options)
    runner = _runner(llm)
    drafted = _record(runner) if job["draft"] is not None else []
    params = SamplingParams(
        temperature=0, max_tokens=job["max_tokens"], detokenize=False, ignore_eos=True
    )
    outputs, rounds, accepted, drafts = [], [], [], []
    begin = time.monotonic()
    for ids in job["prompts"]:
        before = _counters(llm)
        drafted.clear()
        answer = llm.generate([{"prompt_token_ids": ids}], params, use_tqdm=False)
        after = _counters(llm)
        outputs.append(list(answer[0].outputs[0].token_ids))
        rounds.append(after[0] - before[0])
        accepted.append(after[1] - before[1])
        drafts.append(list(drafted))
    return {
        "elapsed_s": time.monotonic() - begin,
        "outputs": outputs,
        "rounds": rounds,
        "accepted": accepted,
        "drafts": drafts,
        "taps": list(runner.model.model.aux_hidden_state_layers) if job["draft"] else None,
        "draft_class": type(runner.drafter.model).__name__ if job["draft"] else None,
    }


def _runner(llm: Any) -> Any:
    worker = llm.llm_engine.model_executor.driver_worker
    return getattr(worker, "worker", worker).model_runner


def _record(runner: Any) -> list[list[int]]:
    """Keeps what each call of the drafter's `propose` returns for the only request."""
    kept: list[list[int]] = []
    propose = runner.drafter.propose

    def recorded(*args: Any, **kwargs: Any) -> Any:
        ids = propose(*args, **kwargs)
        kept.append(ids[0].tolist())
        return ids

    runner.drafter.propose = recorded
    return kept


def _counters(llm: Any) -> tuple[int, int]:
    """Verify rounds and accepted draft tokens so far, from the engine's own metrics."""
    values = {m.name: getattr(m, "value", 0) for m in llm.get_metrics()}
    return (
        int(values.get("vllm:spec_decode_num_drafts", 0)),
        int(values.get("vllm:spec_decode_num_accepted_tokens", 0)),
    )


if __name__ == "__main__":
    main()

"""Runs jobs in real vLLM, each in a forked child of one process that imported vLLM once.

    python vllm_runner.py JOBS.json RESULTS.json

It runs in vLLM's environment. A job is an object:
    target, draft (or null), prompts, max_tokens, and optionally
    num_speculative_tokens (3), dtype (float32), plugins (VLLM_PLUGINS; null = all, "" = none),
    speculative (more fields of the speculative config), engine (more arguments of LLM),
    together (all prompts are sent at once), abort_after (tokens; the first prompt is also sent
    beforehand, and aborted when it has so many).
A prompt is a list of token ids, or {"ids": [with one image_pad for each image], "images": [paths]},
or {"ids": [with one video_pad], "video": [paths of its frames]}.
Its result has either `error` (type and message) or
    elapsed_s (of all prompts), outputs (token ids of each prompt),
    num_prompt_tokens (of each prompt, image placeholders expanded),
    num_cached_tokens (of each prompt, found in the prefix cache),
    rounds (verifies of each prompt; of all, in one entry, when sent together),
    accepted (draft tokens, likewise), drafts (per prompt and round, the drafted ids),
    taps (what the target captures), draft_class.
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
        "skip_tokenizer_init": all(isinstance(prompt, list) for prompt in job["prompts"]),
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
    drafted = _record(runner) if job["draft"] is not None else {}
    params = SamplingParams(
        temperature=0, max_tokens=job["max_tokens"], detokenize=False, ignore_eos=True
    )
    prompts = [_prompt(prompt) for prompt in job["prompts"]]
    if job.get("abort_after"):
        _abort(llm, prompts[0], params, job["abort_after"])
    answers, rounds, accepted = [], [], []
    begin = time.monotonic()
    for batch in [prompts] if job.get("together") else [[prompt] for prompt in prompts]:
        before = _counters(llm)
        answers += llm.generate(batch, params, use_tqdm=False)
        after = _counters(llm)
        rounds.append(after[0] - before[0])
        accepted.append(after[1] - before[1])
    return {
        "elapsed_s": time.monotonic() - begin,
        "outputs": [list(answer.outputs[0].token_ids) for answer in answers],
        "num_prompt_tokens": [len(answer.prompt_token_ids) for answer in answers],
        "num_cached_tokens": [answer.num_cached_tokens for answer in answers],
        "rounds": rounds,
        "accepted": accepted,
        "drafts": [_drafts_of(answer.request_id, drafted) for answer in answers],
        "taps": _taps(runner) if job["draft"] else None,
        "draft_class": type(runner.drafter.model).__name__ if job["draft"] else None,
    }


def _prompt(prompt: Any) -> dict[str, Any]:
    """A prompt of a job in vLLM's form."""
    if isinstance(prompt, list):
        return {"prompt_token_ids": prompt}
    import numpy as np
    from PIL import Image

    def opened(paths: list[str]) -> list[Any]:
        return [Image.open(path).convert("RGB") for path in paths]

    data: dict[str, Any] = {}
    if "images" in prompt:
        data["image"] = opened(prompt["images"])
    if "video" in prompt:
        frames = np.stack([np.asarray(frame) for frame in opened(prompt["video"])])
        data["video"] = [(frames, _video_metadata(len(frames)))]
    return {"prompt_token_ids": prompt["ids"], "multi_modal_data": data}


def _video_metadata(num_frames: int) -> dict[str, Any]:
    return {
        "fps": 2.0,
        "duration": num_frames / 2.0,
        "total_num_frames": num_frames,
        "frames_indices": list(range(num_frames)),
        "video_backend": "opencv",
        "do_sample_frames": False,
    }


def _abort(llm: Any, prompt: dict[str, Any], params: Any, num_tokens: int) -> None:
    """Sends a prompt and aborts it once it has `num_tokens` tokens."""
    engine = llm.llm_engine
    engine.add_request("aborted", prompt, params)
    while engine.has_unfinished_requests():
        for output in engine.step():
            if len(output.outputs[0].token_ids) >= num_tokens:
                engine.abort_request(["aborted"])
                return


def _taps(runner: Any) -> list[int]:
    target = getattr(runner.model, "language_model", runner.model)
    return list(target.model.aux_hidden_state_layers)


def _runner(llm: Any) -> Any:
    worker = llm.llm_engine.model_executor.driver_worker
    return getattr(worker, "worker", worker).model_runner


def _record(runner: Any) -> dict[str, list[list[int]]]:
    """Keeps, by the engine's request id, what each call of the drafter's `propose` returns.

    A request whose prompt is not yet run to its end gets drafts too, which vLLM throws away.
    """
    kept: dict[str, list[list[int]]] = {}
    propose = runner.drafter.propose

    def recorded(*args: Any, **kwargs: Any) -> Any:
        ids = propose(*args, **kwargs)
        for row, request in enumerate(runner.input_batch.req_ids):
            if not runner.discard_request_mask.np[row]:
                kept.setdefault(request, []).append(ids[row].tolist())
        return ids

    runner.drafter.propose = recorded
    return kept


def _drafts_of(request_id: str, drafted: dict[str, list[list[int]]]) -> list[list[int]]:
    """vLLM's engine appends a random part to the id of a request."""
    found = [rounds for name, rounds in drafted.items() if name.split("-")[0] == request_id]
    return found[0] if found else []


def _counters(llm: Any) -> tuple[int, int]:
    """Verify rounds and accepted draft tokens so far, from the engine's own metrics."""
    values = {m.name: getattr(m, "value", 0) for m in llm.get_metrics()}
    return (
        int(values.get("vllm:spec_decode_num_drafts", 0)),
        int(values.get("vllm:spec_decode_num_accepted_tokens", 0)),
    )


if __name__ == "__main__":
    main()

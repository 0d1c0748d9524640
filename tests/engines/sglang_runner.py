"""Runs jobs in real SGLang, each in a forked child of one process that imported SGLang once.

    python sglang_runner.py JOBS.json RESULTS.json

It runs in SGLang's environment. A job is an object:
    target, draft (or null), prompts, max_tokens, and optionally
    settings (num_steps, topk, num_draft_tokens; 3, 1, 4), dtype (float32),
    plugins (SGLANG_PLUGINS; "none" = no plugin), environment (more variables),
    engine (more arguments of Engine), batches (lists of prompt indices sent together; else each
    prompt is sent by itself), sampling (more sampling parameters, one object or one a prompt),
    abort_after (tokens; the first prompt is sent once more beforehand, and aborted after so many),
    retract (true: every third pass some request of several is retracted).
A prompt is a list of token ids, or {"ids": [with one image_pad for each image], "images": [paths]},
or {"ids": [with one video_pad], "video": [paths of its frames]}.
Its result has either `error` (type and message) or
    elapsed_s (of all prompts), outputs (token ids of each prompt), rounds (verifies of each),
    num_prompt_tokens, num_cached_tokens (of each prompt, its images expanded),
    meta (meta_info of each), trees (per prompt and round, the ids that were verified and their
    depths, the newest token first; when each prompt is sent once and by itself),
    verified (otherwise: the same of all prompts in one list, each with `length`, its number of
    tokens before the newest one),
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
    "SGLANG_MM_AVOID_RETOKENIZE": "1",
}
OPTIONS: dict[str, Any] = {
    "device": "cpu",
    "attention_backend": "torch_native",
    "prefill_attention_backend": "intel_amx",
    "decode_attention_backend": "intel_amx",
    "disable_cuda_graph": True,
    "skip_tokenizer_init": True,
    "mem_fraction_static": 0.5,
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
    if job.get("retract"):
        sglang.srt.managers.scheduler.TEST_RETRACT = True
    engine = sglang.Engine(**{**options, **job.get("engine", {})})
    params = {"temperature": 0, "max_new_tokens": job["max_tokens"], "ignore_eos": True}
    more = job.get("sampling", {})
    prompts = job["prompts"]
    if "abort_after" in job:
        _abort(engine, _inputs(prompts[:1], job["target"]), params, job["abort_after"])
    answers: dict[int, Any] = {}
    begin = time.monotonic()
    for batch in job.get("batches") or [[i] for i in range(len(prompts))]:
        found = engine.generate(
            **_inputs([prompts[i] for i in batch], job["target"]),
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
        "num_prompt_tokens": [meta["prompt_tokens"] for meta in metas],
        "num_cached_tokens": [meta["cached_tokens"] for meta in metas],
        "meta": metas,
        **(_verified(job, record, metas) if job["draft"] is not None else {}),
    }


def _verified(job: dict[str, Any], record: Path, metas: list[Any]) -> dict[str, Any]:
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    if {"batches", "abort_after"} & set(job):
        return {"verified": lines}
    return {"trees": _by_prompt(lines, [meta["spec_verify_ct"] for meta in metas])}


def _abort(engine: Any, inputs: dict[str, Any], params: dict[str, Any], after: int) -> None:
    one = {name: values[0] for name, values in inputs.items()}
    stream = engine.generate(**one, sampling_params=params, stream=True, rid="aborted")
    num_tokens = 0
    while num_tokens < after:
        num_tokens = next(stream)["meta_info"]["completion_tokens"]
    engine.tokenizer_manager.abort_request(rid="aborted")


def _inputs(prompts: list[Any], target: str) -> dict[str, Any]:
    """The arguments of `generate` for prompts with and without images."""
    if not any(isinstance(prompt, dict) for prompt in prompts):
        return {"input_ids": prompts}
    wide: list[Any] = [one if isinstance(one, dict) else {"ids": one} for one in prompts]
    videos = [_video(one, target) if "video" in one else {} for one in wide]
    inputs: dict[str, Any] = {
        "input_ids": [(wide[i] | seen)["ids"] for i, seen in enumerate(videos)],
        "image_data": [one.get("images", []) for one in wide],
    }
    if any(videos):
        inputs["video_data"] = [[seen] if seen else [] for seen in videos]
    return inputs


def _video(prompt: dict[str, Any], target: str) -> dict[str, Any]:
    """A video as its processor cuts it up: SGLang itself reads files only, with a decoder."""
    import numpy as np
    from PIL import Image
    from transformers import AutoProcessor

    frames = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in prompt["video"]])
    order = list(range(len(frames)))
    processor = AutoProcessor.from_pretrained(target)
    seen = processor(
        text=[processor.tokenizer.decode(prompt["ids"])],
        videos=[frames],
        video_metadata=[{"fps": 2.0, "total_num_frames": len(frames), "frames_indices": order}],
        do_sample_frames=False,
        return_tensors="pt",
    )
    ids = seen["input_ids"][0].tolist()
    return {**seen, "format": "processor_output", "ids": ids}


def _by_prompt(lines: list[Any], rounds: list[int]) -> list[list[Any]]:
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
        ids = built[5].view(len(seq_lens), -1)
        depths = built[1].view(ids.shape) - seq_lens[:, None]
        columns = zip(seq_lens.tolist(), ids.tolist(), depths.tolist(), strict=True)
        with path.open("a") as stream:
            for length, nodes, below in columns:
                line = {"length": length, "ids": nodes, "depths": below}
                stream.write(json.dumps(line) + "\n")
        return built

    worker.build_tree_kernel_efficient = recorded


if __name__ == "__main__":
    main()

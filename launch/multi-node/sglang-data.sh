#!/bin/sh
# Data parallelism on SGLang's own runtime: two whole copies of the pair on this machine's two GPUs.
# SGLang 0.5.23 keeps such copies on one machine (srt/arg_groups/validation_hook.py:199), so run
# this on every machine, each on its own, and put an HTTP balancer in front of their ports 30000.
set -eu
exec python3 -m sglang.launch_server \
    --model-path Qwen/Qwen3-4B-Instruct-2507 \
    --speculative-algorithm EAGLE3 \
    --speculative-draft-model-path Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh \
    --speculative-num-steps 5 \
    --speculative-eagle-topk 4 \
    --speculative-num-draft-tokens 16 \
    --mem-fraction-static 0.678 \
    --max-running-requests 4 \
    --cuda-graph-max-bs-decode 4 \
    --dp-size 2 \
    --load-balance-method total_requests \
    --host 0.0.0.0 \
    --port 30000 \
    "$@"

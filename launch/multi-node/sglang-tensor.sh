#!/bin/sh
# Tensor parallelism over two machines with one GPU each, on SGLang's own runtime.
# On each: HEAD=<address of machine 0> NODE_RANK=<0 or 1> launch/multi-node/sglang-tensor.sh
# Machine 0 answers on port 30000. Port 20000 of it must be open to the other, on a private network.
set -eu
exec python3 -m sglang.launch_server \
    --model-path Qwen/Qwen3-4B-Instruct-2507 \
    --speculative-algorithm EAGLE3 \
    --speculative-draft-model-path Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh \
    --speculative-num-steps 5 \
    --speculative-eagle-topk 4 \
    --speculative-num-draft-tokens 16 \
    --mem-fraction-static 0.677 \
    --max-running-requests 4 \
    --cuda-graph-max-bs-decode 4 \
    --tp-size 2 \
    --nnodes 2 \
    --node-rank "${NODE_RANK:?is the number of this machine: 0 or 1}" \
    --dist-init-addr "${HEAD:?is the address of machine 0}:20000" \
    --host 0.0.0.0 \
    --port 30000 \
    "$@"

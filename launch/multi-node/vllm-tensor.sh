#!/bin/sh
# Tensor parallelism over two machines with one GPU each, on vLLM's own runtime.
# On each: HEAD=<address of machine 0> NODE_RANK=<0 or 1> launch/multi-node/vllm-tensor.sh
# Machine 0 answers on port 8000. Port 29501 of it must be open to the other, on a private network.
set -eu
[ "${NODE_RANK:?is the number of this machine: 0 or 1}" = 0 ] || set -- --headless "$@"
exec vllm serve Qwen/Qwen3-4B-Instruct-2507 \
    --speculative-config '{"method": "eagle3", "model": "Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh", "num_speculative_tokens": 4}' \
    --gpu-memory-utilization 0.92 \
    --max-num-seqs 4 \
    --tensor-parallel-size 2 \
    --nnodes 2 \
    --node-rank "$NODE_RANK" \
    --master-addr "${HEAD:?is the address of machine 0}" \
    --master-port 29501 \
    --port 8000 \
    "$@"

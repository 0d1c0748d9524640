#!/bin/sh
# Tensor parallelism over two machines with one GPU each, on Ray, for clusters that have it already.
# It needs `pip install "ray[default]"` and eagle3-plugin on both: Ray starts vLLM's workers there.
# On each: HEAD=<address of machine 0> NODE_RANK=<0 or 1> launch/multi-node/vllm-ray.sh
# Machine 0 answers on port 8000, once the other has joined. Ray's ports ask for no password.
set -eu
if [ "${NODE_RANK:?is the number of this machine: 0 or 1}" != 0 ]; then
    exec ray start --block --address "${HEAD:?is the address of machine 0}:6379"
fi
ray start --head --port 6379 --node-ip-address "${HEAD:?is the address of machine 0}"
exec vllm serve Qwen/Qwen3-4B-Instruct-2507 \
    --speculative-config '{"method": "eagle3", "model": "Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh", "num_speculative_tokens": 4}' \
    --gpu-memory-utilization 0.92 \
    --max-num-seqs 4 \
    --distributed-executor-backend ray \
    --tensor-parallel-size 2 \
    --port 8000 \
    "$@"

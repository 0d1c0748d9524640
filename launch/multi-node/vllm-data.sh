#!/bin/sh
# Data parallelism over two machines with one GPU each, on vLLM's own runtime: a whole copy of the
# pair on each, one address for both.
# On each: HEAD=<address of machine 0> NODE_RANK=<0 or 1> launch/multi-node/vllm-data.sh
# Machine 0 answers on port 8000. Port 13345 of it must be open to the other, on a private network.
set -eu
[ "${NODE_RANK:?is the number of this machine: 0 or 1}" = 0 ] ||
    set -- --headless --data-parallel-start-rank "$NODE_RANK" "$@"
exec vllm serve Qwen/Qwen3-VL-2B-Instruct \
    --speculative-config '{"method": "eagle3", "model": "taobao-mnn/Qwen3-VL-2B-Instruct-Eagle3", "num_speculative_tokens": 3}' \
    --gpu-memory-utilization 0.92 \
    --max-num-seqs 4 \
    --data-parallel-size 2 \
    --data-parallel-size-local 1 \
    --data-parallel-address "${HEAD:?is the address of machine 0}" \
    --data-parallel-rpc-port 13345 \
    --port 8000 \
    "$@"

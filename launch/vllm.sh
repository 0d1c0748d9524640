#!/bin/sh
# A checked vLLM server for one draft and its target, with the settings that `eagle3 plan` chooses
# for this machine's GPUs unless SETTINGS is set. Words after -- go to vLLM untouched:
#     PORT=8080 launch/vllm.sh -- --host 127.0.0.1
set -eu
exec eagle3 serve vllm \
    --target "${TARGET:-Qwen/Qwen3-VL-2B-Instruct}" \
    --draft "${DRAFT:-taobao-mnn/Qwen3-VL-2B-Instruct-Eagle3}" \
    --port "${PORT:-8000}" \
    ${SETTINGS:+--settings "$SETTINGS"} \
    "$@"

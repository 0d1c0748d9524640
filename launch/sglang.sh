#!/bin/sh
# A checked SGLang server for one draft and its target, with the settings that `eagle3 plan` chooses
# for this machine's GPUs unless SETTINGS is set. Words after -- go to SGLang untouched:
#     PORT=8080 launch/sglang.sh -- --host 0.0.0.0
set -eu
exec eagle3 serve sglang \
    --target "${TARGET:-Qwen/Qwen3-4B-Instruct-2507}" \
    --draft "${DRAFT:-Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh}" \
    --port "${PORT:-30000}" \
    ${SETTINGS:+--settings "$SETTINGS"} \
    "$@"

"""What our client costs: 64 parallel streaming conversations, 2,000 tokens/s in all.

    python -m tests.benchmarks.client_load [SECONDS]

A fake engine in a process of its own streams 2,000 tokens/s to 64 conversations of the closed loop
that `eagle3 bench` uses; 600 s if no time is given. Exit code 1 if the client takes half a core or
300 MB, if a token is dropped, or if fewer than 95 % of the tokens/s came, which shows nothing.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time

from eagle3_plugin.measuring.conversations import AskedSet, Conversation
from eagle3_plugin.measuring.loop import Answer, Asking, Loop
from eagle3_plugin.serving.client import Client

NUM_CONVERSATIONS = 64
TOKENS_PER_S = 2000
TOKENS = 250
MAX_CORES, MAX_MEMORY_MB = 0.5, 300


def main(seconds: float) -> int:
    engine = subprocess.Popen(
        [sys.executable, __file__, "--engine"], stdout=subprocess.PIPE, text=True
    )
    assert engine.stdout is not None
    try:
        return _measure(f"http://127.0.0.1:{engine.stdout.readline().strip()}", seconds)
    finally:
        engine.terminate()
        engine.wait()


def _measure(url: str, seconds: float) -> int:
    per_turn_s = TOKENS * NUM_CONVERSATIONS / TOKENS_PER_S
    num_rounds = max(1, round(seconds / per_turn_s))
    talk = Conversation(turns=(({"role": "user", "content": "x" * 400},),) * 2)
    asked = AskedSet("load", "here", None, (talk,) * (NUM_CONVERSATIONS * ((num_rounds + 1) // 2)))
    answers: list[Answer] = []
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    loop = Loop(
        Client(url, "fake"),
        asked,
        NUM_CONVERSATIONS,
        Asking(TOKENS, 0.0, 0, True, None),
        0,
        {},
        0.0,
        answers.append,
    )
    done = loop.run()
    elapsed_s = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_SELF)
    cores = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / elapsed_s
    memory_mb = after.ru_maxrss / 1024
    num_tokens = sum(answer.request.num_tokens for answer in answers)
    streamed = sum(len(answer.token_ids or ()) for answer in answers)
    dropped = 2 * len(asked.conversations) * TOKENS - min(num_tokens, streamed)
    print(
        f"{len(answers)} answers, {num_tokens} tokens in {elapsed_s:.0f} s: "
        f"{num_tokens / elapsed_s:.0f} tokens/s; client: {cores:.2f} cores, {memory_mb:.0f} MB; "
        f"{dropped} tokens dropped, {len(done.failures)} failures"
    )
    is_small = cores < MAX_CORES and memory_mb < MAX_MEMORY_MB
    is_loaded = num_tokens / elapsed_s >= 0.95 * TOKENS_PER_S
    return 0 if is_small and is_loaded and not dropped and not done.failures else 1


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request a connection, as our client sends them."""
    num_bytes = 0
    while (line := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            num_bytes = int(value)
    body = json.loads(await reader.readexactly(num_bytes))
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    due = time.monotonic()
    for index in range(body["max_tokens"]):
        due += NUM_CONVERSATIONS / TOKENS_PER_S
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        choice = {
            "index": 0,
            "delta": {"content": " token"},
            "token_ids": [index],
            "logprobs": None,
        }
        writer.write(_event({"id": "chatcmpl-0", "model": "fake", "choices": [choice]}))
        await writer.drain()
    usage = {"prompt_tokens": 100, "completion_tokens": body["max_tokens"]}
    writer.write(_event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n")
    await writer.drain()
    writer.close()


def _event(value: object) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


async def _engine() -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1:] == ["--engine"]:
        asyncio.run(_engine())
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 600))

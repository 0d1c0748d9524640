"""Two single-threaded workers on one set of weights.

At this size two processes that each take half of a batch beat two threads inside each operator.
The result depends on the number of workers, so it is fixed; on one core they take turns.
"""

from __future__ import annotations

import mmap
import os
import socket
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

NUM_WORKERS = 2


@dataclass(frozen=True)
class Worker:
    """One of the two; `rank` is 0 in the process that was started and 1 in its fork."""

    rank: int
    peer: socket.socket

    def meet(self) -> None:
        """Returns once both workers have called it; raises if the other one is gone."""
        try:
            self.peer.sendall(b".")
            answer = self.peer.recv(1)
        except OSError:
            answer = b""
        if not answer:
            raise ChildProcessError("the other worker has ended")

    def share(self, items: Sequence[int]) -> Sequence[int]:
        """This worker's half of the items."""
        return items[self.rank :: NUM_WORKERS]


def shared_zeros(*shape: int) -> torch.Tensor:
    """Float32 zeros in memory that a later fork shares (without files, so without /dev/shm)."""
    count = int(torch.Size(shape).numel())
    memory = mmap.mmap(-1, max(4 * count, 1))
    return torch.frombuffer(memory, dtype=torch.float32, count=count).view(shape)


def run_in_pair(work: Callable[[Worker], None]) -> None:
    """Runs `work` in this process and in a fork of it; raises if either fails.

    Call it before torch has started any thread: `torch.set_num_threads(1)` first.
    """
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        _work_and_leave(work, Worker(1, theirs))
    theirs.close()
    try:
        work(Worker(0, ours))
    finally:
        ours.close()
        _, status = os.waitpid(child, 0)
    if status:
        raise ChildProcessError(f"the second worker ended with status {status}")


def _work_and_leave(work: Callable[[Worker], None], worker: Worker) -> None:
    status = 1
    try:
        work(worker)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)

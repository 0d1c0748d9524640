"""Muon for matrices and AdamW for the rest, on weights that two workers share.

Each worker holds the gradients of its half of the batch and updates its half of the weights.
Muon: Keller Jordan, https://kellerjordan.github.io/posts/muon/ (quintic Newton-Schulz iteration).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eagle3_plugin.tiny.parallel import NUM_WORKERS, Worker, shared_zeros

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
MUON_MOMENTUM = 0.9
ADAM_BETAS = (0.9, 0.95)
ADAM_EPS = 1e-10


@dataclass(frozen=True)
class Schedule:
    """Learning rates at their peak: linear warm-up, then a linear fall to zero."""

    steps: int
    matrix_rate: float
    other_rate: float
    warmup_steps: int = 10

    def factor(self, step: int) -> float:
        """What the rates are multiplied by at a step (0, 1, …)."""
        return min((step + 1) / self.warmup_steps, (self.steps - step) / self.steps, 1.0)


class SharedWeights:
    """Float32 weights and gradients of a module's trained parameters, in memory that forks share.

    Make it before the fork.
    """

    def __init__(self, module: nn.Module) -> None:
        trained = trained_parameters(module)
        self.sizes = {name: p.shape for name, p in trained.items()}
        total = sum(s.numel() for s in self.sizes.values())
        self.values = self._split(shared_zeros(total))
        self.gradients = [self._split(shared_zeros(total)) for _ in range(NUM_WORKERS)]
        for name, parameter in trained.items():
            self.values[name].copy_(parameter.detach())

    @torch.no_grad()
    def load_into(self, module: nn.Module) -> None:
        """Copies the weights into the module, in the module's own precision."""
        for name, parameter in trained_parameters(module).items():
            parameter.copy_(self.values[name])

    def _split(self, flat: Tensor) -> dict[str, Tensor]:
        parts = torch.split(flat, [s.numel() for s in self.sizes.values()])
        return {n: p.view(s) for (n, s), p in zip(self.sizes.items(), parts, strict=True)}


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are not frozen, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


class Optimizer:
    """Updates this worker's part of the shared weights: matrices by Muon, the rest by AdamW."""

    def __init__(
        self,
        shared: SharedWeights,
        worker: Worker,
        schedule: Schedule,
        is_vocabulary: Callable[[str], bool],
    ) -> None:
        self.shared, self.worker, self.schedule = shared, worker, schedule
        self._num_updates = 0
        matrices = [n for n, s in shared.sizes.items() if len(s) >= 2 and not is_vocabulary(n)]
        others = [n for n in shared.sizes if n not in set(matrices)]
        by_shape: dict[torch.Size, list[str]] = defaultdict(list)
        for name in _own_part(matrices, shared, worker):
            by_shape[shared.sizes[name]].append(name)
        self._muons = [_Muon(group, shape) for shape, group in by_shape.items()]
        self._adams = [_Adam(n, shared.sizes[n]) for n in _own_part(others, shared, worker)]

    def update(self, module: nn.Module, loss: Callable[[], Tensor]) -> None:
        """One step of both workers together; `loss` is of this worker's half of the batch."""
        self.shared.load_into(module)
        module.zero_grad(set_to_none=True)
        loss().backward()  # type: ignore[no-untyped-call]
        gradients = self.shared.gradients[self.worker.rank]
        for name, parameter in trained_parameters(module).items():
            gradients[name].copy_(torch.zeros(()) if parameter.grad is None else parameter.grad)
        self.worker.meet()
        self._step()
        self.worker.meet()

    @torch.no_grad()
    def _step(self) -> None:
        factor = self.schedule.factor(self._num_updates)
        self._num_updates += 1
        values = self.shared.values
        for muon in self._muons:
            gradient = torch.stack([self._gradient(n) for n in muon.names])
            for name, update in zip(muon.names, muon.update(gradient), strict=True):
                values[name].add_(update, alpha=-factor * self.schedule.matrix_rate)
        for adam in self._adams:
            update = adam.update(self._gradient(adam.name))
            values[adam.name].add_(update, alpha=-factor * self.schedule.other_rate)

    def _gradient(self, name: str) -> Tensor:
        first, second = (g[name] for g in self.shared.gradients)
        return (first + second) / NUM_WORKERS


class _Muon:
    """Matrices of one shape (with experts, stacks of them), orthogonalised together.

    A convolution over patches is the matrix that it multiplies each patch by.
    """

    def __init__(self, names: list[str], shape: torch.Size) -> None:
        self.names = names
        self.shape = shape if len(shape) < 4 else torch.Size((shape[0], shape[1:].numel()))
        self.momentum = torch.zeros(len(names), *self.shape)
        self.scale = max(1.0, self.shape[-2] / self.shape[-1]) ** 0.5

    def update(self, gradient: Tensor) -> Tensor:
        matrices = gradient.view(self.momentum.shape)
        self.momentum.lerp_(matrices, 1 - MUON_MOMENTUM)
        update: Tensor = _orthogonal(matrices.lerp(self.momentum, MUON_MOMENTUM)) * self.scale
        return update.view(gradient.shape)


class _Adam:
    def __init__(self, name: str, shape: torch.Size) -> None:
        self.name = name
        self.mean, self.square = torch.zeros(shape), torch.zeros(shape)
        self.steps = 0

    def update(self, gradient: Tensor) -> Tensor:
        self.steps += 1
        self.mean.lerp_(gradient, 1 - ADAM_BETAS[0])
        self.square.lerp_(gradient.square(), 1 - ADAM_BETAS[1])
        mean, square = (
            state / (1 - beta**self.steps)
            for state, beta in zip((self.mean, self.square), ADAM_BETAS, strict=True)
        )
        return mean / (square.sqrt() + ADAM_EPS)


def _own_part(names: list[str], shared: SharedWeights, worker: Worker) -> list[str]:
    """Names dealt out so that each worker updates about as many elements."""
    loads = [0] * NUM_WORKERS
    own = []
    for name in sorted(names, key=lambda n: (-shared.sizes[n].numel(), n)):
        rank = loads.index(min(loads))
        loads[rank] += shared.sizes[name].numel()
        if rank == worker.rank:
            own.append(name)
    return own


def _orthogonal(matrices: Tensor) -> Tensor:
    """The nearest (nearly) orthogonal matrices; `matrices`: [..., rows, columns]."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    wide: Tensor = (x.mT if tall else x).float()
    return wide

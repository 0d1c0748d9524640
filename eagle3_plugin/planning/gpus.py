"""GPU profiles: the published numbers that a round's cost depends on, and how to name one."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from eagle3_plugin.errors import UsageError

NUMBERS: Final = ("mem_gib", "mem_bw_gbps", "bf16_tflops", "fp16_tflops", "fp8_tflops", "tdp_w")
REQUIRED: Final = ("mem_gib", "mem_bw_gbps", "bf16_tflops")

MEMORY_TOLERANCE: Final = 0.12
"""nvidia-smi shows less than the nominal memory: 45.0 of 48 GB (L40S), 15 of 16 (T4)."""

ASSUMED_FLOP_PER_BYTE: Final = 110.0
"""For a GPU without a published tensor rate: the ratio of most data-centre cards is 37 (H20) to
420 (L40S), of the A100 80 GB 153; one on the low side makes wide trees look dear, not cheap."""

_PATH = Path(__file__).with_name("gpus.toml")
_BRANDS = {"nvidia", "geforce", "tesla", "amd", "instinct", "radeon", "huawei"}
_HINT = (
    "`eagle3 tune` measures this machine; or state the numbers: "
    '--gpu "mem_gib=24,mem_bw_gbps=1008,bf16_tflops=165".'
)


@dataclass(frozen=True)
class GpuProfile:
    """One GPU. `mem_bw_gbps` is in 10^9 bytes a second; rates are dense, per second.

    A figure that nobody publishes is None. `unsourced`: fields whose figure is derived or could
    not be read at its source. `confidence`: high, medium, low or none, of the profile as a whole.
    """

    name: str
    source: str
    confidence: str
    vendor: str = ""
    arch: str = ""
    compute_capability: str = ""
    aliases: tuple[str, ...] = ()
    mem_gib: float | None = None
    mem_bw_gbps: float | None = None
    bf16_tflops: float | None = None
    fp16_tflops: float | None = None
    fp8_tflops: float | None = None
    tdp_w: float | None = None
    unsourced: tuple[str, ...] = ()
    notes: str = ""

    @property
    def bytes_per_s(self) -> float:
        """Memory bandwidth; raises UsageError for a profile without one."""
        if self.mem_bw_gbps is None:
            raise UsageError(f"{self.name}: no memory bandwidth is known: {self.notes}", hint=_HINT)
        return self.mem_bw_gbps * 1e9

    def flops(self, bytes_per_weight: float = 2.0) -> float:
        """FLOP per second of the matrix products of weights that wide.

        Weights of less than 8 bits are multiplied in 16. Without any published rate it is
        ASSUMED_FLOP_PER_BYTE times the bandwidth: ask `has_rate`.
        """
        rate = self.fp8_tflops if bytes_per_weight == 1 else None
        rate = rate or self.bf16_tflops or self.fp16_tflops
        return rate * 1e12 if rate else self.bytes_per_s * ASSUMED_FLOP_PER_BYTE

    @property
    def has_rate(self) -> bool:
        return bool(self.bf16_tflops or self.fp16_tflops)


@cache
def gpu_profiles() -> tuple[GpuProfile, ...]:
    """All profiles that ship with the package."""
    rows = tomllib.loads(_PATH.read_text(encoding="utf-8"))["gpu"]
    lists = ("aliases", "unsourced")
    return tuple(GpuProfile(**row | {k: tuple(row.get(k, ())) for k in lists}) for row in rows)


def find_gpu(name: str, mem_gib: float | None = None) -> GpuProfile:
    """The profile of a GPU as nvidia-smi, rocm-smi or a person writes it.

    Case, brand words, dashes and underscores do not matter. A full name or an alias comes first;
    else the words of `name` must all be in the profile's. `mem_gib`, when known, decides between
    cards of one name. Raises UsageError for an unknown name and for one that fits several.
    """
    words = _words(name)
    matches: Sequence[Callable[[GpuProfile], bool]] = (
        lambda p: words in [_words(n) for n in (p.name, *p.aliases)],
        lambda p: any(words and set(words) <= set(_words(n)) for n in (p.name, *p.aliases)),
    )
    for match in matches:
        found = [p for p in gpu_profiles() if match(p) and _memory_fits(p, mem_gib)]
        if found:
            return _only(found, name, mem_gib)
    raise _unknown(name, mem_gib)


def parse_gpu(text: str) -> GpuProfile:
    """A profile from a name, or from numbers: "mem_gib=24,mem_bw_gbps=1008,bf16_tflops=165".

    Numbers may be any of NUMBERS, and must have those in REQUIRED. Raises UsageError.
    """
    if "=" not in text:
        return find_gpu(text)
    values: dict[str, Any] = {}
    problems = []
    for part in text.split(","):
        key, _, number = (piece.strip() for piece in part.partition("="))
        if key not in NUMBERS:
            problems.append(f"{key!r} is not one of {', '.join(NUMBERS)}")
        elif key in values:
            problems.append(f"{key} is there twice")
        elif not _is_positive(number):
            problems.append(f"{key} is {number!r}, expected a positive number")
        else:
            values[key] = float(number)
    missing = [key for key in REQUIRED if f"{key}=" not in text.replace(" ", "")]
    problems += [f"{key} is missing" for key in missing]
    if problems:
        raise UsageError(f"GPU {text!r}: {'; '.join(problems)}", hint=_HINT)
    return GpuProfile(name="as stated", source="the command line", confidence="stated", **values)


def _words(name: str) -> tuple[str, ...]:
    """The words of a name in lower case, without brands; "80 GB" and "80GB" are one word."""
    text = re.sub(r"(\d)\s+gi?b\b", r"\1gb", name.casefold())
    text = re.sub(r"[()]", " ", text)
    return tuple(word for word in re.split(r"[\s_\-]+", text) if word and word not in _BRANDS)


def _memory_fits(profile: GpuProfile, mem_gib: float | None) -> bool:
    if mem_gib is None or profile.mem_gib is None:
        return True
    return abs(mem_gib / profile.mem_gib - 1) <= MEMORY_TOLERANCE


def _only(found: Sequence[GpuProfile], name: str, mem_gib: float | None) -> GpuProfile:
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{p.name} ({p.mem_gib:g} GiB)" if p.mem_gib else p.name for p in found)
    raise UsageError(
        f"GPU {_shown(name, mem_gib)} fits {len(found)} profiles: {listed}",
        hint='Write one of these names, or add the memory, as in "GH200 96GB".',
    )


def _unknown(name: str, mem_gib: float | None) -> UsageError:
    known = {" ".join(_words(n)): p.name for p in gpu_profiles() for n in (p.name, *p.aliases)}
    close = difflib.get_close_matches(" ".join(_words(name)), known, n=4, cutoff=0.5)
    near = _unique([*_sharing_a_word(name), *(known[key] for key in close)])[:4]
    expected = f"the nearest are {', '.join(near)}" if near else "no profile has a similar name"
    return UsageError(f"no profile of GPU {_shown(name, mem_gib)}; {expected}", hint=_HINT)


def _sharing_a_word(name: str) -> list[str]:
    """Profiles with the same model number: a word of the name that has a digit."""
    numbers = {word for word in _words(name) if re.search(r"\d", word) and "gb" not in word}
    return [p.name for p in gpu_profiles() if numbers & set(_words(p.name))]


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _shown(name: str, mem_gib: float | None) -> str:
    return f"{name!r}" + (f" with {mem_gib:g} GiB" if mem_gib is not None else "")


def _is_positive(text: str) -> bool:
    return bool(re.fullmatch(r"\d+(\.\d+)?|\.\d+", text)) and float(text) > 0

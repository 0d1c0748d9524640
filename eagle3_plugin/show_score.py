"""How `eagle3 score` and its sweeps look on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from eagle3_plugin import console
from eagle3_plugin.console import print_next, print_table

if TYPE_CHECKING:
    from eagle3_plugin.draft.rounds import ScoreResult
    from eagle3_plugin.draft.sweep import SweepResult
    from eagle3_plugin.draft.sweep_images import ImageSweepResult


Values = TypeVar("Values")


def show_score(result: ScoreResult, draft: str, target: str, *, saved: bool) -> None:
    _show_tokens_per_verify(result)
    if result.trees:
        print_table(
            "trees as SGLang drafts them (steps, topk, draft tokens)",
            ["tree", "tokens per verify", "rounds"],
            [[str(t.shape), f"{t.tokens_per_verify or 0:.2f}", str(sum(t.rounds_per_prompt))]
             for t in result.tree_scores],
        )  # fmt: skip
    _show_positions(result)
    _show_assumed(result.assumed)
    if saved:
        console.out.print("kept in eagle3.json as the expected acceptance")
    else:
        sweep = "--prompts PROMPTS --sweep-images" if result.assumed else "--sweep-taps"
        print_next(f"eagle3 score {draft} --target {target} {sweep}")


def _show_tokens_per_verify(result: ScoreResult) -> None:
    lengths = list(result.tokens_per_verify)
    sets = {name: values for name, values in result.prompt_sets.items() if values}
    modalities = {f"{m} prompts": one.tokens_per_verify for m, one in result.modalities.items()}
    rows = {"all": result.tokens_per_verify, **_apart(modalities), **_apart(sets)}
    print_table(
        f"tokens per verify, measured on {len(result.prompts)} prompts, {result.dtype}",
        ["chain", *map(str, lengths)],
        [[name, *(f"{v[k]:.2f}" for k in lengths)] for name, v in rows.items() if v],
    )


def _show_positions(result: ScoreResult) -> None:
    rows = {
        "accepted": result.acceptance_rate,
        "if all before were": result.acceptance_rate_conditional,
    }
    rates = {
        f"the same, {modality} prompts": one.acceptance_rate_conditional
        for modality, one in result.modalities.items()
    }
    rows |= _apart(rates)
    print_table(
        f"acceptance by draft position, chain {result.chain}",
        ["position", *(str(i + 1) for i in range(result.chain))],
        [[name, *map(console.percent, values)] for name, values in rows.items()],
    )


def _show_assumed(assumed: Sequence[str]) -> None:
    for words in assumed:
        console.out.print("[yellow]taken for granted[/]: ", end="")
        console.out.print(words, markup=False)


def _apart(parts: Mapping[str, Values]) -> Mapping[str, Values]:
    """The parts, unless there is one only: it is the whole."""
    return parts if len(parts) > 1 else {}


def show_sweep(result: SweepResult, draft: str, target: str) -> None:
    rows = [
        [", ".join(map(str, t.taps)), "; ".join(t.names), f"{t.tokens_per_start:.3f}",
         f"{t.loss_nats:.4f}"]
        for t in result.ranking
    ]  # fmt: skip
    columns = ["taps (boundaries)", "which", "tokens per start", "loss (nats)"]
    print_table("which taps was it trained on?", columns, rows)
    console.out.print(
        f"best: {list(result.best.taps)}, confidence {_share(result.confidence)}, "
        f"by {result.margin_nats:.4f} nats"
    )
    _show_assumed(result.assumed)
    if result.best.taps == result.stated:
        console.out.print("[green]the draft says so too[/]")
    else:
        taps = ",".join(map(str, result.best.taps))
        console.out.print(f"[yellow]the draft says {list(result.stated)}[/]")
        print_next(f"eagle3 convert {draft} OUT --to universal --target {target} --taps {taps}")


def show_image_sweep(result: ImageSweepResult, draft: str, target: str) -> None:
    rows = [
        [t.wiring.image_embedding, t.wiring.deepstack_tap or "-", f"{t.tokens_per_start:.3f}",
         f"{t.loss_nats:.4f}"]
        for t in result.ranking
    ]  # fmt: skip
    print_table(
        f"how was it trained on images? ({result.num_prompts} image prompts)",
        ["image embedding", "deepstack tap", "tokens per start", "loss (nats)"],
        rows,
    )
    console.out.print(
        f"best: {', '.join(row for row in rows[0][:2])}, confidence {_share(result.confidence)}, "
        f"by {result.margin_nats:.4f} nats"
    )
    if not result.unsaid:
        return console.out.print("[green]the draft says so too[/]")
    console.out.print(f"[yellow]the draft says {result.image_embedding}, {result.deepstack_tap}[/]")
    answers = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in result.unsaid.items())
    print_next(f"eagle3 convert {draft} OUT --to universal --target {target} {answers}")


def _share(confidence: float | None) -> str:
    return "-" if confidence is None else f"{100 * confidence:.0f} %"

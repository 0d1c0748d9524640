"""What the report says of a result, whatever it is printed as."""

from __future__ import annotations

from itertools import pairwise

import pytest

from eagle3_plugin.measuring.provenance import Sampling
from eagle3_plugin.measuring.record import Acceptance, Estimate, Quantiles
from eagle3_plugin.report.build import fastest, page
from eagle3_plugin.report.page import Cell, Figure, Notice, Page, Section, Table
from eagle3_plugin.report.view import SPEED, View
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from tests.report import results


def section(made: Page, title: str) -> Section:
    (found,) = (s for s in made.sections if s.title == title)
    return found


def figure(made: Page, title: str) -> Figure:
    (found,) = (block for block in section(made, title).blocks if isinstance(block, Figure))
    return found


def texts(table: Table) -> list[tuple[str, ...]]:
    return [tuple(cell.text for cell in row) for row in table.rows]


def tables(made: Page, title: str) -> list[Table]:
    return [block for block in section(made, title).blocks if isinstance(block, Table)]


def names(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def test_a_whole_result_has_these_sections() -> None:
    assert [s.title for s in page(results.card()).sections] == [
        "Speed",
        "Against the card",
        "Against the plan",
        "Acceptance",
        "Latency",
        "Equality with the baseline",
        "By turn and by modality",
        "All loops",
        "How the numbers are made",
        "Provenance",
    ]


def test_the_head_names_the_models_the_machine_and_the_time() -> None:
    made = page(results.card())
    assert made.title == "Eagle3-Qwen3-4B-Instruct-2507-zh on Qwen3-4B-Instruct-2507"
    assert made.lead.startswith("SGLang 0.5.23 on RTX 4090. ")
    assert made.lead.endswith(", from 21 November 2026, 08:00 UTC.")


def test_a_partial_result_says_first_what_is_missing_and_then_what_is_doubtful() -> None:
    partial, doubtful, *_ = page(results.sets()).notices
    assert partial == Notice(
        "bad",
        "Partial: 12 conversation(s) of this run are missing; the numbers are of the rest.",
        (
            "5,1,6, all sets, 2 parallel, repeat 2: 12 conversation(s) missing: "
            "the engine ended with exit code 137 while it served",
        ),
    )
    assert (doubtful.kind, len(doubtful.details)) == ("bad", 1)


def test_a_run_that_was_stopped_says_so_and_nothing_measured_too() -> None:
    whole = results.card()
    stopped = whole.model_copy(update={"is_partial": True})
    assert page(stopped).notices[0].text == "Partial: the run did not come to its end."
    assert page(results.nothing()).notices[0].text.endswith("; nothing was measured.")


def test_what_a_server_had_to_do_differently_is_a_note_at_the_top() -> None:
    whole = results.card()
    note = "vLLM drafts chains only: 5,1,6 in place of 5,4,16"
    noted = whole.servers[1].model_copy(update={"notes": (note,)})
    made = page(whole.model_copy(update={"servers": (whole.servers[0], noted)}))
    assert f"5,4,16: {note}" in made.notices[0].details


def test_a_result_without_troubles_has_no_warning() -> None:
    assert [n.kind for n in page(results.card()).notices if n.kind == "bad"] == []


def test_the_tiles_have_the_fastest_settings_and_its_speedups_with_intervals() -> None:
    result = results.with_speedup(results.sets(), "3,1,4", 2, 2.5)
    fast, speedup, verify, equal = page(result).tiles
    assert fastest(View(result)) == fast.value.text == "3,1,4"
    assert (speedup.value, speedup.note) == (
        Cell("2.50x", "2.5 (2.4 to 2.6)"),
        "95 %: 2.40x to 2.60x; faster",
    )
    assert verify.label == "Tokens per verify, 3,1,4"
    assert (equal.value.text, equal.note) == ("58", "of 60 outputs at temperature 0")


@pytest.mark.parametrize(
    ("value", "judged"), [(0.7, "slower"), (1.05, "faster or slower"), (1.2, "faster")]
)
def test_a_speedup_is_called_what_its_interval_allows(value: float, judged: str) -> None:
    tile = page(results.with_speedup(results.card(), "5,4,16", 1, value)).tiles[0]
    assert tile.note.endswith(f"; {judged}")


def test_panels_side_by_side_have_the_same_places() -> None:
    """One set was answered at one load only; its panel still has both on its axis."""
    whole = results.card()
    left_out = ("5,4,16", "mt-bench-zh", 4)
    kept = tuple(s for s in whole.summaries if (s.server, s.set, s.concurrency) != left_out)
    made = figure(page(whole.model_copy(update={"summaries": kept})), "Speed")
    texts_of = [[t.text for t in p.drawing.iter("text")][-3:] for p in made.panels]
    assert texts_of == [["1", "4", "parallel conversations"]] * 3


def test_speedup_is_drawn_against_load_where_there_are_several() -> None:
    result = results.with_speedup(results.card(), "5,4,16", 4, 1.25)
    made = figure(page(result), "Speed")
    assert [p.title for p in made.panels] == ["all sets", "mt-bench-zh", "mt-bench-en"]
    assert "5,4,16 with 4 parallel: 1.25x (1.15x to 1.35x)" in (
        made.panels[0].drawing.get("aria-label") or ""
    )
    assert ("all sets", "4", "5,4,16") in [row[:3] for row in texts(made.table)]


def test_speedup_is_drawn_by_set_where_there_is_one_load() -> None:
    made = figure(page(results.sets()), "Speed")
    assert [p.title for p in made.panels] == ["2 parallel conversations"]
    assert [k.text for k in made.keys] == ["3,1,4", "5,1,6"]


def test_without_a_baseline_there_is_no_speedup_and_no_chart_of_it() -> None:
    (note, table) = section(page(results.one_cell()), "Speed").blocks
    assert note == "There is no baseline in this result, so there is no speedup."
    assert isinstance(table, Table)


def test_acceptance_is_conditional_and_never_grows_with_all_rounds_as_its_base() -> None:
    """Position i of 10 rounds that accepted 8, 4 and 3: 80 %, 50 %, 75 %."""
    whole = results.card()
    counted = {
        "num_rounds": 10,
        "num_draft_tokens": 30,
        "accepted_draft_tokens": 15,
        "accepted_by_position": (8, 4, 3),
    }
    summaries = tuple(
        s.model_copy(update={"acceptance": s.acceptance.model_copy(update=counted)})
        for s in whole.summaries
        if s.acceptance and s.set == "mt-bench-zh" and s.concurrency == 1
    )
    made = figure(page(whole.model_copy(update={"summaries": summaries})), "Acceptance")
    assert texts(made.table) == [
        ("mt-bench-zh", "5,4,16", "10", "2.50", "80.0 %", "50.0 %", "75.0 %"),
    ]


def test_latency_has_three_panels_a_load_with_the_baseline_first() -> None:
    made = figure(page(results.card()), "Latency")
    assert [p.title for p in made.panels][:3] == [
        "Time to first token, 1 parallel",
        "Time per output token, 1 parallel",
        "End-to-end latency, 1 parallel",
    ]
    assert len(made.panels) == 6
    assert [row[2] for row in texts(made.table)] == ["baseline", "5,4,16"] * 6


def test_latency_has_each_set_with_its_median_and_95th_percentile() -> None:
    """Of 21 answers that took 1 s to 21 s, 95 % are within 20 s."""
    whole = results.sets()
    first = next(c for c in whole.cells if (c.server, c.set) == ("3,1,4", "gsm8k"))
    requests = tuple(
        first.requests[0].model_copy(
            update={"request_s": float(s), "time_to_first_token_s": 0.5, "num_tokens": 2}
        )
        for s in range(1, 22)
    )
    other = next(c for c in whole.cells if (c.server, c.set) == ("3,1,4", "my-images"))
    cells = (first.model_copy(update={"requests": requests}), other)
    (table,) = tables(page(whole.model_copy(update={"cells": cells})), "Latency")
    assert names(table) == [
        "set",
        "parallel",
        "server",
        "answers",
        "time to first token, median",
        "time to first token, 95 % within",
        "time per output token, median",
        "time per output token, 95 % within",
        "end-to-end latency, median",
        "end-to-end latency, 95 % within",
    ]
    assert [row[:4] for row in texts(table)] == [
        ("all sets", "2", "3,1,4", "39"),
        ("gsm8k", "2", "3,1,4", "21"),
        ("my-images", "2", "3,1,4", "18"),
    ]
    assert texts(table)[1][4:] == ("500 ms", "500 ms", "10.5 s", "19.5 s", "11.0 s", "20.0 s")


def test_latency_of_one_set_is_not_told_twice() -> None:
    assert tables(page(results.one_cell()), "Latency") == []


def test_what_stands_for_the_cards_settings_is_drawn_as_itself() -> None:
    """vLLM ran 5,1,6 in place of card A's tree."""
    made = figure(page(results.stand_in()), "Against the card")
    assert [k.text for k in made.keys] == ["baseline", "5,1,6", "card"]
    by_name = {panel.title: panel.drawing for panel in made.panels}
    for name, classes in (("Tokens per verify", {"s0 d0"}), ("Speedup", {"s0 d0"})):
        marks = [g.get("class") for g in by_name[name].iter("g") if g.get("transform")]
        assert set(marks) - {"promise"} == classes
    settings = {(row[3], row[2]) for row in texts(made.table)}
    assert settings == {
        ("tokens per verify", "5,4,16 (here 5,1,6)"),
        ("speedup", "5,4,16 (here 5,1,6)"),
        ("tokens/s per conversation", "5,4,16 (here 5,1,6)"),
        ("baseline's tokens/s per conversation", "5,4,16"),
    }


def test_the_card_stands_beside_what_came_out_with_the_difference() -> None:
    whole = results.card()
    assert whole.card is not None
    changes = {"found": 3.0, "low": 2.9, "high": 3.1, "difference": 3.0 / 3.33 - 1}
    first = whole.card.figures[0].model_copy(update={**changes, "promised": 3.33, "concurrency": 1})
    missing = first.model_copy(update=dict.fromkeys(changes))
    table = whole.card.model_copy(update={"figures": (first, missing)})
    made = figure(page(whole.model_copy(update={"card": table})), "Against the card")
    (panel,) = made.panels
    assert texts(made.table) == [
        (
            "mt-bench-zh",
            "1",
            "5,4,16",
            "tokens per verify",
            "3.33",
            "3.00 (2.90 to 3.10)",
            "−9.91 %",
        ),
        ("mt-bench-zh", "1", "5,4,16", "tokens per verify", "3.33", "-", "-"),
    ]
    assert [k.text for k in made.keys] == ["5,4,16", "card"]
    assert [t.text for t in panel.drawing.iter("text")][-1] == "missing"


@pytest.mark.parametrize("basis", ["modelled", "datasheet", "measured"])
def test_a_prediction_is_labelled_with_what_it_rests_on(basis: str) -> None:
    result = results.with_speedup(results.card(), "5,4,16", 1, 2.0)
    given = results.prediction(value=1.6, low=1.5, high=None, basis=basis)
    made = figure(page(result.model_copy(update={"predictions": (given,)})), "Against the plan")
    assert texts(made.table) == [
        ("5,4,16", "1", "speedup", basis, "1.60x", "2.00x (1.90x to 2.10x)", "+25.0 %"),
    ]
    assert made.basis == (("measured",) if basis == "measured" else (basis, "measured"))


def test_a_prediction_without_an_outcome_is_missing() -> None:
    given = results.prediction(server="7,1,8")
    made = page(results.card().model_copy(update={"predictions": (given,)}))
    assert texts(figure(made, "Against the plan").table)[0][-2:] == ("-", "-")


def test_provenance_is_whole() -> None:
    blocks = section(page(results.card()), "Provenance").blocks
    said = {cell.text for b in blocks if isinstance(b, Table) for row in b.rows for cell in row}
    sha = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    known = {"eagle3 bench sglang --card A --repeats 2", "580.95", "2.13.0", "a" * 40, "b" * 40}
    assert known | {sha, "RTX 4090", "org/mt-bench-zh", "--dtype float16", "13 min"} <= said


SENT = (
    ("temperature", "0"),
    ("top_p", "1"),
    ("top_k", "-1"),
    ("min_p", "0"),
    ("repetition_penalty", "1"),
    ("presence_penalty", "0"),
    ("frequency_penalty", "0"),
    ("seed", "0"),
)


def test_provenance_says_all_of_the_sampling_or_that_it_is_not_known() -> None:
    whole = results.card()
    assert texts(tables(page(whole), "Provenance")[2])[:8] == list(SENT)
    old = Sampling(temperature=0.0, seed=0, max_tokens=128, ignore_eos=False)
    before = whole.provenance.model_copy(update={"sampling": old})
    requests = tables(page(whole.model_copy(update={"provenance": before})), "Provenance")[2]
    assert {value for _, value in texts(requests)[1:7]} == {"not known"}


@pytest.mark.parametrize("num", [0, 13])
def test_a_resumed_run_says_how_many_answers_are_from_before(num: int) -> None:
    whole = results.card()
    changed = whole.provenance.model_copy(update={"num_resumed": num})
    run, *_ = tables(page(whole.model_copy(update={"provenance": changed})), "Provenance")
    assert ("resumed", f"{num} answer(s) from before a resume") in texts(run)


def test_turns_and_modalities_have_rows_of_their_own() -> None:
    made = page(results.sets())
    speed, accepted = tables(made, "By turn and by modality")
    parts = {"turn 1", "turn 2", "turn 3", "text", "image"}
    assert section(made, "By turn and by modality").is_folded
    assert {row[3] for row in texts(speed)} == parts
    assert {row[3] for row in texts(accepted)} == parts
    assert {row[2] for row in texts(speed)} == {"baseline", "3,1,4", "5,1,6"}
    assert {row[2] for row in texts(accepted)} == {"3,1,4", "5,1,6"}


def with_group(**changes: object) -> list[Table]:
    """The tables of parts of a result that has one group, changed."""
    whole = results.card()
    summary = next(s for s in whole.summaries if s.server == "5,4,16")
    changed = summary.model_copy(update={"groups": (summary.groups[0].model_copy(update=changes),)})
    made = page(whole.model_copy(update={"summaries": (changed,)}))
    return tables(made, "By turn and by modality")


def test_a_turn_has_its_speed_with_intervals_and_its_times() -> None:
    times = Quantiles(mean=0.5, min=0.5, p50=0.25, p90=0.5, p99=0.5, max=0.5)
    speed, _ = with_group(
        num_requests=7,
        estimates={SPEED: Estimate(value=150.0, low=140.0, high=160.0)},
        ratios={SPEED: Estimate(value=1.5, low=1.25, high=1.75)},
        time_to_first_token_s=times,
        time_per_output_token_s=times.model_copy(update={"p50": 0.012}),
        request_s=times.model_copy(update={"p50": 3.0}),
    )
    assert names(speed)[4:] == [
        "answers",
        "tokens/s per conversation",
        "speedup",
        "time to first token, median",
        "time per output token, median",
        "end-to-end latency, median",
    ]
    assert texts(speed) == [
        (
            "mt-bench-zh",
            "1",
            "5,4,16",
            "turn 1",
            "7",
            "150 (140 to 160)",
            "1.50x (1.25x to 1.75x)",
            "250 ms",
            "12.0 ms",
            "3.00 s",
        )
    ]


def test_a_turn_has_its_conditional_acceptance_by_position() -> None:
    """Of 10 rounds 8 accepted the first position, 4 the second and 3 the third."""
    counts = AcceptanceCounts(10, 150, 15, (8, 4, 3))
    _, accepted = with_group(acceptance=Acceptance.of(counts))
    assert names(accepted)[4:8] == ["rounds", "tokens per verify", "position 1", "position 2"]
    assert texts(accepted)[0][3:9] == ("turn 1", "10", "2.50", "80.0 %", "50.0 %", "75.0 %")


def test_a_part_without_estimates_still_has_its_times() -> None:
    """Of a result from before groups had them, or of an engine that tells of no round."""
    (speed,) = with_group(estimates={}, ratios={}, acceptance=None)
    assert texts(speed)[0][5:7] == ("-", "-")
    assert texts(speed)[0][7].endswith(" ms")


@pytest.mark.parametrize("make", [results.card, results.sets, results.large, results.one_cell])
def test_every_column_of_figures_says_where_they_come_from(make: results.Maker) -> None:
    made = page(make())
    tables = [
        block.table if isinstance(block, Figure) else block
        for s in made.sections
        for block in s.blocks
        if isinstance(block, Figure | Table)
    ]
    without = {c.name for t in tables for c in t.columns if c.is_number and c.basis is None}
    assert without <= {
        "parallel",
        "repeat",
        "difference",
        "predicted",
        "first apart at",
        "conversations",
        "turns",
        "size",
        "healthy after",
    }


def test_all_loads_and_sets_of_a_large_result_are_there() -> None:
    made = page(results.large())
    assert len(figure(made, "Speed").panels) == 8
    assert len(figure(made, "Speed").table.rows) == 8 * 5 * 6
    loads = [int(row[1]) for row in texts(figure(made, "Speed").table)]
    assert all(a <= b for a, b in pairwise(loads[:30]))

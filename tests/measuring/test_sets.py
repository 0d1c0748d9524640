"""The public sets: small files of their schemas, served over HTTP as the hub does."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eagle3_plugin.errors import Eagle3Error, MissingExtraError, NotFoundError, UsageError
from eagle3_plugin.measuring.sets import SETS, chosen_sets, read_sets
from tests.hub_client import HubClient
from tests.loopback_hub import COMMIT, LoopbackHub, Repo

MT_BENCH = {
    "question_id": 81,
    "category": "writing",
    "turns": ["Compose a travel blog post.", "Rewrite it."],
}
MATH = {"problem": "What is $1+1$?", "solution": "$\\boxed{2}$", "answer": "2", "level": 1}
GSM8K = {"question": "Janet has 3 eggs. How many?", "answer": "3\n#### 3"}
HUMANEVAL = {"task_id": "HumanEval/0", "prompt": 'def f(x):\n    """Adds."""\n', "test": ""}
CEVAL = (
    "id,question,A,B,C,D,answer,explanation\n"
    "0,下列哪项正确？,甲,乙,丙,丁,B,\n"
    "1,再问？,一,二,三,四,A,\n"
)
CMMLU = ",Question,A,B,C,D,Answer\n0,哪个是对的？,甲,乙,丙,丁,C\n"


def _parquet(*rows: dict[str, Any]) -> bytes:
    import pyarrow
    import pyarrow.parquet as parquet

    stream = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), stream)
    return stream.getvalue()


def _zip(files: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return stream.getvalue()


def _jsonl(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


FILES: dict[str, dict[str, bytes]] = {
    "openai/openai_humaneval": {
        "openai_humaneval/test-00000-of-00001.parquet": _parquet(HUMANEVAL)
    },
    "openai/gsm8k": {
        "main/test-00000-of-00001.parquet": _parquet(GSM8K),
        "socratic/test-00000-of-00001.parquet": b"not this one",
    },
    "HuggingFaceH4/MATH-500": {"test.jsonl": _jsonl(MATH), "README.md": b"#"},
    "ceval/ceval-exam": {
        "ceval-exam.zip": _zip(
            {
                "val/accountant_val.csv": CEVAL,
                "val/art_val.csv": CEVAL.replace("下列", "艺术"),
                "dev/art_dev.csv": "nothing",
                "__MACOSX/val/._art_val.csv": "nothing",
            }
        )
    },
    "haonan-li/cmmlu": {"cmmlu_v1_0_1.zip": _zip({"test/agronomy.csv": CMMLU})},
    "HuggingFaceH4/mt_bench_prompts": {
        "raw/question.jsonl": _jsonl({"prompt": MT_BENCH["turns"], "category": "writing"})
    },
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubClient]:
    repos = {name: Repo({COMMIT: files}) for name, files in FILES.items()}
    with LoopbackHub({f"datasets/{name}": repo for name, repo in repos.items()}) as server:
        yield HubClient(server, tmp_path)


READ = """
from eagle3_plugin.measuring.sets import read_sets
def shown(name):
    (s,) = read_sets([name], 3)
    return [s.source, s.revision, [c.to_json() for c in s.conversations]]
show(caught(lambda: json.dumps(shown({name!r}))))
"""


def _said(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": text}] for text in texts]


@pytest.mark.parametrize(
    ("name", "source", "conversations"),
    [
        ("math-500", "HuggingFaceH4/MATH-500", [_said("What is $1+1$?")]),
        ("gsm8k", "openai/gsm8k", [_said("Janet has 3 eggs. How many?")]),
        (
            "humaneval",
            "openai/openai_humaneval",
            [_said('Complete the following Python function.\n```python\ndef f(x):\n'
                   '    """Adds."""\n```')],
        ),
        (
            "mt-bench-en",
            "HuggingFaceH4/mt_bench_prompts",
            [_said("Compose a travel blog post.", "Rewrite it.")],
        ),
        (
            "cmmlu",
            "haonan-li/cmmlu",
            [_said("以下是一道单项选择题，请选出正确的答案。\n"
                   "哪个是对的？\nA. 甲\nB. 乙\nC. 丙\nD. 丁")],
        ),
    ],
)  # fmt: skip
def test_a_public_set_is_read_from_its_repository_at_a_commit(
    hub: HubClient, name: str, source: str, conversations: list[Any]
) -> None:
    assert json.loads(hub(READ.format(name=name))) == [source, COMMIT, conversations]


def test_subjects_are_taken_in_turn_so_that_a_limit_has_all_of_them(hub: HubClient) -> None:
    _, _, conversations = json.loads(hub(READ.format(name="c-eval")))
    questions = [c[0][0]["content"].split("\n")[1] for c in conversations]
    assert questions == ["下列哪项正确？", "艺术哪项正确？", "再问？"]


def test_a_repository_that_has_changed_is_an_error_with_what_it_has(tmp_path: Path) -> None:
    repo = Repo({COMMIT: {"data/other.parquet": b""}})
    with LoopbackHub({"datasets/HuggingFaceH4/MATH-500": repo}) as server:
        kind, message, hint = HubClient(server, tmp_path)(READ.format(name="math-500"))
    assert kind == "NotFoundError"
    assert message == (
        f"HuggingFaceH4/MATH-500 at {COMMIT} has no file test.jsonl; it has data/other.parquet"
    )
    assert "NAME=FILE" in hint


def test_a_set_that_the_hub_does_not_have_is_an_error_of_its_name(tmp_path: Path) -> None:
    with LoopbackHub({}) as server:
        kind, message, _ = HubClient(server, tmp_path)(READ.format(name="gsm8k"))
    assert kind == "NotFoundError"
    assert "openai/gsm8k" in message


@pytest.mark.parametrize(
    ("name", "file", "data"),
    [
        ("gsm8k", "g.jsonl", _jsonl(GSM8K)),
        ("gsm8k", "g.jsonl.gz", gzip.compress(_jsonl(GSM8K))),
        ("gsm8k", "g.json", json.dumps({"data": [GSM8K]}).encode()),
        ("gsm8k", "g.parquet", _parquet(GSM8K)),
        ("mt-bench-zh", "z.jsonl", _jsonl(MT_BENCH)),
        ("mt-bench-en", "question.jsonl", _jsonl(MT_BENCH)),
        ("c-eval", "c.csv", CEVAL.encode()),
    ],
)
def test_a_file_of_the_schema_stands_for_the_set(
    tmp_path: Path, name: str, file: str, data: bytes
) -> None:
    (tmp_path / file).write_bytes(data)
    (found,) = read_sets([f"{name}={tmp_path / file}"])
    assert (found.name, found.source, found.revision) == (name, file, None)
    assert found.conversations[0].num_turns == (2 if name.startswith("mt-bench") else 1)


def test_the_users_own_file_is_one_set_for_each_name_in_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(
        _jsonl(
            {"prompt": "Hello"},
            {"prompt_token_ids": [1, 2], "set": "ids"},
            {"messages": [{"role": "user", "content": "Hi"}], "set": "chat"},
        )
    )
    found = read_sets([str(path)])
    assert [(s.name, s.source, len(s.conversations)) for s in found] == [
        ("mine", "mine.jsonl", 1),
        ("ids", "mine.jsonl", 1),
        ("chat", "mine.jsonl", 1),
    ]
    assert found[0].conversations[0].ask(0, ()) == {"prompt": "Hello"}
    assert found[2].conversations[0].ask(0, ()) == {"messages": [{"role": "user", "content": "Hi"}]}


def test_an_image_makes_the_conversation_one_of_images(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    url = "a.png"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What?"}]
    path = tmp_path / "mine.jsonl"
    path.write_bytes(_jsonl({"messages": [{"role": "user", "content": content}]}))
    (found,) = read_sets([str(path)])
    assert found.conversations[0].modality(0) == "image"


def test_the_bundled_prompts_are_sets_by_their_names() -> None:
    assert [s.name for s in chosen_sets((), None, None, 2)] == ["code", "maths", "chat", "chinese"]


def test_humaneval_as_bare_text_is_no_chat() -> None:
    (found,) = chosen_sets((), None, 2, None)
    assert len(found.conversations) == 2
    assert "from typing import List" in found.conversations[0].ask(0, ())["prompt"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["mmlu"], "no set 'mmlu'; expected one of humaneval, gsm8k, math-500"),
        (["mmlu=x.jsonl"], "no set 'mmlu'; expected one of humaneval"),
        (["mt-bench-zh"], "the set mt-bench-zh is not public; expected a file of the schema of"),
        ([], r"the sets \(none\); expected at least one, and each once"),
    ],
)
def test_a_set_that_is_not_known_is_wrong_use(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_sets(texts)


def test_the_same_set_twice_is_wrong_use(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    path.write_bytes(_jsonl(GSM8K))
    with pytest.raises(UsageError, match="the sets gsm8k; expected at least one, and each once"):
        read_sets([f"gsm8k={path}"] * 2)


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("a.jsonl", b'{"problem": "?"}\n', r"1 bad row\(s\), 0 good\na\.jsonl:1 has no 'question'"),
        ("a.jsonl", b'{"question": ""}\n', "has '' where a text is expected"),
        ("a.jsonl", b"{broken\n", r"a\.jsonl cannot be read: .*; expected a whole table"),
        ("a.jsonl", b"[1]\n", "not all of its rows are objects"),
        ("a.jsonl", b"", r"0 bad row\(s\), 0 good"),
        ("a.parquet", b"PAR1", r"a\.parquet cannot be read"),
        ("a.jsonl.gz", b"not gzip", r"a\.jsonl\.gz cannot be read"),
        ("a.txt", b"", r"a\.txt is no table that is read here; expected \.jsonl, \.json, \.csv"),
    ],
)
def test_a_broken_file_is_an_error_of_its_place(
    tmp_path: Path, file: str, data: bytes, message: str
) -> None:
    (tmp_path / file).write_bytes(data)
    with pytest.raises(Eagle3Error, match=message):
        read_sets([f"gsm8k={tmp_path / file}"])


def test_turns_that_are_no_list_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(_jsonl({"turns": "one"}))
    with pytest.raises(Eagle3Error, match="has turns that are no list of texts"):
        read_sets([f"mt-bench-en={path}"])


def test_an_archive_that_is_broken_is_an_error(tmp_path: Path) -> None:
    repo = Repo({COMMIT: {"ceval-exam.zip": b"no zip"}})
    with LoopbackHub({"datasets/ceval/ceval-exam": repo}) as server:
        kind, message, _ = HubClient(server, tmp_path)(READ.format(name="c-eval"))
    assert kind == "Eagle3Error"
    assert message.startswith("ceval-exam.zip cannot be read: ")


def test_a_file_that_is_not_there_is_an_error_of_its_name(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no\.jsonl cannot be read: No such file"):
        read_sets([f"gsm8k={tmp_path / 'no.jsonl'}"])


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "g.parquet").write_bytes(_parquet(GSM8K))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pyarrow is not installed") as caught:
        read_sets([f"gsm8k={tmp_path / 'g.parquet'}"])
    assert caught.value.hint is not None
    assert "pip install eagle3-plugin[sets]" in caught.value.hint


def test_every_set_of_a_card_is_known() -> None:
    from eagle3_plugin.planning.cards import cards

    assert {name for card in cards().values() for name in card.sets.values()} <= set(SETS)

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from eagle3_plugin.draft.encoded import Encoded
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.errors import Eagle3Error, MissingExtraError, TargetError

WORDS = ["<unk>", "def", "return", "x", "user", "assistant", ":"]
TEMPLATE = (
    "{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = Qwen3Config(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        vocab_size=64,
        initializer_range=0.3,
        eos_token_id=[3, 5],
        tie_word_embeddings=False,
    )
    return Qwen3ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("target")
    model.save_pretrained(path, max_shard_size="50KB")
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(path)
    return path


def load(folder: Path) -> TargetModel:
    return TargetModel.load(folder, dtype=torch.float32, device="cpu")


def copy_of(folder: Path, to: Path, without: str = "") -> Path:
    to.mkdir()
    for file in folder.iterdir():
        if file.name != without:
            (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_sharded_target_loads_with_all_its_weights(model: Any, folder: Path) -> None:
    assert len(list(folder.glob("*.safetensors"))) > 1

    target = load(folder)

    assert torch.equal(target.embed, model.get_input_embeddings().weight)
    assert torch.equal(target.lm_head, model.get_output_embeddings().weight)
    assert (target.num_layers, target.hidden_size, target.vocab_size) == (4, 32, 64)
    assert target.end_ids == (3, 5)


def test_the_boundaries_are_the_states_between_the_layers(model: Any, folder: Path) -> None:
    """Run by hand, layer by layer, from the embedding to the final norm."""
    ids = torch.arange(9)
    target = load(folder)

    states = target.states(Encoded(ids), ids, [4, 0, 2, 1, 3])

    with torch.no_grad():
        expected = model(ids[None], output_hidden_states=True).hidden_states
        normed = model.model.norm(states[4])
    for boundary in range(4):
        assert torch.equal(states[boundary], expected[boundary][0])
    assert torch.equal(normed, expected[4][0])
    assert not torch.allclose(states[4], expected[4][0])


def test_no_hooks_are_left_behind(folder: Path) -> None:
    target = load(folder)

    target.states(Encoded(torch.arange(3)), torch.arange(3), [1, 4])

    modules = [*target.layers, target.decoder.norm]
    assert [len(module._forward_pre_hooks) for module in modules] == [0] * 5


def test_a_continuation_ends_with_its_end_token_and_has_its_overhang(folder: Path) -> None:
    target = load(folder)
    prompt = Encoded(torch.tensor([1, 2, 3]))
    free = target.continue_greedily(prompt, 12, overhang=2, end_ids=())
    token = int(free.ids[3 + 5])
    first = free.ids[3:].tolist().index(token) + 1

    ended = target.continue_greedily(prompt, 12, overhang=2, end_ids=[token])

    assert (free.num_prompt_tokens, free.num_generated, len(free.ids)) == (3, 12, 17)
    assert (ended.num_generated, len(ended.ids), len(ended.margins)) == (
        first,
        5 + first,
        2 + first,
    )
    assert ended.ids.tolist() == free.ids[: 5 + first].tolist()


def test_an_end_token_in_the_overhang_ends_nothing(folder: Path) -> None:
    target = load(folder)
    free = target.continue_greedily(Encoded(torch.tensor([1, 2, 3])), 12, overhang=0, end_ids=())
    fresh = next(i for i in range(1, 12) if int(free.ids[3 + i]) not in free.ids[3 : 3 + i])

    text = target.continue_greedily(
        Encoded(torch.tensor([1, 2, 3])), fresh, overhang=3, end_ids=[int(free.ids[3 + fresh])]
    )

    assert text.num_generated == fresh
    assert len(text.ids) == 3 + fresh + 3


def test_each_kind_of_prompt_becomes_token_ids(folder: Path) -> None:
    target = load(folder)
    messages = ({"role": "user", "content": "return x"},)

    assert target.encode(Prompt("prompt", "def x: return")).ids.tolist() == [1, 3, 6, 2]
    assert target.encode(Prompt("messages", messages)).ids.tolist() == [4, 6, 2, 3, 5, 6]
    assert target.encode(Prompt("prompt_token_ids", (9, 63))).ids.tolist() == [9, 63]


def test_a_token_id_outside_the_vocabulary_names_its_line(folder: Path) -> None:
    prompt = Prompt("prompt_token_ids", (1, 64), where="p.jsonl:7")

    with pytest.raises(Eagle3Error, match=r"p.jsonl:7: token id 64, expected ids below .* of 64"):
        load(folder).encode(prompt)


def test_a_text_without_tokens_names_its_line(folder: Path) -> None:
    with pytest.raises(Eagle3Error, match=r"p.jsonl:2: no tokens, expected at least one"):
        load(folder).encode(Prompt("prompt", " ", where="p.jsonl:2"))


def test_messages_without_a_chat_template_are_refused(folder: Path, tmp_path: Path) -> None:
    target = load(copy_of(folder, tmp_path / "t", without="chat_template.jinja"))
    prompt = Prompt("messages", ({"role": "user", "content": "x"},), where="p.jsonl:1")

    with pytest.raises(Eagle3Error, match=r"p.jsonl:1: messages, but the target has no chat temp"):
        target.encode(prompt)


def test_a_chat_template_that_refuses_the_messages_names_the_line(
    folder: Path, tmp_path: Path
) -> None:
    broken = copy_of(folder, tmp_path / "t")
    (broken / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}")
    prompt = Prompt("messages", ({"role": "user", "content": "x"},), where="p.jsonl:4")

    with pytest.raises(Eagle3Error, match=r"p.jsonl:4: the target's chat template: roles must al"):
        load(broken).encode(prompt)


def test_a_target_without_tokenizer_still_takes_token_ids(folder: Path, tmp_path: Path) -> None:
    target = load(copy_of(folder, tmp_path / "t", without="tokenizer.json"))

    assert target.encode(Prompt("prompt_token_ids", (1, 2))).ids.tolist() == [1, 2]
    with pytest.raises(TargetError, match=r"has no tokenizer, expected one of \['tokenizer.json'"):
        target.encode(Prompt("prompt", "def"))


def test_a_broken_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    broken = copy_of(folder, tmp_path / "t")
    (broken / "tokenizer.json").write_text("{")

    with pytest.raises(TargetError, match="transformers cannot load the tokenizer of"):
        load(broken).encode(Prompt("prompt", "def"))


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="transformers cannot load the target"):
        load(tmp_path)


def test_an_unknown_model_type_is_refused(folder: Path, tmp_path: Path) -> None:
    other = copy_of(folder, tmp_path / "t")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "qwen99"}))

    with pytest.raises(TargetError, match="transformers cannot load the target"):
        load(other)


def test_a_missing_shard_is_refused(folder: Path, tmp_path: Path) -> None:
    shard = sorted(folder.glob("*.safetensors"))[0].name

    with pytest.raises(TargetError, match="transformers cannot load the target"):
        load(copy_of(folder, tmp_path / "t", without=shard))


def test_a_target_that_lacks_tensors_is_refused_and_names_them(model: Any, tmp_path: Path) -> None:
    state = {
        k: v for k, v in model.state_dict().items() if k != "model.layers.2.mlp.up_proj.weight"
    }
    model.save_pretrained(tmp_path, state_dict=state)

    with pytest.raises(
        TargetError, match=r"lacks 1 tensors, .*'model.layers.2.mlp.up_proj.weight'"
    ):
        load(tmp_path)


def test_a_model_without_layers_and_norm_by_these_names_is_refused(tmp_path: Path) -> None:
    config = GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16, n_positions=16)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)

    with pytest.raises(TargetError, match="GPT2LMHeadModel has no decoder with layers and a final"):
        load(tmp_path)


def test_without_transformers_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)

    with pytest.raises(MissingExtraError, match="transformers, which is not installed") as caught:
        load(tmp_path)

    assert caught.value.hint == "pip install 'eagle3-plugin[torch]'"

"""What the oracle expects of an engine, for prompts with pictures; no engine runs here."""

from __future__ import annotations

import pytest

from eagle3_plugin.settings import Settings
from tests.drafts import draft_config, write_random
from tests.engines.jobs import Job, full_chain, num_prompt_tokens, oracle, oracle_trees
from tests.engines.random_target import write_random_vl_target
from tests.vl_prompts import write_pictures

IMAGE_PAD = 268
OUTPUTS = [[7, 8, 9, 10, 11], [3, 4, 5, 6, 7]]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("jobs")
    pictures = write_pictures(folder / "pictures")
    target = write_random_vl_target(folder / "target")
    draft = write_random(folder / "draft", draft_config(image_embedding="visual"))
    files = [str(pictures / "wide.png"), str(pictures / "tall.png")]
    seen = {"ids": [5, IMAGE_PAD, 6, IMAGE_PAD, 7], "images": files}
    return Job(target, draft, [seen, [5, 6, 7]], 5)


def test_the_length_of_a_prompt_counts_every_visual_token(job: Job) -> None:
    assert num_prompt_tokens(job) == [3 + 6 + 8, 3]


def test_chains_of_all_starts_are_those_drafted_alone(job: Job) -> None:
    expected = oracle(job, OUTPUTS)

    for known in (1, 3):
        whole = full_chain(job, OUTPUTS, known)
        found = [one.drafts[known - 1] for one in expected]
        assert [ids[: ids.index(-1)] if -1 in ids else ids for ids in found] == [
            ids[: len([i for i in one if i >= 0])] for ids, one in zip(whole, found, strict=True)
        ]


def test_trees_begin_with_the_token_of_the_chain(job: Job) -> None:
    trees = oracle_trees(job, OUTPUTS, Settings(2, 1, 3))

    first = [rounds[0].tree.tokens for rounds in trees]
    assert [list(tokens) for tokens in first] == full_chain(job, OUTPUTS, 1, chain=2)

"""Hugging Face repositories over real HTTP: fresh client processes, a loopback server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tests.hub_client import CONFIG, FILES, SECRET, WEIGHTS, HubClient, unused_url
from tests.loopback_hub import COMMIT, LoopbackHub, Repo

OLD = "f" * 40


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub({"org/name": Repo({COMMIT: FILES})}) as server:
        yield server


@pytest.fixture
def client(hub: LoopbackHub, tmp_path: Path) -> HubClient:
    return HubClient(hub, tmp_path)


def test_importing_the_hub_module_loads_no_hub_library(client: HubClient) -> None:
    script = """
heavy = {"huggingface_hub", "torch", "modelscope", "modelscope_hub", "requests", "httpx2"}
show(sorted(heavy & set(sys.modules)))
"""
    assert client(script) == []


def test_a_repository_is_listed_with_sizes_and_pinned_to_a_commit(client: HubClient) -> None:
    script = """
source = resolve("org/name")
show([source.name, source.revision, dict(source.sizes()), source.read("config.json").decode(),
      source.read("config.json", 2, 6).decode(), source.local("config.json"),
      source.path("config.json").read_text(), str(source.local("config.json"))])
"""
    *shown, local = client(script)
    sizes = {"config.json": 19, "model.safetensors": len(WEIGHTS)}
    assert shown == ["org/name", COMMIT, sizes, CONFIG.decode(), "hidden", None, CONFIG.decode()]
    assert local.endswith(f"hub/models--org--name/snapshots/{COMMIT}/config.json")


def test_inspecting_reads_headers_and_small_tensors_and_no_weights(
    hub: LoopbackHub, client: HubClient
) -> None:
    script = """
checkpoint = Checkpoint.open(resolve("org/name"))
show([checkpoint.is_local, sorted(checkpoint.tensors), int(checkpoint.read("d2t").sum())])
"""
    assert client(script) == [False, ["d2t", "fc.weight"], 499500]
    assert len(WEIGHTS) > 40_000_000
    assert sum(hub.sent.values()) < 200_000


def test_what_was_downloaded_is_found_again_without_the_network(
    hub: LoopbackHub, client: HubClient
) -> None:
    download = """
source = resolve("org/name")
show([str(source.path(file)) for file in source.sizes()])
"""
    again = """
import pathlib
checkpoint = Checkpoint.open(resolve("org/name"))
source = checkpoint.source
show([source.name, source.revision, checkpoint.is_local, checkpoint.config,
      [str(source.path(file)) for file in source.sizes()]])
"""
    paths = client(download)
    hub.requests.clear()
    expected = ["org/name", COMMIT, True, {"hidden_size": 64}, paths]
    assert client(again, HF_HUB_OFFLINE="1") == expected
    assert hub.requests == []
    assert client(again, HF_ENDPOINT=unused_url()) == expected


def test_offline_without_a_copy_in_the_cache_is_said_so(
    hub: LoopbackHub, client: HubClient
) -> None:
    kind, message, hint = client('show(caught(lambda: resolve("org/name")))', HF_HUB_OFFLINE="1")
    assert kind == "OfflineError"
    assert message == "org/name is not in the cache, and offline mode is on"
    assert hint == "Unset HF_HUB_OFFLINE, or name a folder that has it."
    assert hub.requests == []


def test_offline_with_half_a_copy_names_what_is_missing(
    hub: LoopbackHub, client: HubClient
) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    hub.repos["org/shards"] = Repo(
        {
            COMMIT: {
                "config.json": CONFIG,
                "model.safetensors.index.json": json.dumps(index).encode(),
                "model-1.safetensors": save({"a": np.zeros(3)}),
                "model-2.safetensors": save({"b": np.zeros(3)}),
            }
        }
    )
    client(
        """
resolve("org/name").path("config.json")
shards = resolve("org/shards")
for file in list(shards.sizes())[:-1]:
    if file != "model-2.safetensors":
        shards.path(file)
shards.path("model.safetensors.index.json")
show(0)
"""
    )
    script = """
source = resolve("org/name")
show([caught(lambda: source.path("model.safetensors")), caught(lambda: Checkpoint.open(source)),
      caught(lambda: Checkpoint.open(resolve("org/shards")))])
"""
    file, whole, shards = client(script, HF_HUB_OFFLINE="1")
    assert file[0] == "OfflineError"
    assert file[1].startswith("'model.safetensors' of org/name is not in the cache")
    assert whole[0] == "CheckpointError"
    assert whole[1].startswith("org/name has no weights (*.safetensors or pytorch_model.bin)")
    assert shards[0] == "IncompleteError"
    assert shards[1].endswith("1 of them are not there: model-2.safetensors")


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub: LoopbackHub, client: HubClient) -> None:
    repo = hub.repos["org/name"]
    repo.commits[OLD] = {"config.json": b"{}"}
    repo.branches |= {"v1": OLD, "refs/pr/1": OLD}
    script = f"""
show([resolve("org/name@v1").revision, resolve("org/name", revision="v1").revision,
      resolve("org/name@{OLD}").revision, resolve("org/name@refs/pr/1").revision,
      resolve("org/name@v1").path("config.json").read_text(),
      caught(lambda: resolve("org/name@v2"))])
"""
    *revisions, text, error = client(script)
    assert revisions == [OLD] * 4
    assert text == "{}"
    assert error == [
        "NotFoundError",
        "org/name has no revision 'v2'",
        "Name a branch, a tag or a commit that its page lists.",
    ]


def test_files_are_those_of_the_pinned_commit_though_the_branch_moves_on(
    hub: LoopbackHub, client: HubClient
) -> None:
    hub.repos["org/name"].commits[OLD] = {"config.json": b"old"}
    script = f"""
import dataclasses
source = dataclasses.replace(resolve("org/name"), revision="{OLD}")
show([source.read("config.json", 0, 3).decode(), source.path("config.json").read_text()])
"""
    assert client(script) == ["old", "old"]


def test_a_gated_repository_names_the_licence_and_the_token(
    hub: LoopbackHub, client: HubClient
) -> None:
    hub.repos["org/gated"] = Repo({COMMIT: FILES}, gated=True, token=SECRET)
    script = """
source = resolve("org/gated")
show([caught(lambda: source.read("config.json")), caught(lambda: source.path("config.json"))])
"""
    expected = [
        "GatedError",
        "org/gated is gated: its owner asks for an agreement",
        "Accept the licence on the model's page, then set HF_TOKEN to a token of that account.",
    ]
    assert client(script) == [expected, expected]
    assert client(script, HF_TOKEN="hf_ofSomebodyElse") == [expected, expected]
    allowed = client(script, HF_TOKEN=SECRET)
    assert "hidden_size" in allowed[0]
    assert allowed[1].endswith("config.json")


def test_a_missing_and_a_private_repository_look_the_same_and_both_remedies_are_named(
    hub: LoopbackHub, client: HubClient
) -> None:
    hub.repos["org/private"] = Repo({COMMIT: FILES}, private=True, token=SECRET)
    script = """
show([caught(lambda: resolve("org/private")), caught(lambda: resolve("org/nam")),
      caught(lambda: resolve("org/a--b"))])
"""
    private, missing, invalid = client(script)
    assert private[:2] == [
        "NotFoundError",
        "org/private is not on the hub, or it is private and no valid token was given",
    ]
    assert missing[:2] == ["NotFoundError", private[1].replace("private is not", "nam is not")]
    assert "Check the spelling" in missing[2]
    assert "HF_TOKEN" in missing[2]
    assert invalid[:2] == ["NotFoundError", "'org/a--b' cannot be a repository's name"]
    with_token = client(script, HF_TOKEN=SECRET)
    assert with_token[0].startswith("HubSource(name='org/private'")
    assert with_token[1] == missing
    assert f"Bearer {SECRET}" in hub.authorizations


def test_a_file_that_is_not_listed_is_not_asked_for(hub: LoopbackHub, client: HubClient) -> None:
    script = """
source = resolve("org/name")
show([caught(lambda: source.read("x.json")), caught(lambda: source.path("x.json")),
      caught(lambda: source.path("../x"))])
"""
    read, path, outside = client(script)
    expected = "org/name has no file 'x.json'; it has config.json, model.safetensors"
    assert read[:2] == path[:2] == ["NotFoundError", expected]
    assert outside[0] == "SourceError"
    assert not [request for request in hub.requests if "x.json" in request]


def test_a_hub_that_cannot_be_reached_or_is_out_of_order_is_named(
    hub: LoopbackHub, client: HubClient
) -> None:
    script = 'show(caught(lambda: resolve("org/name")))'
    secret = unused_url().replace("//", f"//user:{SECRET}@")
    kind, message, hint = client(script, HF_ENDPOINT=secret)
    assert kind == "OfflineError"
    assert message == "127.0.0.1 cannot be reached for org/name"
    assert hint.startswith("Check the network and HF_ENDPOINT")
    hub.failing.status = 503
    assert client(script)[:2] == ["OfflineError", "127.0.0.1 answered 503 for org/name"]


def test_a_page_in_place_of_an_answer_is_said_so(hub: LoopbackHub, client: HubClient) -> None:
    hub.failing.status = 200
    kind, message, _ = client('show(caught(lambda: Checkpoint.open(resolve("org/name"))))')
    assert kind == "SourceError"
    assert message.startswith("127.0.0.1 gave an answer that cannot be read for org/name")


def test_a_download_that_breaks_off_leaves_no_file_and_can_be_taken_up_again(
    hub: LoopbackHub, client: HubClient
) -> None:
    hub.failing.cut = {"model.safetensors": 1_000_000}
    script = """
import time
time.sleep = lambda seconds: None
source = resolve("org/name")
error = caught(lambda: source.path("model.safetensors"))
cut = caught(lambda: source.read("model.safetensors", 900_000, 200_000))
show([error, cut, source.local("model.safetensors")])
"""
    error, cut, local = client(script)
    assert error[0] == "OfflineError"
    assert "org/name" in error[1]
    assert cut[:2] == [
        "OfflineError",
        "127.0.0.1 cannot be reached or broke off for org/name (RemoteProtocolError)",
    ]
    assert local is None
    hub.failing.cut = {}
    size = 'show(resolve("org/name").path("model.safetensors").stat().st_size)'
    assert client(size) == len(WEIGHTS)


def test_a_server_without_ranges_is_asked_for_the_whole_file_once(
    hub: LoopbackHub, client: HubClient
) -> None:
    hub.repos["org/small"] = Repo({COMMIT: {"config.json": CONFIG}})
    hub.failing.ignore_ranges = True
    script = """
source = resolve("org/small")
show([source.read("config.json", 2, 6).decode(), source.local("config.json") is not None])
"""
    assert client(script) == ["hidden", True]

"""ModelScope through its own library, over real HTTP."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eagle3_plugin.errors import (
    MissingExtraError,
)
from eagle3_plugin.hub import resolve
from tests.hub_client import FILES, WEIGHTS, HubClient, unused_url
from tests.loopback_hub import COMMIT, LoopbackHub, Repo


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub({"org/name": Repo({COMMIT: FILES})}) as server:
        yield server


@pytest.fixture
def client(hub: LoopbackHub, tmp_path: Path) -> HubClient:
    return HubClient(hub, tmp_path)


def test_without_modelscope_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelscope_hub", None)
    with pytest.raises(MissingExtraError, match="modelscope:org/name needs ModelScope's") as caught:
        resolve("modelscope:org/name")
    assert caught.value.hint == "pip install 'eagle3-plugin[modelscope]'"


def test_a_modelscope_repository_is_read_by_range_and_found_again_without_the_network(
    hub: LoopbackHub, client: HubClient
) -> None:
    pytest.importorskip("modelscope_hub")
    script = """
checkpoint = Checkpoint.open(resolve("modelscope:org/name"))
source = checkpoint.source
show([source.name, source.revision, dict(source.sizes()), checkpoint.is_local,
      int(checkpoint.read("d2t").sum())])
"""
    sizes = {"config.json": 19, "model.safetensors": len(WEIGHTS)}
    expected = ["modelscope:org/name", "master", sizes, False, 499500]
    assert client(script) == expected
    assert sum(hub.sent.values()) < 200_000
    download = """
source = resolve("modelscope:org/name")
show([str(source.path(file)) for file in source.sizes()])
"""
    assert len(client(download)) == 2
    downloaded = [*expected[:3], True, 499500]
    assert client(script) == downloaded
    assert client(script, MODELSCOPE_ENDPOINT=unused_url()) == downloaded


def test_a_modelscope_repository_that_is_not_there_is_said_so(
    hub: LoopbackHub, client: HubClient
) -> None:
    pytest.importorskip("modelscope_hub")
    script = """
show([caught(lambda: resolve("modelscope:org/nam")),
      caught(lambda: resolve("modelscope:org/name@v9")),
      caught(lambda: resolve("modelscope:org/name").read("x.json"))])
"""
    missing, revision, file = client(script)
    assert missing[:2] == ["NotFoundError", "modelscope:org/nam (master) is not on ModelScope"]
    assert revision[:2] == ["NotFoundError", "modelscope:org/name (v9) is not on ModelScope"]
    assert (
        file[1] == "modelscope:org/name has no file 'x.json'; it has config.json, model.safetensors"
    )
    gone = client(
        'show(caught(lambda: resolve("modelscope:org/name")))', MODELSCOPE_ENDPOINT=unused_url()
    )
    assert gone[:2] == ["OfflineError", "ModelScope cannot be reached for modelscope:org/name"]

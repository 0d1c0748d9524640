"""launch/monitoring: by Prometheus's own tools, and in a real one that scrapes both engines."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from eagle3_plugin.demo_engines import DemoEngine
from eagle3_plugin.serving.client import Client
from eagle3_plugin.serving.process import Server, free_port, start
from eagle3_plugin.tiny import tiny_pair
from tests.launch.commands import COMPOSE, LAUNCH

MONITORING = LAUNCH / "monitoring"
RULES, CONFIG = MONITORING / "rules.yaml", MONITORING / "prometheus.yaml"
ENGINES = {"vllm": "vLLM", "sglang": "SGLang"}
METRIC = re.compile(r"\b(vllm|sglang)(?::|\[:_\])\w+")
TIMEOUT_S = 600
WAIT_S = 180
WINDOW = "10s"

needs_prometheus = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="Debian's package prometheus is not installed"
)


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    return loaded


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard()["panels"]
    return found


TARGETS = [(panel["title"], each) for panel in panels() for each in panel["targets"]]
NAMES = [f"{title}, {target['legendFormat']}" for title, target in TARGETS]


def engine_of(expression: str) -> str:
    """The one engine whose metrics the expression is of."""
    [engine] = set(METRIC.findall(expression))
    return str(engine)


@needs_prometheus
@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "--lint-fatal", RULES),
        ("check", "config", "--lint-fatal", CONFIG),
        ("test", "rules", Path(__file__).with_name("monitoring_rules.yaml")),
    ],
    ids=["rules", "config", "rules' own tests"],
)
def test_promtool_finds_nothing(words: Sequence[str | Path]) -> None:
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_scrapes_the_ports_of_the_compose_file() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    ports = {
        job["job_name"].removeprefix("eagle3-"): job["static_configs"][0]["targets"]
        for job in config["scrape_configs"]
    }
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    published = {
        name: ":".join(re.findall(r"[\d.]+", service["ports"][0])[:2])
        for name, service in services.items()
    }
    assert ports == {name: [address] for name, address in published.items()}


@pytest.mark.parametrize(("title", "target"), TARGETS, ids=NAMES)
def test_a_query_is_of_the_engine_that_its_legend_names(title: str, target: dict[str, Any]) -> None:
    assert target["legendFormat"].startswith(ENGINES[engine_of(target["expr"])])
    assert 'instance=~"$instance"' in target["expr"]


def test_every_panel_has_both_engines_but_for_what_one_does_not_report() -> None:
    missing = {
        panel["title"]: set(ENGINES) - {engine_of(each["expr"]) for each in panel["targets"]}
        for panel in panels()
    }
    assert {title: lacks for title, lacks in missing.items() if lacks} == {
        "Acceptance by position": {"sglang"}
    }


def test_panels_lie_beside_each_other_and_have_ids_of_their_own() -> None:
    places = [panel["gridPos"] for panel in panels()]
    cells = [
        (x, y)
        for p in places
        for x in range(p["x"], p["x"] + p["w"])
        for y in range(p["y"], p["y"] + p["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))


def test_the_dashboard_asks_for_its_data_source() -> None:
    sources = [panel["datasource"]["uid"] for panel in panels()]
    sources += [target["datasource"]["uid"] for _, target in TARGETS]
    assert set(sources) == {"${datasource}"}
    names = [variable["name"] for variable in dashboard()["templating"]["list"]]
    assert names == ["datasource", "instance"]


@dataclass(frozen=True)
class Monitored:
    """A Prometheus that has scraped both engines for a while, under requests."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        asked = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{asked}", timeout=30) as response:
            found: list[dict[str, Any]] = json.load(response)["data"]["result"]
            return found

    def has_numbers(self, expression: str) -> bool:
        values = [row["value"][1] for row in self.query(expression)]
        return bool(values) and "NaN" not in values and "+Inf" not in values


@pytest.fixture(scope="module")
def monitored(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    """Both engines with the tiny pair, started together; requests go on until the tests end."""
    folder = tmp_path_factory.mktemp("monitored")
    pair = tiny_pair("llama")
    with ExitStack() as stack, ThreadPoolExecutor(3) as pool:

        def run(name: str) -> Server:
            python = str(repository / ".venvs" / name / "bin" / "python")
            engine = DemoEngine(name, python)
            started = engine.server(
                pair.target, pair.draft, folder / f"{name}.log", lambda *given: None
            )
            return stack.enter_context(started)

        servers = dict(zip(ENGINES, pool.map(run, ENGINES), strict=True))
        config = written_config(folder, {name: server.port for name, server in servers.items()})
        prometheus = started_prometheus(folder, config)
        stack.callback(prometheus.stop)
        for server in servers.values():
            pool.submit(answer_all, Client.connect(server.url)).result(TIMEOUT_S)
        wait_until(lambda: ready(prometheus.url), "Prometheus answers")
        asking = [pool.submit(ask_until, servers[name], folder / "stop") for name in ENGINES]
        try:
            yield Monitored(prometheus.url)
        finally:
            (folder / "stop").touch()
        for each in asking:
            each.result()


def written_config(folder: Path, ports: dict[str, int]) -> Path:
    """launch/monitoring/prometheus.yaml with these ports, and intervals of a second."""
    config = yaml.safe_load(CONFIG.read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    for job in config["scrape_configs"]:
        port = ports[job["job_name"].removeprefix("eagle3-")]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    shutil.copy(RULES, folder / "rules.yaml")
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def started_prometheus(folder: Path, config: Path) -> Server:
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    return start(command, env=dict(os.environ), port=port, log_path=folder / "prometheus.log")


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not so after {WAIT_S} s"
        time.sleep(0.5)


def answer_all(client: Client) -> None:
    for ids in tiny_pair("llama").prompts[:2]:
        client.completion(prompt_token_ids=ids, max_tokens=32, ignore_eos=True)


def ask_until(server: Server, stop: Path) -> None:
    client = Client.connect(server.url)
    while not stop.exists():
        answer_all(client)


@needs_prometheus
@pytest.mark.engine
@pytest.mark.slow
def test_every_query_of_the_dashboard_has_data_of_its_engine(monitored: Monitored) -> None:
    """Under a busy machine a request can take longer than the window, so each is asked again."""
    for title, target in TARGETS:
        expression = target["expr"].replace("$__rate_interval", WINDOW).replace("$instance", ".*")
        wait_until(partial(monitored.has_numbers, expression), expression)
        jobs = monitored.query(f'up{{job="eagle3-{engine_of(expression)}"}}')
        instances = {row["metric"]["instance"] for row in monitored.query(expression)}
        assert instances == {jobs[0]["metric"]["instance"]}, title


@needs_prometheus
@pytest.mark.engine
@pytest.mark.slow
def test_every_record_has_data_and_both_engines_agree_on_the_tiny_pair(
    monitored: Monitored,
) -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    names = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    for name in sorted(names):
        wait_until(partial(monitored.has_numbers, name), name)
    wait_until(partial(agree, monitored), "tokens per verify of the two engines within 15 %")


def agree(monitored: Monitored) -> bool:
    """Not in the first seconds: a counter of SGLang's appears with its first event, which a rate
    therefore lacks."""
    rows = monitored.query("eagle3:tokens_per_verify:ratio_rate5m")
    found = {row["metric"]["engine"]: float(row["value"][1]) for row in rows}
    if sorted(found) != ["sglang", "vllm"] or not 1.5 < found["vllm"] < 4:
        return False
    return abs(found["sglang"] / found["vllm"] - 1) < 0.15

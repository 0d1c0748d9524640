"""What a run was of: releases, hardware, files and their hashes, the chat template."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from eagle3_plugin import __version__
from eagle3_plugin.engines.interpreter import ask
from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.hub import Source, resolve
from eagle3_plugin.measuring.provenance import Machine, Model, ModelFile, Versions
from eagle3_plugin.planning.asked import local_hardware
from eagle3_plugin.planning.profile import cpu_name
from eagle3_plugin.serving.client import Client, get_json
from eagle3_plugin.serving.compose import Device
from eagle3_plugin.serving.preflight import PACKAGES, Engine

TIMEOUT_S: Final = 60.0
SHA256_LENGTH: Final = 64
LOOK: Final = """
import importlib.metadata as m, json, platform, sys
def version(*names):
    for name in names:
        try: return m.version(name)
        except m.PackageNotFoundError: pass
print(json.dumps({"engine": version(*sys.argv[1:]), "torch": version("torch"),
                  "transformers": version("transformers"), "python": platform.python_version()}))
"""
"""Asks an environment what is installed, without an import of the engine."""

DRIVER: Final = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")


def versions_there(engine: Engine, python: str) -> Versions:
    """The releases in the engine's environment."""
    words = ["-P", "-c", LOOK, *PACKAGES[engine]]
    done = ask(python, words, what="what is installed there", timeout_s=TIMEOUT_S)
    try:
        found: dict[str, str | None] = json.loads(done.stdout)
    except ValueError:
        found = {}
    names = ("engine", "torch", "transformers", "python")
    return Versions(plugin=__version__, **{name: found.get(name) for name in names})


def versions_of(client: Client) -> Versions:
    """What a running server says of itself: its own release."""
    path, key = ("/server_info", "version") if client.engine == "sglang" else ("/version",) * 2
    try:
        release = get_json(client.url, path).get(key.removeprefix("/"))
    except Eagle3Error:
        release = None
    return Versions(
        plugin=__version__,
        engine=str(release) if release else None,
        torch=None,
        transformers=None,
        python=None,
    )


def machine(device: Device | None, num_gpus: int | None) -> Machine:
    """This machine; device None = the servers may run elsewhere."""
    return Machine(
        device=device,
        hardware=None if device is None else _hardware(device),
        num_gpus=num_gpus if device == "gpu" else None,
        driver=_driver() if device == "gpu" else None,
        system=f"{platform.system()} {platform.release()}",
    )


def model(name: str) -> Model:
    """The files of a target or a draft that are on this machine, hashed."""
    try:
        source = resolve(name)
        files = tuple(_file(source, file, size) for file, size in source.sizes().items())
    except Eagle3Error:
        return Model(name=name, revision=None, files=())
    return Model(name=source.name, revision=source.revision, files=files)


def stamp(name: str) -> dict[str, Any]:
    """Of a folder bytes and time of change of each file, which is cheap beside its hash; of a hub
    the revision, since the engine may yet download the files.
    """
    try:
        source = resolve(name)
        if source.revision is not None:
            return {"revision": source.revision}
        paths = {file: source.local(file) for file in source.sizes()}
    except Eagle3Error:
        return {}
    found = {file: path.stat() for file, path in paths.items() if path is not None}
    return {file: [stat.st_size, stat.st_mtime_ns] for file, stat in found.items()}


def served_model(client: Client) -> Model:
    """The name that a server gives its model; its files are not seen."""
    return Model(name=client.model, revision=None, files=())


def template_sha256(target: str) -> str | None:
    """Of the target's chat template, as its files have it."""
    text = _template(target)
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def _template(target: str) -> str | None:
    try:
        path = resolve(target).local("chat_template.jinja")
        if path is not None:
            return path.read_text(encoding="utf-8")
    except Eagle3Error:
        return None
    found = _json_file(target, "tokenizer_config.json").get("chat_template")
    return found if isinstance(found, str) else None


def _json_file(name: str, file: str) -> dict[str, Any]:
    try:
        path = resolve(name).local(file)
        found = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
    except (Eagle3Error, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _file(source: Source, file: str, num_bytes: int) -> ModelFile:
    path = source.local(file)
    return ModelFile(name=file, num_bytes=num_bytes, sha256=None if path is None else _sha256(path))


def _sha256(path: Path) -> str:
    """Large files in Hugging Face's cache are named by their hash (huggingface_hub, blobs)."""
    real = path.resolve()
    if real.parent.name == "blobs" and len(real.name) == SHA256_LENGTH:
        return real.name
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _hardware(device: Device) -> str | None:
    try:
        return cpu_name() if device == "cpu" else local_hardware()
    except Eagle3Error:
        return None


def _driver() -> str | None:
    if shutil.which(DRIVER[0]) is None:
        return None
    done = subprocess.run(DRIVER, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return done.stdout.strip().partition("\n")[0] or None

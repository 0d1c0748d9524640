"""An engine's environment as a user has it: the built wheel, without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def with_wheel(engine: str, repository: Path, folder: Path) -> Path:
    """The Python of a copy (hard links) of the engine's environment with the wheel installed."""
    dev = repository / ".venvs" / "dev" / "bin" / "python"
    build = [str(dev), "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(repository)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("eagle3_plugin-*.whl")
    environment = folder / "environment"
    shutil.copytree(repository / ".venvs" / engine, environment, symlinks=True, copy_function=_link)
    python = environment / "bin" / "python"
    pip = [str(python), "-m", "pip", "-q"]
    subprocess.run([*pip, "uninstall", "--yes", "eagle3-plugin"], check=True, cwd=folder)
    subprocess.run([*pip, "install", "--no-deps", str(wheel)], check=True, cwd=folder)
    return python


def installed_folder(python: Path) -> Path:
    """Where that Python finds the package; a path inside its environment."""
    code = "import eagle3_plugin; print(eagle3_plugin.__file__)"
    done = subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    return Path(done.stdout.strip()).parent


def _link(source: str, destination: str) -> None:
    os.link(source, destination, follow_symlinks=False)

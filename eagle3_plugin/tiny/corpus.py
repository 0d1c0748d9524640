"""The text that the tiny models learn: part of the standard library's own sources.

The modules are listed by name, so that two machines with the same Python train on the same text;
a module that this Python does not have is left out, and the corpus hash says so.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eagle3_plugin.errors import NotFoundError

_TRAINING_MODULES = """
    _collections_abc _markupbase _pyio _strptime argparse ast base64 bdb calendar cmd code
    codecs compileall configparser contextlib copy csv dataclasses datetime decimal difflib dis
    doctest enum fileinput fractions ftplib functools getopt gettext glob gzip heapq imaplib
    inspect ipaddress locale mailbox mimetypes modulefinder optparse os pdb pickle pickletools
    pkgutil platform plistlib posixpath pprint pstats pyclbr pydoc random reprlib sched
    selectors shutil site smtplib socket ssl statistics string subprocess tarfile tempfile
    threading trace traceback turtle typing uuid weakref webbrowser zipfile
"""
TRAINING_MODULES = tuple(_TRAINING_MODULES.split())
_HELD_OUT_MODULES = """
    bz2 colorsys copyreg filecmp fnmatch genericpath getpass graphlib hashlib hmac linecache
    lzma netrc ntpath numbers poplib queue quopri shelve shlex socketserver textwrap timeit
    types
"""
HELD_OUT_MODULES = tuple(_HELD_OUT_MODULES.split())
"""Never trained on; the prompts that judge the pair come from these."""

MAX_FILE_BYTES = 12_000
"""Of each file's beginning: many kinds of text matter more than whole files."""


@dataclass(frozen=True)
class Corpus:
    """Texts by module, and the hash of all of them."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """The hash of all texts in order."""
        digest = hashlib.sha256()
        for text in (*self.training, "|", *self.held_out):
            digest.update(text.encode() + b"\0")
        return digest.hexdigest()


def read_corpus(folder: Path | None = None) -> Corpus:
    """The corpus from `folder`, by default this Python's standard library."""
    folder = folder or Path(sysconfig.get_paths()["stdlib"])
    training, held_out = (_read(folder, names) for names in (TRAINING_MODULES, HELD_OUT_MODULES))
    if len(training) < len(TRAINING_MODULES) // 2 or len(held_out) < len(HELD_OUT_MODULES) // 2:
        raise NotFoundError(
            f"{folder} has {len(training)} of the {len(TRAINING_MODULES)} and {len(held_out)} of "
            f"the {len(HELD_OUT_MODULES)} sources that the tiny pair is trained on and judged by",
            hint="Use a Python whose standard library is installed as .py files.",
        )
    return Corpus(training, held_out)


def _read(folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    files = [folder / f"{name}.py" for name in names]
    return tuple(_beginning(file) for file in files if file.is_file())


def _beginning(file: Path) -> str:
    """Whole lines, at most MAX_FILE_BYTES, in UTF-8 with Unix line ends."""
    stored = file.read_bytes()
    text = stored[:MAX_FILE_BYTES].decode(errors="ignore").replace("\r\n", "\n")
    return text if len(stored) <= MAX_FILE_BYTES else text[: text.rindex("\n") + 1]

"""A file of a bag: copied from the store, hashed twice on the way, kept only when it is the one that was named.

A file lies in `data/` under its key in the archive, with `+` for `%`. RFC 8493 wants a percent sign in a path encoded,
the tools in use read it as it stands, and some take `%0A` for the end of a line: without one they all agree. No key has
a `+` of its own.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from formant_archive.errors import ArchiveDamaged
from formant_archive.records import Link
from formant_archive.stores import Store

_CHUNK = 1 << 20


@dataclass(frozen=True)
class File:
    """A file of a bag: its path from the bag's top, its size in bytes and its hashes, hex."""

    path: str
    size: int
    sha256: str
    sha512: str


def path_of(key: str) -> str:
    """Say where in a bag an object of the archive lies."""
    return f"data/{key.replace('%', '+')}"


def copy(store: Store, link: Link, bag: Path) -> File:
    """Copy an object of the archive into a bag.

    Raises:
        ObjectMissing: Nothing is stored under the key.
        ArchiveDamaged: It is not the one that was named. Nothing of it stays in the bag.
    """
    path = path_of(link.key)
    with store.open(link.key) as source:
        target = bag / path
        _make_folders(bag, path)
        with target.open("xb") as file:
            copied = _hashed(path, source, file)
    if copied.sha256 != link.sha256:
        target.unlink()
        raise ArchiveDamaged(f"{link.key} does not have the SHA-256 that the archive names")
    return copied


def _make_folders(bag: Path, path: str) -> None:
    """Make the folders of a file, but never the bag itself: once it is removed, it stays so."""
    for folder in reversed(PurePosixPath(path).parents[:-1]):
        (bag / folder).mkdir(exist_ok=True)


def weigh(bag: Path, path: str) -> File:
    """Hash a file that was written into a bag."""
    with (bag / path).open("rb") as source:
        return _hashed(path, source)


def _hashed(path: str, source: BinaryIO, target: BinaryIO | None = None) -> File:
    sha256, sha512, size = hashlib.sha256(), hashlib.sha512(), 0
    while chunk := source.read(_CHUNK):
        sha256.update(chunk)
        sha512.update(chunk)
        size += len(chunk)
        if target is not None:
            target.write(chunk)
    return File(path, size, sha256.hexdigest(), sha512.hexdigest())

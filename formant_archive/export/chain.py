"""The part of the archive's chain that proves a selection: from its first manifest up to the head.

The head's hash, known from outside, proves the manifest before it, and so on down to those that name the
conversations; each names its entry parts by hash, and an entry names a conversation's record and payloads.
"""

from collections.abc import Iterator
from pathlib import Path

from formant_archive import keys
from formant_archive.errors import ArchiveDamaged, ObjectMissing
from formant_archive.export.payload import File, copy
from formant_archive.manifest import Manifest, digest
from formant_archive.records import Link
from formant_archive.stores import Store


def head_of(store: Store, sequence: int) -> tuple[Manifest, Link]:
    """Read a manifest and its hash, without the state that it hands on.

    Raises:
        ArchiveDamaged: It is no manifest, or not of that number.
    """
    key = keys.manifest(sequence)
    body = store.get(key)
    manifest = Manifest.read(body)
    if manifest.sequence != sequence:
        raise ArchiveDamaged(f"{key} says that it is number {manifest.sequence}")
    return manifest, Link(key=key, sha256=digest(body))


def copy_chain(store: Store, head: Link, naming: set[int], bag: Path) -> Iterator[File]:
    """Copy the manifests from the head down to the lowest number of `naming`, and the entry parts of those.

    A manifest's entry parts may hold other conversations of the same run: their ids, agents and times.

    Raises:
        ArchiveDamaged: A manifest or a part is not what is named above it.
    """
    link: Link | None = head
    while link is not None:
        yield _copied(store, link, bag)
        manifest = Manifest.read((bag / "data" / link.key).read_bytes())
        if manifest.sequence in naming:
            for part in manifest.entries:
                yield from _once(store, part, bag)
        link = manifest.previous if manifest.sequence > min(naming) else None


def _once(store: Store, part: Link, bag: Path) -> Iterator[File]:
    """Copy a part that two manifests may name: a commit can be repeated."""
    if not (bag / "data" / part.key).exists():
        yield _copied(store, part, bag)


def _copied(store: Store, link: Link, bag: Path) -> File:
    try:
        return copy(store, link, bag)
    except ObjectMissing:
        raise ArchiveDamaged(f"{link.key} is missing: the chain ends before it; run formant-archive verify") from None

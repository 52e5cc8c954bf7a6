"""The bag: a folder that proves itself, in the form of RFC 8493 (BagIt 1.0).

    bagit.txt, bag-info.txt, manifest-sha256.txt, manifest-sha512.txt, tagmanifest-sha256.txt, tagmanifest-sha512.txt
    index.html
    data/index.csv
    data/conversations/agent_id=…/date=…/<id>/conversation.json, recording.wav, record.json
    data/manifests/…json, data/manifests/parts/…

The hashes in the manifests are of the bytes as they came from the store. Then the `bagit` library reads all files again
and compares: a bag that it does not call valid is never handed over. Its own `make_bag` is not used: it labels its bags
0.97, does not find a file again that has `%0A` in its name, changes the process's current folder, and would hash once
more.
"""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import bagit

from formant_archive import keys
from formant_archive.catalogue import Holding
from formant_archive.errors import StoreUnavailable
from formant_archive.export.chain import copy_chain, head_of
from formant_archive.export.cover import Asked, Cover, Tally
from formant_archive.export.exhibit import Exhibit, show
from formant_archive.export.page import PAGE, Page
from formant_archive.export.payload import File, path_of, weigh
from formant_archive.export.table import TABLE, table
from formant_archive.ledger import last_sequence
from formant_archive.register import Map
from formant_archive.stores import Store

#: Takes a line that says how far it is.
Tell = Callable[[str], None]
ALGORITHMS = ("sha256", "sha512")
_INFO = "bag-info.txt"
_BAGIT = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_DESCRIPTION = (
    "Archived phone conversations, byte for byte as the API served them. Open index.html.",
    "data/manifests proves each of them against the head. Its manifests and entry parts also hold ids, agents and times"
    " of other conversations of the same runs: no phone numbers, no words.",
)


def write_bag(
    store: Store,
    holdings: Iterable[Holding],
    bag: Path,
    asked: Asked,
    *,
    each: Map = map,
    tell: Tell = lambda line: None,
) -> Cover:
    """Fill an empty folder with a bag of conversations.

    Args:
        store: The archive.
        holdings: The conversations, of a catalogue that was read before.
        bag: The folder.
        asked: What the bag says of itself.
        each: Copies many at once, see `register.Map`.
        tell: Is told how far it is.

    Raises:
        ArchiveDamaged: The manifests are not a chain: the bag would prove nothing.
        StoreError: The store is out of reach, or denies it.
        StoreUnavailable: What was written is not what is read back.
        OSError: The folder cannot be written.
    """
    manifest, head = head_of(store, last_sequence(store))
    tally, payload = Tally(), _Payload(bag)
    with payload.manifests(), Page() as page:
        with table(bag) as line, _ended(each(lambda one: show(store, one, bag), holdings)) as exhibits:
            for exhibit in exhibits:
                payload.take(exhibit.files)
                line(exhibit)
                page.add(exhibit)
                tally.add(exhibit)
                tell(f"{tally.conversations:,} conversations, {tally.bytes / 1e6:,.1f} MB")
        tell("the manifests that prove them")
        payload.take(copy_chain(store, head, tally.naming, bag))
        payload.take([weigh(bag, TABLE)])
        cover = Cover(
            archive_id=manifest.archive_id,
            source=manifest.source,
            head=f"{manifest.sequence}:{head.sha256}",
            head_file=path_of(head.key),
            asked=asked,
            tally=tally,
        )
        page.write(bag, cover)
    _write_tags(bag, cover, payload)
    tell("reading all of it again")
    _validate(bag)
    return cover


@contextmanager
def _ended(results: Iterable[Exhibit]) -> Iterator[Iterable[Exhibit]]:
    """End what gives the results: threads that went on would write into a folder that is being removed."""
    try:
        yield results
    finally:
        if isinstance(results, Generator):
            results.close()


class _Payload:
    """The files of `data/`: a line of each manifest for each file."""

    def __init__(self, bag: Path) -> None:
        self._bag = bag
        self.bytes = self.files = 0

    @contextmanager
    def manifests(self) -> Iterator[None]:
        """Keep the manifests open."""
        with (
            (self._bag / "manifest-sha256.txt").open("x", encoding="utf-8") as self._sha256,
            (self._bag / "manifest-sha512.txt").open("x", encoding="utf-8") as self._sha512,
        ):
            yield

    def take(self, files: Iterable[File]) -> None:
        """Name files in the manifests."""
        for file in files:
            self._sha256.write(f"{file.sha256}  {file.path}\n")
            self._sha512.write(f"{file.sha512}  {file.path}\n")
            self.bytes += file.size
            self.files += 1


def _write_tags(bag: Path, cover: Cover, payload: _Payload) -> None:
    (bag / "bagit.txt").write_text(_BAGIT, encoding="utf-8")
    info = "".join(f"{label}: {value}\n" for label, value in _info(cover, payload))
    (bag / _INFO).write_text(info, encoding="utf-8")
    names = ("bag-info.txt", "bagit.txt", PAGE, *(f"manifest-{one}.txt" for one in ALGORITHMS))
    tags = [weigh(bag, name) for name in names]
    for one in ALGORITHMS:
        lines = (f"{getattr(file, one)}  {file.path}\n" for file in tags)
        (bag / f"tagmanifest-{one}.txt").write_text("".join(lines), encoding="utf-8")


def _info(cover: Cover, payload: _Payload) -> Iterator[tuple[str, str]]:
    """List what `bag-info.txt` says. An id stands there as in keys: on one line, whatever is in it."""
    yield from (("External-Description", text) for text in _DESCRIPTION)
    yield "External-Identifier", cover.archive_id
    yield "Bagging-Date", f"{cover.asked.made_at:%Y-%m-%d}"
    yield "Bag-Software-Agent", f"formant-archive {cover.asked.version}"
    yield "Payload-Oxum", f"{payload.bytes}.{payload.files}"
    yield "Archive-Source", cover.source
    yield "Archive-Head", cover.head
    yield "Selection", cover.asked.selection
    yield "Conversations", str(cover.tally.conversations)
    for one in cover.tally.damaged:
        yield "Damaged", f"{keys.component(one.conversation_id)}: {'; '.join(one.damage)}"


def _validate(bag: Path) -> None:
    """Read the whole bag again, as whoever gets it will.

    Raises:
        StoreUnavailable: It is not what was written.
    """
    # It logs each file, and a traceback's worth of what we say in one line.
    logging.getLogger(bagit.LOGGER.name).setLevel(logging.CRITICAL)
    try:
        bagit.Bag(str(bag)).validate()
    except bagit.BagError as fault:
        reason = " ".join(str(fault).split())[:300]
        raise StoreUnavailable(f"what was written is not what is read back: look at the disk ({reason})") from None

"""`formant-archive export`: a selection of conversations for a lawyer or an auditor."""

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from formant_archive import __version__, keys
from formant_archive.catalogue import Catalogue, Selection, read_catalogue
from formant_archive.cli import ArchiveUrl, Json, err, out
from formant_archive.cli.selection import NOTHING, Ids, Which
from formant_archive.crew import abreast
from formant_archive.errors import UsageError
from formant_archive.export.bag import Tell, write_bag
from formant_archive.export.cover import Asked, Damaged
from formant_archive.export.page import PAGE
from formant_archive.export.place import building, check_place, zip_name
from formant_archive.export.table import utc
from formant_archive.export.vcon import write_vcons
from formant_archive.settings import load_settings
from formant_archive.stores import Store, open_store

#: Ids and damaged conversations that a person is shown; `--json` gives all.
SHOWN = 5
#: Seconds between two lines of progress where there is no terminal.
NOW_AND_THEN = 10

To = Annotated[Path, Parameter(help="The folder to make; it must be empty or not be there.")]
Format = Literal["bag", "vcon"]
AsFormat = Annotated[Format, Parameter("--format", help="A BagIt bag with a page to read, or a vCon for each.")]
RecordingsAt = Annotated[
    str | None, Parameter(help="https address of the archive's keys: a vCon then names its recording, and has it not.")
]
Zip = Annotated[bool, Parameter("--zip", negative="", help="Make one file of it, FOLDER.zip.")]


def run_export(
    ids: Ids = (),
    *,
    to: To,
    which: Which = NOTHING,
    as_format: AsFormat = "bag",
    recordings_at: RecordingsAt = None,
    as_zip: Zip = False,
    archive_url: ArchiveUrl = None,
    as_json: Json = False,
) -> int:
    """Hand over conversations: as a BagIt bag with an index.html to open, or as vCons."""
    selection = which.checked(ids)
    if recordings_at is not None and as_format != "vcon":
        raise UsageError("--recordings-at is for --format vcon: a bag holds the recordings")
    target = (zip_name(to) if as_zip else to).absolute()
    check_place(target)
    store = open_store(load_settings(archive_url=archive_url).archive_url)
    try:
        with closing(read_catalogue(store, abreast)) as catalogue:
            export = Export(store, catalogue, selection, target, as_zip=as_zip)
            handed = export.run(as_format, recordings_at)
            absent = export.absent()
    except KeyboardInterrupt:
        err.print(f"interrupted: nothing was left at {target}")
        return 130
    if as_json:
        out.print(json.dumps({"format": as_format, **asdict(handed), "not_found": absent}))
    else:
        say(handed, absent)
    return int(bool(not handed.conversations or absent or handed.damaged))


@dataclass(frozen=True)
class Handed:
    """What was handed over.

    Attributes:
        conversations: How many; 0 where nothing matched, and nothing was written.
        bytes: Of their files.
        to: The folder or the file.
        head: What a bag proves itself against; None where it is none.
        open: What to open; None where there is nothing for a person.
        damaged: The conversations that are not whole, or made no vCon.
    """

    conversations: int = 0
    bytes: int = 0
    to: str | None = None
    head: str | None = None
    open: str | None = None
    damaged: tuple[Damaged, ...] = ()


class Export:
    """One export: of what, from where, to where."""

    def __init__(self, store: Store, catalogue: Catalogue, selection: Selection, target: Path, *, as_zip: bool) -> None:
        self._store = store
        self._catalogue = catalogue
        self._selection = selection
        self._target = target
        self._as_zip = as_zip

    def run(self, as_format: Format, recordings_at: str | None) -> Handed:
        """Write it; nothing is written where nothing matches."""
        count = sum(1 for _ in self._catalogue.select(self._selection))
        if not count:
            return Handed()
        with progress(count) as tell, building(self._target, as_zip=self._as_zip) as folder:
            return self._bag(folder, tell) if as_format == "bag" else self._vcons(folder, recordings_at, tell)

    def absent(self) -> list[str]:
        """List the ids that were asked for and that the archive does not have."""
        ids = self._selection.ids or frozenset()
        found = self._catalogue.select(Selection(ids=ids))
        return sorted(ids - {one.entry.conversation_id for one in found})

    def _bag(self, folder: Path, tell: Tell) -> Handed:
        asked = Asked(in_words(self._selection), datetime.now(UTC), __version__)
        holdings = self._catalogue.select(self._selection)
        cover = write_bag(self._store, holdings, folder, asked, each=abreast, tell=tell)
        return Handed(
            conversations=cover.tally.conversations,
            bytes=cover.tally.bytes,
            to=str(self._target),
            head=cover.head,
            open=f"{self._target}{' → ' if self._as_zip else '/'}{PAGE}",
            damaged=tuple(cover.tally.damaged),
        )

    def _vcons(self, folder: Path, recordings_at: str | None, tell: Tell) -> Handed:
        holdings = self._catalogue.select(self._selection)
        vcons = write_vcons(self._store, holdings, folder, recordings_at=recordings_at, tell=tell)
        return Handed(
            conversations=vcons.made,
            bytes=sum(path.stat().st_size for path in folder.iterdir()),
            to=str(self._target),
            damaged=tuple(Damaged(one.conversation_id, (one.reason,)) for one in vcons.unmade),
        )


def in_words(selection: Selection) -> str:
    """Say which conversations were asked for. What was typed stands there as in keys: on one line."""
    said = {
        "{:,} ids that were named": None if selection.ids is None else len(selection.ids),
        "agent {}": None if selection.agent_id is None else keys.component(str(selection.agent_id)),
        "started at {} or later": None if selection.since is None else utc(selection.since),
        "started before {}": None if selection.until is None else utc(selection.until),
        "status {}": None if selection.status is None else keys.component(selection.status),
        "outcome {}": selection.outcome,
    }
    return "; ".join(text.format(value) for text, value in said.items() if value is not None) or "everything"


def say(handed: Handed, absent: list[str]) -> None:
    """Say what was handed over, and what was not."""
    if absent:
        complain(f"ids that are not in the archive: {len(absent):,}", [keys.component(one) for one in absent])
    if handed.damaged:
        named = [f"{keys.component(one.conversation_id)}: {'; '.join(one.damage)}" for one in handed.damaged]
        complain(f"conversations that are not whole: {len(named):,}", named)
    if handed.to is None:
        err.print("nothing was written: no conversation of the archive matches", style="red")
        return
    rows = [("exported", f"{handed.conversations:,} conversations, {handed.bytes / 1e6:,.1f} MB"), ("to", handed.to)]
    rows += [("head", handed.head)] if handed.head else []
    rows += [("open", handed.open)] if handed.open else []
    for name, text in rows:
        out.print(f"{name:<10}{text}")


def complain(what: str, which: list[str]) -> None:
    """Name the first of what is wrong."""
    more = f"\n  and {len(which) - SHOWN:,} more: see --json" if len(which) > SHOWN else ""
    err.print(f"{what}\n  " + "\n  ".join(which[:SHOWN]) + more, style="red")


@contextmanager
def progress(count: int) -> Iterator[Tell]:
    """Show how far it is: in place on a terminal, a line now and then elsewhere."""
    if err.is_terminal:
        with err.status(f"{count:,} selected") as shown:
            yield lambda line: shown.update(f"{count:,} selected: {line}")
        return
    said = time.monotonic()

    def tell(line: str) -> None:
        nonlocal said
        if time.monotonic() - said >= NOW_AND_THEN:
            said = time.monotonic()
            err.print(f"{count:,} selected: {line}")

    yield tell

"""What the commands of custody share: who acts, on which archive, and how it is told."""

import getpass
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from cyclopts import Parameter

from formant_archive import __version__
from formant_archive.catalogue import Catalogue, Selection, read_catalogue
from formant_archive.cli import err, out
from formant_archive.crew import abreast
from formant_archive.custody import Custodian, Done
from formant_archive.erasure import Eraser
from formant_archive.errors import UsageError
from formant_archive.settings import Settings, load_settings
from formant_archive.stores import Terms
from formant_archive.stores.custody import Custody, open_custody

By = Annotated[str | None, Parameter(help="Who acts, as the archive is to say; by default the user of this machine.")]
#: Letters of what a person writes into the chain.
LONGEST = 500


def said(text: str, option: str) -> str:
    """Take what a person has to say for the chain: one line, of a length.

    Raises:
        UsageError: It is not that.
    """
    text = text.strip()
    if not text or len(text) > LONGEST or not text.isprintable():
        raise UsageError(f"{option} is one line of 1 to {LONGEST} letters")
    return text


def acting(by: str | None) -> str:
    """Name who acts."""
    if by is None:
        with suppress(OSError, KeyError):
            by = getpass.getuser()
    return said(by or "", "--by")


@contextmanager
def custodian(archive_url: str | None, by: str | None) -> Iterator[tuple[Custodian, Custody, Settings]]:
    """Open an archive for somebody who acts on it."""
    with _opened(archive_url, by) as (store, catalogue, settings, given):
        yield Custodian(store, catalogue, **given), store, settings


@contextmanager
def eraser(archive_url: str | None, by: str | None, *, bypass: bool) -> Iterator[Eraser]:
    """Open an archive for somebody who erases in it."""
    with _opened(archive_url, by) as (store, catalogue, _, given):
        yield Eraser(store, catalogue, bypass=bypass, **given)


@contextmanager
def _opened(archive_url: str | None, by: str | None) -> Iterator[tuple[Custody, Catalogue, Settings, dict[str, Any]]]:
    name = acting(by)
    settings = load_settings(archive_url=archive_url)
    store = open_custody(settings.archive_url, terms=Terms(**settings.terms))
    now = datetime.now(UTC)
    retention = settings.policy.longest_retention(now) if store.keeps_holds else None
    with closing(read_catalogue(store, abreast)) as catalogue, err.status("reading the archive") as shown:
        given = {
            "by": name,
            "run_id": str(uuid4()),
            "version": __version__,
            "now": now,
            "retention": retention,
            "each": abreast,
            "tell": shown.update if err.is_terminal else lambda line: None,
        }
        yield store, catalogue, settings, given


def tell(sentence: str, done: Done, selection: Selection, *, as_json: bool) -> int:
    """Say what an act came to; give the exit code."""
    if as_json:
        out.print(json.dumps(asdict(done)))
    else:
        where = "as the chain said already" if done.manifest is None else f"manifest {done.manifest}"
        out.print(f"{sentence}: {done.conversations:,} conversations, {done.objects:,} objects, {where}")
        if not done.is_enforced and done.conversations:
            err.print("the store keeps no holds: the chain says it, and only `formant-archive erase` obeys")
        for name in done.unknown[:LONGEST]:
            err.print(f"error: the archive knows no conversation {name!a}", style="red")
    return int(bool(done.unknown) or not done.conversations)

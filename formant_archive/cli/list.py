"""`formant-archive list`: the settled conversations of an archive, the newest first; or those that are waited for."""

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain, islice
from typing import Annotated, Any, Literal, NamedTuple

from cyclopts import Parameter, validators
from rich.cells import cell_len

from formant_archive.catalogue import Holding, Outcome, Selection, read_catalogue
from formant_archive.cli import AgentId, ArchiveUrl, Json, Since, Until, epoch, err, harmless, moment, out
from formant_archive.crew import abreast
from formant_archive.ledger import Head, read_head
from formant_archive.records import Pending
from formant_archive.settings import load_settings
from formant_archive.stores import open_store

Status = Annotated[str | None, Parameter(help="Only those of this status, as the API spells it.")]
OutcomeOrPending = Annotated[
    Outcome | Literal["erased", "pending"] | None, Parameter(help="Only these. `pending`: not settled yet, and why.")
]
Limit = Annotated[int | None, Parameter(help="So many at most.", validator=validators.Number(gte=1))]

#: Rows from which the columns' widths are taken; a longer list is not held in memory for its looks.
MEASURED = 1000
#: A column is no wider, whatever is in it; what is longer pushes the rest aside.
WIDEST = 20
WORDS: dict[str, str] = {"archived_without_recording": "no audio"}


class Row(NamedTuple):
    """A line of the list; the id comes last and is never cut."""

    start: str
    agent: str
    status: str
    outcome: str
    conversation_id: str


TITLE = Row("START (UTC)", "AGENT", "STATUS", "OUTCOME", "CONVERSATION")


def run_list(
    archive_url: ArchiveUrl = None,
    *,
    agent_id: AgentId = None,
    since: Since = None,
    until: Until = None,
    status: Status = None,
    outcome: OutcomeOrPending = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """List conversations, the newest first."""
    store = open_store(load_settings(archive_url=archive_url).archive_url)
    selection = Selection(
        agent_id=agent_id,
        since=epoch(since),
        until=epoch(until),
        status=status,
        outcome=None if outcome == "pending" or outcome == "erased" else outcome,
        erased=None if outcome in ("pending", None) else outcome == "erased",
    )
    head = read_head(store)
    if head.manifest is None:
        err.print("none: no run has committed anything there yet")
        return
    waiting = select_pending(head, selection)
    if outcome == "pending":
        print_some(iter(waiting), limit, 0, as_json=as_json)
        return
    with closing(read_catalogue(store, abreast)) as catalogue:
        hidden = len(waiting) if outcome is None else 0
        print_some(catalogue.select(selection), limit, hidden, as_json=as_json)


def select_pending(head: Head, selection: Selection) -> list[Pending]:
    """Give what the newest manifest waits for, of a selection, in the order of the catalogue."""
    found = [one for one in head.state.pending.values() if selection.takes(one)]
    return sorted(
        found, key=lambda one: (one.start_timestamp is None, -(one.start_timestamp or 0), one.conversation_id)
    )


def print_some(found: Iterator[Holding | Pending], limit: int | None, hidden: int, *, as_json: bool) -> None:
    """Print the first conversations, and say how many they are, whether there are more, and what is not settled yet."""
    chosen = islice(found, limit)
    count = print_json(chosen) if as_json else print_rows(map(as_row, chosen))
    sentence = f"{count:,} conversation{'s' * (count != 1)}" if count else "none"
    if next(found, None) is not None:
        sentence += ", and there are more: raise --limit"
    if hidden:
        sentence += f"; {hidden:,} not settled yet: --outcome pending"
    err.print(sentence)


def print_json(found: Iterable[Holding | Pending]) -> int:
    """Print a line of JSON for each conversation, in ASCII: no terminal obeys it. Say how many there were."""
    count = 0
    for one in found:
        out.print(json.dumps(as_json_line(one)))
        count += 1
    return count


def as_json_line(one: Holding | Pending) -> dict[str, Any]:
    """Give an entry with its manifest's number, or what is pending, as the archive writes them."""
    if isinstance(one, Holding):
        return {**one.entry.model_dump(mode="json"), "outcome": one.outcome, "manifest": one.sequence}
    return {**one.model_dump(mode="json"), "outcome": "pending"}


def print_rows(rows: Iterator[Row]) -> int:
    """Print a line for each conversation, under a title where a person reads it. Say how many there were."""
    first = list(islice(rows, MEASURED))
    layout = Layout.of([TITLE, *first], out.width if out.is_terminal else None)
    if first and out.is_terminal:
        out.print(layout.line(TITLE), style="bold")
    count = 0
    for row in chain(first, rows):
        out.print(layout.line(row))
        count += 1
    return count


def as_row(one: Holding | Pending) -> Row:
    """Write a conversation for a person."""
    row = one.entry if isinstance(one, Holding) else one
    outcome = one.outcome if isinstance(one, Holding) else one.reason
    agent = "-" if row.agent_id is None else str(row.agent_id)
    texts = (minute(row.start_timestamp), agent, row.status or "-", WORDS.get(outcome, outcome), row.conversation_id)
    return Row(*map(harmless, texts))


def minute(timestamp: int | None) -> str:
    """Write a time (epoch ms) to the minute, UTC."""
    text = "-" if timestamp is None else moment(timestamp)
    return text[: -len(":00 UTC")] if text.endswith(" UTC") else text


class Layout(NamedTuple):
    """How wide the columns are, and what stands before the id: spaces, or a new line where all has no room on one."""

    widths: tuple[int, ...]
    gap: str
    before_id: str

    @classmethod
    def of(cls, rows: list[Row], width: int | None) -> "Layout":
        """Lay out rows of which these are the first; without a width, on one line each."""
        widest = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
        columns, longest = tuple(min(one, WIDEST) for one in widest[:-1]), widest[-1]
        for gap in ("  ", " "):
            if width is None or sum(columns) + len(columns) * len(gap) + longest <= width:
                return cls(columns, gap, gap)
        return cls((*columns[:-1], 0), "  ", "\n    ")

    def line(self, row: Row) -> str:
        """Write one row."""
        *cells, conversation_id = row
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, self.widths, strict=True))
        return self.gap.join(padded) + self.before_id + conversation_id

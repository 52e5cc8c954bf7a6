"""`formant-archive status`: what is in the archive, what is pending and why, and how far each scope is."""

import json
import sys
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import Annotated

from cyclopts import Parameter
from rich.segment import Segment, Segments

from formant_archive import status
from formant_archive.cli import ArchiveUrl, Json, moment, out
from formant_archive.errors import UsageError
from formant_archive.manifest import Manifest
from formant_archive.metrics import exposition
from formant_archive.settings import load_settings
from formant_archive.status import Holdings, Status
from formant_archive.stores import open_store

Prometheus = Annotated[
    bool, Parameter("--prometheus", negative="", help="Print Prometheus's text format, see docs/metrics.md.")
]
HeadOnly = Annotated[
    bool,
    Parameter(
        negative="", help="Read the newest manifest alone: soon done in any archive. Leaves out what is settled."
    ),
]
#: What the newest manifest is of, where it has listed nothing.
LISTS_NOTHING = {
    "run": "no listing",
    "backfill": "a backfill",
    "audit": "an audit",
    "hold": "a legal hold or a retention",
    "erasure": "an erasure",
}


def run_status(
    archive_url: ArchiveUrl = None,
    *,
    as_json: Json = False,
    prometheus: Prometheus = False,
    head_only: HeadOnly = False,
) -> None:
    """Say what is in the archive, what is pending and why, and how far each scope is."""
    if as_json and prometheus:
        raise UsageError("--json and --prometheus are two forms of the same: give one of them")
    settings = load_settings(archive_url=archive_url)
    store = open_store(settings.archive_url)
    found = status.read_status(store, datetime.now(UTC), settings.policy, head_only=head_only)
    if prometheus:
        print_metrics(found)
    elif as_json:
        out.print_json(json.dumps(found.as_json()))
    else:
        print_status(settings.archive_url, found)


def print_metrics(found: Status) -> None:
    """Print an archive's status for Prometheus, which reads UTF-8 whatever this terminal has."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    manifest = found.head.manifest
    archive_id = "" if manifest is None else manifest.archive_id
    text = exposition(found.gauges(), {"archive_id": archive_id})
    # Not as text, of which a tab would become spaces.
    out.print(Segments([Segment(text)]), end="")


def print_status(url: str, found: Status) -> None:
    """Print an archive's status for a person."""
    manifest = found.head.manifest
    if manifest is None or found.head.link is None:
        out.print(f"{url}: no run has committed anything yet", markup=False)
        return
    rows: list[tuple[str, str]] = []
    rows.append(("archive", f"{url}  (id {manifest.archive_id}, source {manifest.source})"))
    if found.holdings is not None:
        rows += _held(found.holdings)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.pending.most_common())
    rows.append(("pending", f"{found.pending.total():,}" + (f"  ({reasons})" if reasons else "")))
    if found.failed:
        rows.append(("failed", f"{found.failed:,} of them, tried again by the next run"))
    if found.overdue:
        rows.append(("overdue", f"{found.overdue:,} of them should have been settled by now: worth a look"))
    if found.long_open:
        rows.append(("open", f"{found.long_open:,} of them in progress for more than 24 h: worth a look"))
    rows += _in_custody(found)
    for name, scope in manifest.scopes.items():
        mark = "never listed completely" if scope.watermark is None else f"complete up to {moment(scope.watermark)}"
        rows.append(("scope", f"{name}: {mark}"))
    committed = manifest.run.committed_at
    rows.append(("last run", f"{status.ago(found.read_at, committed)}, {_what(manifest)}"))
    rows.append(("head", f"{manifest.sequence}:{found.head.link.sha256}"))
    for name, text in rows:
        # Not a table: it would cut what is wider than the terminal, and the head is to be copied.
        out.print(f"{name:<10}{text}")


def _held(held: Holdings) -> list[tuple[str, str]]:
    days = f"{status.day_of(held.first_start)} to {status.day_of(held.last_start)}"
    return [
        ("settled", f"{held.conversations:,} conversations, {days}"),
        ("", f"{held.recordings:,} with a recording, {held.gone:,} gone; {held.bytes / 1e6:,.1f} MB"),
        ("agents", ", ".join(f"{agent}: {count:,}" for agent, count in sorted(held.agents.items()))),
    ]


def _in_custody(found: Status) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if found.cases:
        cases = "1 case" if len(found.cases) == 1 else f"{len(found.cases):,} cases"
        rows.append(("held", f"{len(found.head.state.holds):,} by {cases}: `formant-archive hold list`"))
    if found.head.state.erased:
        rows.append(("erased", f"{len(found.head.state.erased):,}: `formant-archive list --outcome erased`"))
    return rows


def _what(manifest: Manifest) -> str:
    if manifest.listing is None:
        return LISTS_NOTHING[manifest.kind]
    return "listing complete" if manifest.listing.complete else "listing INCOMPLETE"

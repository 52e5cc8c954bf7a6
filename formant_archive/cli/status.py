"""`formant-archive status`: what is in the archive, what is pending and why, and how far each scope is."""

import json
from datetime import UTC, datetime

from formant_archive import status
from formant_archive.cli import ArchiveUrl, Json, moment, out
from formant_archive.manifest import ListingNote
from formant_archive.settings import load_settings
from formant_archive.stores import open_store


def run_status(archive_url: ArchiveUrl = None, *, as_json: Json = False) -> None:
    """Say what is in the archive, what is pending and why, and how far each scope is."""
    settings = load_settings(archive_url=archive_url)
    found = status.read_status(open_store(settings.archive_url), datetime.now(UTC))
    if as_json:
        out.print_json(json.dumps(found.as_json()))
    else:
        print_status(settings.archive_url, found)


def print_status(url: str, found: status.Status) -> None:
    """Print an archive's status for a person."""
    manifest, held = found.head.manifest, found.holdings
    if manifest is None or found.head.link is None:
        out.print(f"{url}: no run has committed anything yet", markup=False)
        return
    rows: list[tuple[str, str]] = []
    rows.append(("archive", f"{url}  (id {manifest.archive_id}, source {manifest.source})"))
    days = f"{status.day_of(held.first_start)} to {status.day_of(held.last_start)}"
    rows.append(("settled", f"{held.conversations:,} conversations, {days}"))
    rows.append(("", f"{held.recordings:,} with a recording, {held.gone:,} gone; {held.bytes / 1e6:,.1f} MB"))
    rows.append(("agents", ", ".join(f"{agent}: {count:,}" for agent, count in sorted(held.agents.items()))))
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.pending.most_common())
    rows.append(("pending", f"{found.pending.total():,}" + (f"  ({reasons})" if reasons else "")))
    if found.failed:
        rows.append(("failed", f"{found.failed:,} of them, tried again by the next run"))
    if found.long_open:
        rows.append(("open", f"{found.long_open:,} of them in progress for more than 24 h: worth a look"))
    for name, scope in manifest.scopes.items():
        mark = "never listed completely" if scope.watermark is None else f"complete up to {moment(scope.watermark)}"
        rows.append(("scope", f"{name}: {mark}"))
    committed = manifest.run.committed_at
    rows.append(("last run", f"{status.ago(datetime.now(UTC), committed)}, {_listed(manifest.listing)}"))
    rows.append(("head", f"{manifest.sequence}:{found.head.link.sha256}"))
    for name, text in rows:
        # Not a table: it would cut what is wider than the terminal, and the head is to be copied.
        out.print(f"{name:<10}{text}")


def _listed(listing: ListingNote | None) -> str:
    if listing is None:
        return "an audit"
    return "listing complete" if listing.complete else "listing INCOMPLETE"

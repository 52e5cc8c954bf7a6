"""How long a verification takes and how much memory: `python -m benchmarks.verify --conversations 100000`.

The archive is made beforehand, without flushing, with payloads of 2 kB: what is measured is everything but the disk.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory

from formant_archive import keys, ledger
from formant_archive.crew import abreast
from formant_archive.ledger import Draft, Head
from formant_archive.manifest import OUTCOMES, Changes, ListingNote, RunNote, Scope
from formant_archive.records import (
    ArchivedRecording,
    Audio,
    Entry,
    PresentTranscript,
    Receipt,
    Record,
    Reference,
    Writer,
    milliseconds,
)
from formant_archive.register import seal
from formant_archive.stores import Store, open_store
from formant_archive.stores.directory import DirectoryStore
from formant_archive.verify import Depth, Verification

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PART = 10_000


def main() -> None:
    """Make an archive, verify it in processes of their own, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--archive", help="verify this one, in this process")
    parser.add_argument("--deep", action="store_true")
    given = parser.parse_args()
    if given.archive:
        print(json.dumps(measure(given.archive, deep=given.deep)))
        return
    for count in given.conversations:
        with TemporaryDirectory() as folder:
            make(DirectoryStore(folder, fsync=lambda descriptor: None), count)
            for how in ([], ["--deep"]):
                command = [sys.executable, "-m", "benchmarks.verify", "--archive", folder, *how]
                found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                print(f"{count:>9,} conversations{' deep' if how else '':>5}: {found}", flush=True)


def measure(archive: str, *, deep: bool) -> dict[str, object]:
    """Verify an archive; give verdict, seconds and peak memory."""
    began = time.perf_counter()
    verification = Verification(open_store(archive), depth=Depth() if deep else None, each=abreast)
    with closing(verification.catalogue):
        findings = sum(1 for _ in verification.findings())
    return {
        "verdict": verification.report.verdict,
        "findings": findings,
        "conversations": verification.report.conversations,
        "seconds": round(time.perf_counter() - began, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def make(store: Store, count: int) -> None:
    """Make an archive of so many conversations, 1,000 a day, a manifest for each 10,000."""
    head = Head()
    for number, first in enumerate(range(0, count, PART), 1):
        entries = [settle(store, one) for one in range(first, min(first + PART, count))]
        head = ledger.commit(store, head, draft(number, entries))


def settle(store: Store, number: int) -> Entry:
    """Store a conversation's payloads and its record."""
    start = milliseconds(BEGIN + timedelta(seconds=86.4 * number))
    reference = Reference(
        conversation_id=f"{number:032x}_1",
        agent_id=101 + number % 3,
        status="completed",
        start_timestamp=start,
        end_timestamp=start + 60_000,
        duration_seconds=60,
    )
    folder = keys.folder(reference)
    conversation = put(store, folder + keys.CONVERSATION, b"%032x" % number * 64)
    recording = put(store, folder + keys.RECORDING, b"%032x" % (number + 1) * 64)
    record = Record(
        **reference.model_dump(),
        source="http://127.0.0.1",
        conversation=conversation,
        transcript=PresentTranscript(),
        recording=ArchivedRecording(
            **recording.model_dump(), audio=Audio(seconds=60.0, sample_rate=8000, channels=1, codec="pcm_s16le")
        ),
        remarks=(),
        writer=Writer(version="bench", run_id="bench"),
        settled_at=BEGIN,
    )
    return seal(store, folder, record)


def put(store: Store, key: str, body: bytes) -> Receipt:
    """Store a payload."""
    sha256 = hashlib.sha256(body).hexdigest()
    store.put(key, body, sha256=sha256)
    return Receipt(key=key, size=len(body), sha256=sha256, fetched_at=BEGIN)


def draft(number: int, entries: list[Entry]) -> Draft:
    """Say what a manifest is to hold."""
    count = len(entries)
    listing = ListingNote(
        scope="all",
        order=None,
        full=True,
        since=None,
        pages=count // 100,
        rows=count,
        unique=count,
        total_first=count,
        total_last=count,
        complete=False,
    )
    return Draft(
        run=RunNote(
            id="bench", part=number, flow="bench", version="bench", parameters={}, started_at=BEGIN, committed_at=BEGIN
        ),
        source="http://127.0.0.1",
        listing=listing,
        counts={"carried": 0, **dict.fromkeys(OUTCOMES, 0), "listed": count, "archived": count},
        entries=[one.line() for one in entries],
        changes=Changes(
            scope="all",
            before=Scope(),
            after=Scope(),
            settled=frozenset(one.conversation_id for one in entries),
            pending={},
        ),
        overlap=0,
    )


if __name__ == "__main__":
    main()

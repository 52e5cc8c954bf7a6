"""Conversations on their way through a run, some pages at once: looked up, payloads fetched, records sealed.

What a scheduled run lists and what a shard of a backfill reads from its worklist travel the same way.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from formant_archive.errors import ApiError, ApiRefused, ArchiveError, UsageError
from formant_archive.listing import Listing
from formant_archive.page import Page
from formant_archive.records import Failure, Pending
from formant_archive.run import BATCH_SIZE, Run
from formant_archive.settlement import Answer
from tasks.conversations import (
    archive_recordings,
    archive_transcripts,
    find_records,
    list_pages,
    read_folders,
    seal_records,
)
from tasks.manifests import commit_manifest, is_proved, prove_store
from tasks.opaque import opaque

#: Batches whose payloads are under way at once, so that memory does not grow with the backlog.
BATCHES_IN_FLIGHT = 2

Answers = PrefectFuture[list[Answer]]
InFlight = deque[tuple[list[Pending], Answers, Answers]]


def runner() -> ThreadPoolTaskRunner[Any]:
    """Make the task runner: two tasks for each batch in flight: none ever waits."""
    return ThreadPoolTaskRunner(max_workers=2 * BATCHES_IN_FLIGHT)


def listed(listing: Listing, agent_id: int | None) -> Iterator[Page]:
    """List page after page; whoever asks for the next one has handed the last one to the listing.

    Raises:
        ApiRefused: The key is refused.
        ApiError: The first page could not be had. Where a later one cannot, the listing ends there and says so.
    """
    while (offset := listing.offset) is not None:
        try:
            pages = list_pages(agent_id, offset, listing.pages_ahead)
        except ApiError as fault:
            if isinstance(fault, ApiRefused) or listing.total is None:
                raise
            listing.fail()
            return
        for page in pages:
            # A pass over the list has ended before all that was asked for: the next one begins elsewhere.
            if listing.offset != offset:
                break
            yield page
            offset += len(page.references)


def archive_pages(run: Run, pages: Iterable[list[Pending]], tell: Callable[[], None]) -> None:
    """Keep a few batches under way: while their payloads are fetched, the next one is brought up."""
    in_flight: InFlight = deque()
    for wanted in batches(pages, tell):
        if work := select_unsettled(run, wanted):
            prove(run)
            held = run.held(work)
            transcripts = archive_transcripts.submit(opaque(work), opaque(held))
            in_flight.append((work, transcripts, archive_recordings.submit(opaque(work), opaque(held))))
        if len(in_flight) >= BATCHES_IN_FLIGHT:
            seal_oldest(run, in_flight)
            tell()
    while in_flight:
        seal_oldest(run, in_flight)
        tell()


def batches(pages: Iterable[list[Pending]], tell: Callable[[], None]) -> Iterator[list[Pending]]:
    """Gather what pages leave to be done: a task run costs as much for one conversation as for hundreds."""
    batch: list[Pending] = []
    for page in pages:
        batch += page
        tell()
        if len(batch) >= BATCH_SIZE:
            yield batch
            batch = []
    if batch:
        yield batch


def select_unsettled(run: Run, wanted: list[Pending]) -> list[Pending]:
    """Leave out what the archive holds already."""
    if folders := run.unread_folders(wanted):
        run.learn(read_folders(folders))
    if candidates := run.to_look_up(wanted):
        run.adopt(find_records(opaque(candidates)))
    return run.begin(wanted)


def seal_oldest(run: Run, in_flight: InFlight) -> None:
    """Wait for a batch's payloads, and settle what can be settled."""
    work, transcripts, recordings = in_flight.popleft()
    records = run.judge(work, answers(transcripts, work), answers(recordings, work), datetime.now(UTC))
    if records:
        run.settle(records, seal_records(opaque(records), opaque(run.held(work))), datetime.now(UTC))
    if run.part_is_full:
        commit(run, final=False)


def answers(future: Answers, work: list[Pending]) -> list[Answer]:
    """Give a task's answers; where it died, every conversation of its batch has failed."""
    result = future.result(raise_on_failure=False)
    if not isinstance(result, BaseException):
        return result
    if isinstance(result, ArchiveError) and result.exit_code == UsageError.exit_code:
        raise result
    message = str(result) if isinstance(result, ArchiveError) else f"the task ended with {type(result).__name__}"
    return [Answer(failure=Failure(reason="unavailable", message=message))] * len(work)


def prove(run: Run) -> None:
    """Try the store before anything is stored in an empty archive, and after the API has taken the key."""
    if not is_proved(run.head):
        run.head = prove_store(opaque(run.head))


def commit(run: Run, *, final: bool) -> None:
    """Write a manifest of what was done since the last one."""
    prove(run)
    run.committed(commit_manifest(opaque(run.head), opaque(run.draft(datetime.now(UTC), final=final))))

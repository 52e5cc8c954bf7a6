"""Conversations: listing them, fetching their transcripts and recordings, sealing their records.

A task is a batch, not a conversation: the process's few threads work through some hundred, and a conversation that
goes wrong never fails its batch. What one of them downloads is in `formant_archive.capture`. No task has a tag: for
each tag Prefect asks its server twice in every task run whether there is a limit.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from prefect import task

from formant_archive import capture, register, settlement
from formant_archive.client import Page
from formant_archive.errors import ApiError, ApiUnavailable
from formant_archive.records import Entry, Pending, Record
from formant_archive.settings import current_settings
from formant_archive.settlement import Answer
from tasks import connections
from tasks.retries import ON_OUTAGE

Item = TypeVar("Item")
Result = TypeVar("Result")


def clock() -> datetime:
    """Our clock: UTC."""
    return datetime.now(UTC)


def _each(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Work through a batch with the process's threads; the first error that is raised calls off the rest."""
    return connections.payload_crew().map(work, items)


@task(task_run_name="list-from-{offset}", **ON_OUTAGE)
def list_pages(agent_id: int | None, offset: int, count: int) -> list[Page]:
    """List some pages of conversations; fewer where the list ends, or where a page after the first cannot be had."""
    client = connections.client()
    pages = [client.list_page(agent_id=agent_id, offset=offset)]
    with suppress(ApiError):
        while pages[-1].references and len(pages) < count:
            offset += len(pages[-1].references)
            pages.append(client.list_page(agent_id=agent_id, offset=offset))
    return pages


@task(task_run_name="read-folders", **ON_OUTAGE)
def read_folders(folders: list[str]) -> dict[str, frozenset[str]]:
    """List which conversations of some agents' days have a record."""
    return register.read_folders(connections.store(), folders, connections.record_crew().map)


@task(task_run_name="find-records", **ON_OUTAGE)
def find_records(conversations: list[Pending]) -> list[Entry]:
    """Look for the records of conversations that may be settled already."""
    return register.find_records(connections.store(), conversations, connections.record_crew().map)


@task(task_run_name="transcripts", **ON_OUTAGE)
def archive_transcripts(work: list[Pending], held: frozenset[str]) -> list[Answer]:
    """Fetch and archive the bodies of a batch's conversations, transcripts in them; `held`: under a legal hold."""
    client, store, policy = connections.client(), connections.store(), current_settings().policy

    def archive(pending: Pending) -> Answer:
        if not settlement.wants_conversation(pending, clock(), policy):
            return Answer()
        is_held = pending.conversation_id in held
        return capture.capture_conversation(client, store, pending, policy=policy, clock=clock, held=is_held)

    return _or_outage(work, _each(archive, work))


@task(task_run_name="recordings", **ON_OUTAGE)
def archive_recordings(work: list[Pending], held: frozenset[str]) -> list[Answer]:
    """Download and archive the recordings of a batch's conversations; `held`: under a legal hold."""
    client, store, policy = connections.client(), connections.store(), current_settings().policy

    def archive(pending: Pending) -> Answer:
        if not settlement.wants_recording(pending, policy):
            return Answer()
        is_held = pending.conversation_id in held
        return capture.capture_recording(client, store, pending, policy=policy, clock=clock, held=is_held)

    return _or_outage(work, _each(archive, work))


def _or_outage(work: list[Pending], answers: list[Answer]) -> list[Answer]:
    """Let Prefect try a batch again when nothing of it came."""
    if capture.is_outage(work, answers):
        raise ApiUnavailable("nothing of this batch could be archived: the API or the store is out of reach")
    return answers


@task(task_run_name="seal-records", **ON_OUTAGE)
def seal_records(records: list[tuple[str, Record]], held: frozenset[str]) -> list[Entry]:
    """Write the records of conversations that are settled, payloads first."""
    return register.seal_all(connections.store(), records, connections.record_crew().map, held=held)

"""The pipeline that a tutorial would write: three task runs for each conversation, bytes passed between them.

The tasks do what the loop does, with the loop's own functions; the difference is Prefect's share.
"""

from functools import cache
from typing import Any

import httpx
from prefect import flow, task
from prefect.task_runners import ThreadPoolTaskRunner

from benchmarks import contact, loop, measure
from formant_archive.settings import load_settings
from formant_archive.stores import Store, open_store


@cache
def api() -> httpx.Client:
    """The process's client."""
    return loop.client()


@cache
def store() -> Store:
    """The process's store."""
    return open_store(load_settings().archive_url)


@task
def fetch_transcript(row: dict[str, Any]) -> bytes:
    """Fetch a conversation's body."""
    return loop.fetch(api(), row["conversation_id"])


@task
def fetch_recording(row: dict[str, Any]) -> bytes:
    """Fetch a recording."""
    return loop.fetch(api(), f"{row['conversation_id']}/recording")


@task
def upload(row: dict[str, Any], transcript: bytes, recording: bytes) -> None:
    """Put both."""
    loop.put(store(), row, "conversation.json", transcript)
    loop.put(store(), row, "recording.wav", recording)


@flow(task_runner=ThreadPoolTaskRunner(max_workers=loop.THREADS))  # type: ignore[arg-type]  # Prefect's own hints
def tutorial(conversations: int) -> None:
    """Archive the newest conversations."""
    rows = list(loop.listed(api(), conversations))
    upload.map(rows, fetch_transcript.map(rows), fetch_recording.map(rows)).result()


if __name__ == "__main__":
    api(), store()
    measure.run(contact.hello, tutorial)

"""The yardstick: a thread pool that fetches and puts, and nothing else.

No check, no retry, no limit, no record, no manifest; but the project's own store, which every contender shares.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from benchmarks import measure
from formant_archive.settings import load_settings
from formant_archive.stores import Store, open_store

THREADS = 16
PAGE_SIZE = 100
LIST = "/v1/conversations"


def client() -> httpx.Client:
    """Make a client of the API."""
    settings = load_settings()
    assert settings.formant_api_key is not None
    authorization = f"Bearer {settings.formant_api_key.get_secret_value()}"
    return httpx.Client(base_url=settings.source, headers={"Authorization": authorization}, timeout=60)


def fetch(api: httpx.Client, name: str) -> bytes:
    """Fetch the body of `<conversation id>` or of `<conversation id>/recording`."""
    return api.get(f"{LIST}/{name}").raise_for_status().content


def listed(api: httpx.Client, conversations: int) -> Iterator[dict[str, Any]]:
    """List the newest conversations, page by page."""
    for offset in range(0, conversations, PAGE_SIZE):
        limit = min(PAGE_SIZE, conversations - offset)
        yield from api.get(LIST, params={"limit": limit, "offset": offset}).raise_for_status().json()["data"]


def put(store: Store, row: dict[str, Any], name: str, body: bytes) -> None:
    """Put one of a conversation's objects."""
    key = f"conversations/agent_id={row['agent_id']}/{row['conversation_id']}/{name}"
    store.put(key, body, sha256=hashlib.sha256(body).hexdigest())


def archive(api: httpx.Client, store: Store, row: dict[str, Any]) -> None:
    """Fetch and put one conversation."""
    name = row["conversation_id"]
    put(store, row, "conversation.json", fetch(api, name))
    put(store, row, "recording.wav", fetch(api, f"{name}/recording"))


def first_contact() -> None:
    """Ask for one row."""
    with client() as api:
        list(listed(api, 1))


def work(conversations: int) -> None:
    """Archive the newest conversations."""
    store = open_store(load_settings().archive_url)
    with client() as api, ThreadPoolExecutor(THREADS) as pool:
        done = [pool.submit(archive, api, store, row) for row in listed(api, conversations)]
        for future in done:
            future.result()


if __name__ == "__main__":
    measure.run(first_contact, work)

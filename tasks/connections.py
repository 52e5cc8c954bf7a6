"""The process's one client, one store and its threads, made from the settings.

One client, so that all threads share its pacer and its limit of requests at once. One crew of threads for all pages,
because threads beyond what the processors can serve only take Python's lock from each other. Another crew for records,
so that what the flow waits for never queues up behind the payloads of the next pages.
"""

from functools import cache
from threading import Lock
from typing import cast

from prefect.blocks.system import Secret

from formant_archive.client import FormantClient
from formant_archive.crew import Crew
from formant_archive.errors import UsageError
from formant_archive.settings import Settings, current_settings
from formant_archive.stores import Store, Terms, open_store

#: The Prefect block that holds the API key where the environment does not.
API_KEY_BLOCK = "formant-api-key"

#: Requests to the store at once where one step needs many.
RECORD_THREADS = 16

_lock = Lock()


def client() -> FormantClient:
    """Give the process's client of the API.

    Raises:
        UsageError: There is no API key, neither in the environment nor in the Secret block.
    """
    with _lock:
        return _client(current_settings())


def rate_limit() -> int | None:
    """Say how many requests the API allows in a window, as it told last; None where it told nothing."""
    return client().rate_limit


def store() -> Store:
    """Give the process's store of the archive."""
    with _lock:
        return _store(current_settings())


def payload_crew() -> Crew:
    """Give the threads that fetch and store payloads: at most as many as there may be requests at once."""
    with _lock:
        return _crew("payloads", current_settings().archive_concurrency)


def call_off() -> None:
    """Drop the payloads that wait for a thread; those under way are finished, and a later run gets new threads."""
    crew = payload_crew()
    _crew.cache_clear()
    crew.call_off()


def record_crew() -> Crew:
    """Give the threads that look for records and write them."""
    with _lock:
        return _crew("records", RECORD_THREADS)


def check(settings: Settings) -> None:
    """Find what is wrong with the settings without asking anybody.

    Raises:
        UsageError: An address is none, a retention contradicts itself, or the API key holds what no key has.
    """
    _opened(settings)
    if settings.formant_api_key is not None:
        client()


@cache
def _client(settings: Settings) -> FormantClient:
    return FormantClient(settings.formant_base_url, api_key(settings), concurrency=settings.archive_concurrency)


@cache
def _crew(name: str, most: int) -> Crew:
    return Crew(name, most)


@cache
def _store(settings: Settings) -> Store:
    return _opened(settings)


def _opened(settings: Settings) -> Store:
    return open_store(settings.archive_url, locks=settings.keeping is not None, terms=Terms(**settings.terms))


def api_key(settings: Settings) -> str:
    """Find the API key: in the environment, else in the Secret block."""
    if settings.formant_api_key is not None:
        return settings.formant_api_key.get_secret_value()
    try:
        block = cast(Secret[str], Secret.load(API_KEY_BLOCK))
    except ValueError:
        raise UsageError(
            f"FORMANT_API_KEY is not set, and Prefect has no Secret block named {API_KEY_BLOCK}: set one of them"
        ) from None
    return block.get()

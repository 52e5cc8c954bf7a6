"""FormantAI's API: one request, which shows whether it is there, takes the key, and tells the same time."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from formant_archive.client import FormantClient
from formant_archive.doctor.check import Check, clock, failure, ok, told, warning
from formant_archive.errors import UsageError


def examine(base_url: str, api_key: str | None, *, may_be_elsewhere: bool) -> Iterator[Check]:
    """Ask for a list of one conversation.

    Args:
        base_url: Of the API.
        api_key: None where the environment has none.
        may_be_elsewhere: Whether a server of Prefect's is known, which can keep the key.
    """
    if api_key is None:
        elsewhere = "; where Prefect keeps it (Secret block formant-api-key), set it here to have it tried"
        text = (
            f"FORMANT_API_KEY is not set{elsewhere if may_be_elsewhere else ': set it in the environment or in .env'}"
        )
        yield warning("api", text) if may_be_elsewhere else failure("api", text)
        return
    try:
        client = FormantClient(base_url, api_key, concurrency=1)
    except UsageError as fault:
        yield failure("api", str(fault))
        return
    with client:
        yield told("api", lambda: _listed(client, base_url))
        if client.skew is not None:
            yield clock("api clock", client.skew)


def _listed(client: FormantClient, base_url: str) -> Check:
    page = client.list_page(agent_id=None, offset=0, limit=1)
    host = urlsplit(base_url).hostname
    return ok("api", f"{host} takes the key, and lists {page.total:,} conversations")

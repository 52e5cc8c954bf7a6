"""The two secrets that Prefect keeps: the API key, and the address that alarms are sent to. Neither is ever shown."""

from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

import httpx
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect.blocks.webhook import Webhook
from prefect.types import SecretDict
from pydantic import SecretStr

from formant_archive.client import FormantClient
from formant_archive.errors import UsageError
from tasks.connections import API_KEY_BLOCK
from tools.bootstrap.step import Change, Step

WEBHOOK_BLOCK = "formant-archive-alarm"
JSON = {"Content-Type": "application/json"}


def put_api_key(key: str | None, *, write: bool) -> Step:
    """Keep the API key in a Secret block; without one, an existing block is left as it is."""
    thing = f"Secret block {API_KEY_BLOCK}"
    found = cast("Secret[str] | None", find(Secret, API_KEY_BLOCK))
    if key is None:
        hint = f"{thing}: give the API key to this command, or to each worker as FORMANT_API_KEY"
        return Step(Change.UNCHANGED, thing) if found else Step(Change.ABSENT, hint)
    return put(Secret(value=key), found, API_KEY_BLOCK, thing, write=write)


def put_webhook(url: str | None, *, write: bool) -> Step:
    """Keep the alarms' address in a Webhook block; without one, an existing block is left as it is."""
    thing = f"Webhook block {WEBHOOK_BLOCK}"
    found = cast("Webhook | None", find(Webhook, WEBHOOK_BLOCK))
    if url is None:
        hint = f"{thing}: alarms stay in Prefect's event feed; give ARCHIVE_ALARM_URL to be told"
        return Step(Change.UNCHANGED, thing) if found else Step(Change.ABSENT, hint)
    return put(Webhook(url=SecretStr(url), headers=SecretDict(JSON)), found, WEBHOOK_BLOCK, thing, write=write)


def check_key(key: str) -> None:
    """Refuse what no key is; nobody is asked.

    Raises:
        UsageError: It holds a space, a line break or another sign that no key has.
    """
    FormantClient("https://127.0.0.1", key).close()


def check_address(url: str) -> None:
    """Refuse what Prefect would fail at, each time that it has something to say.

    Raises:
        UsageError: It is no address; it is not shown, because it may hold a secret.
    """
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        address = httpx.URL()
    if address.scheme not in ("http", "https") or not address.host:
        raise UsageError("ARCHIVE_ALARM_URL is not an address that begins with https:// or http://")


def find(kind: type[Block], name: str) -> Block | None:
    """Read a block; None where there is none of that name."""
    try:
        return cast(Block, kind.load(name))
    except ValueError:
        return None


def put(block: Block, found: Block | None, name: str, thing: str, *, write: bool) -> Step:
    """Save a block, unless what is there says the same."""
    if found is not None and values(found) == values(block):
        return Step(Change.UNCHANGED, thing)
    if write:
        block.save(name, overwrite=True)
    return Step(Change.CREATED if found is None else Change.UPDATED, thing)


def values(block: Block) -> Mapping[str, Any]:
    """Give a block's fields; two secrets are equal where they hold the same."""
    return {name: getattr(block, name) for name in type(block).model_fields}


def webhook_id() -> UUID | None:
    """Name the Webhook block as automations do; None where there is none."""
    found = find(Webhook, WEBHOOK_BLOCK)
    return None if found is None else found._block_document_id

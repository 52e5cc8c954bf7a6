"""The command: `python -m tools.bootstrap`. Prints one line for each thing on the server."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from getpass import getpass
from uuid import uuid4

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL

from flows import terminal
from formant_archive import cli
from formant_archive.errors import ServerUnavailable, UsageError
from tools.bootstrap.automations import put_automations
from tools.bootstrap.blocks import check_address, check_key, put_api_key, put_webhook, webhook_id
from tools.bootstrap.pools import put_pools
from tools.bootstrap.step import Step
from tools.bootstrap.watches import Patience, watches

#: Prefect refuses to watch for less.
SHORTEST = timedelta(seconds=10)


def main(
    *,
    api_key_stdin: bool = False,
    alarm_url_stdin: bool = False,
    pool_type: str = "process",
    fresh_minutes: float = 60,
    lost_minutes: float = 9,
    pending_minutes: float = 5,
    dry_run: bool = False,
) -> int:
    """Make a Prefect server ready for `prefect deploy --all`: work pool, queues, API key, automations.

    PREFECT_API_URL says which. Creates what is missing, corrects what it made, and changes nothing the second time.
    The API key is FORMANT_API_KEY. Alarms are posted to ARCHIVE_ALARM_URL, a webhook as of Slack. Both are kept in
    blocks; where one is not given, what is there stays.

    Args:
        api_key_stdin: Read the API key from the first line of standard input.
        alarm_url_stdin: Read the webhook's address from standard input: the first line, or the one after the key.
        pool_type: Of a work pool that has to be created.
        fresh_minutes: Alarm when the deployment `archive` has not completed for so long.
        lost_minutes: Without a heartbeat for so long, a run is set to Crashed; they come every 3 minutes.
        pending_minutes: A run that has not begun so long after a worker took it is set to Crashed.
        dry_run: Change nothing; print what would be done.
    """
    patience = Patience(
        fresh=span("--fresh-minutes", fresh_minutes),
        lost=span("--lost-minutes", lost_minutes),
        pending=span("--pending-minutes", pending_minutes),
    )
    with terminal.quiet():
        if not PREFECT_API_URL.value():
            raise UsageError("PREFECT_API_URL is not set: say which server, as http://localhost:4200/api")
        key = secret("FORMANT_API_KEY", "FormantAI API key: ", check_key, typed=api_key_stdin)
        url = secret("ARCHIVE_ALARM_URL", "Webhook's address: ", check_address, typed=alarm_url_stdin)
        with server() as client:
            for step in bootstrap(client, key, url, pool_type, patience, write=not dry_run):
                cli.out.print(step.line)
    if dry_run:
        cli.out.print("nothing was changed: --dry-run")
    return 0


def bootstrap(
    client: SyncPrefectClient, key: str | None, url: str | None, pool_type: str, patience: Patience, *, write: bool
) -> Iterator[Step]:
    """Do one thing after the other."""
    yield from put_pools(client, pool_type, write=write)
    yield put_api_key(key, write=write)
    yield put_webhook(url, write=write)
    # Where the block is only about to be made, any id says that there will be one.
    webhook = webhook_id() or (uuid4() if url else None)
    yield from put_automations(client, watches(patience, webhook), write=write)


def span(option: str, minutes: float) -> timedelta:
    """Turn minutes into a duration.

    Raises:
        UsageError: It is shorter than Prefect can watch for, or no number.
    """
    if not SHORTEST.total_seconds() <= minutes * 60 <= timedelta(days=365).total_seconds():
        raise UsageError(f"{option} must be between {SHORTEST.total_seconds() / 60:.2f} minutes and a year")
    return timedelta(minutes=minutes)


def secret(name: str, prompt: str, check: Callable[[str], None], *, typed: bool) -> str | None:
    """Read a secret: from a line of standard input, without showing it on a terminal, else from the environment.

    Raises:
        UsageError: A line was promised, and there is none; or it is not what it should be.
    """
    if typed:
        line = getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline()
        if not line.strip():
            raise UsageError(f"standard input has no line for {name}")
        found = line.strip()
    else:
        found = os.environ.get(name, "")
    if found:
        check(found)
    return found or None


@contextmanager
def server() -> Iterator[SyncPrefectClient]:
    """Speak with the server.

    Raises:
        UsageError: It refuses who speaks.
        ServerUnavailable: It is out of reach, or fails.
    """
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.TransportError:
        raise ServerUnavailable("Prefect's server does not answer: is PREFECT_API_URL right, and is it up?") from None
    except (PrefectHTTPStatusError, httpx.HTTPStatusError) as fault:
        code = fault.response.status_code
        if code in (401, 403):
            raise UsageError(
                f"Prefect's server refuses access ({code}): set PREFECT_API_KEY, or PREFECT_API_AUTH_STRING"
            ) from None
        raise ServerUnavailable(f"Prefect's server answers {code} to {fault.request.url.path}") from None


if __name__ == "__main__":
    cli.run_function(main, name="python -m tools.bootstrap")

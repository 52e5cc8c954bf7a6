"""`formant-archive doctor`: is everything so that the archive can be begun?"""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Annotated
from uuid import uuid4

from cyclopts import Parameter, validators
from pydantic import SecretStr

from formant_archive.cli import ArchiveUrl, Json, err, harmless, out
from formant_archive.crew import abreast
from formant_archive.doctor import Check, exit_code, pipeline, source, storage
from formant_archive.doctor.check import failure, ok
from formant_archive.errors import ArchiveError
from formant_archive.settings import PrefectSettings, Settings, load_settings
from formant_archive.stores import Store, Terms, open_bucket, open_store

STYLES = {"ok": "green", "warning": "yellow", "failure": "red", "skipped": "dim"}

Rounds = Annotated[
    int,
    Parameter(
        validator=validators.Number(gte=1, lte=1000),
        help="Keys that 16 writers race for. Each is a small object, and stays.",
    ),
]
ProbeLock = Annotated[bool, Parameter(negative="", help="Put one object under a lock of a day (GOVERNANCE).")]


def run_doctor(
    archive_url: ArchiveUrl = None,
    *,
    rounds: Rounds = 100,
    probe_lock: ProbeLock = False,
    as_json: Json = False,
) -> int:
    """Look whether settings, API, store and Prefect are fit for the archive. Stores small objects under `doctor/`."""
    found: list[Check] = []
    shown = err.status("looking") if err.is_terminal else nullcontext()
    with shown:
        for check in examined(archive_url, rounds=rounds, probe_lock=probe_lock):
            found.append(check)
            if not as_json:
                out.print(f"{check.state:<9}{check.name:<14}{harmless(check.text)}", style=STYLES[check.state])
    code = exit_code(found)
    if as_json:
        checks = [check.model_dump(exclude={"code"}) for check in found]
        out.print(json.dumps({"ready": code == 0, "checks": checks}, indent=2))
    else:
        out.print(_verdict(found))
    return code


def examined(archive_url: str | None, *, rounds: int, probe_lock: bool) -> Iterator[Check]:
    """Look at one thing after the other."""
    try:
        settings = load_settings(archive_url=archive_url)
        store = _opened(settings)
    except ArchiveError as fault:
        yield failure("settings", str(fault), fault.exit_code)
        return
    yield ok("settings", f"the archive is {store.url}")
    prefect = PrefectSettings()
    key = _plain(settings.formant_api_key)
    yield from source.examine(settings.formant_base_url, key, may_be_elsewhere=prefect.api_url is not None)
    yield from _storage(settings, store, rounds, with_lock=probe_lock)
    yield from _pipeline(prefect)


def _opened(settings: Settings) -> Store:
    """Open the store with all that the settings ask of it: what it makes of an encryption is read back."""
    terms = Terms(**settings.terms)
    locks = settings.keeping is not None
    return open_bucket(settings.archive_url, terms=terms) or open_store(settings.archive_url, locks=locks, terms=terms)


def _storage(settings: Settings, store: Store, rounds: int, *, with_lock: bool) -> Iterator[Check]:
    return storage.examine(
        storage.Examination(
            store=store,
            name=str(uuid4()),
            each=abreast,
            rounds=rounds,
            allow_unsafe=settings.archive_allow_unsafe_store,
            locks=settings.keeping is not None,
            with_lock=with_lock,
        )
    )


def _pipeline(prefect: PrefectSettings) -> Iterator[Check]:
    if prefect.api_url is None:
        return pipeline.examine(None)
    api = pipeline.PrefectApi(prefect.api_url, key=_plain(prefect.api_key), auth=_plain(prefect.api_auth_string))
    return pipeline.examine(api)


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _verdict(found: list[Check]) -> str:
    failed, doubtful = (sum(check.state == state for check in found) for state in ("failure", "warning"))
    if failed:
        return f"NOT READY: {failed} failed, {doubtful} to look at"
    return f"READY, {doubtful} to look at" if doubtful else "READY"

"""Prefect, asked through its REST API: is it there, are the deployments, and is a worker waiting for their runs?

With the standard library, because `client` alone may know httpx, and the archive must run without Prefect.
"""

import json
from base64 import b64encode
from collections.abc import Iterator
from email.message import Message
from http.client import HTTPException
from typing import IO, Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pydantic import BaseModel, TypeAdapter, ValidationError

from formant_archive.doctor.check import Check, failure, ok, skipped, warning

SECONDS = 10
TAG = "formant-archive"
#: Entrypoints that `prefect.yaml` deploys on a schedule, and what they are.
SCHEDULED = {
    "flows.archive.archive_conversations": "the archive's own runs",
    "flows.audit.audit_archive": "audits",
}
_FORBIDDEN = (401, 403)
_T = TypeVar("_T")


class Deployment(BaseModel):
    """What is asked of a deployment."""

    entrypoint: str | None
    work_pool_name: str | None
    paused: bool = False


class Pool(BaseModel):
    """What is asked of a work pool."""

    status: str | None
    is_paused: bool


class _Told(Exception):
    """Prefect's API cannot be used; the text says what to do.

    Attributes:
        status: The answer's, 0 where there was none.
    """

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class _Stays(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        """Follow no redirect: the key would go along."""
        return None


class PrefectApi:
    """Prefect's REST API.

    Args:
        url: `PREFECT_API_URL`.
        key: Prefect Cloud's.
        auth: `user:password` of a server of one's own.
    """

    def __init__(self, url: str, *, key: str | None = None, auth: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if key or auth:
            words = f"Bearer {key}" if key else f"Basic {b64encode((auth or '').encode()).decode()}"
            self._headers["Authorization"] = words
        self._opener = build_opener(_Stays)

    def ask(self, kind: type[_T], path: str, body: object = None) -> _T:
        """Get something of a kind, or what passes a filter."""
        try:
            return TypeAdapter(kind).validate_python(self._ask(path, body))
        except ValidationError:
            raise _Told(
                "what answers is not Prefect's API, or of another version: correct PREFECT_API_URL", 200
            ) from None

    def _ask(self, path: str, body: object) -> Any:
        if not self._url.startswith(("http://", "https://")):
            raise _Told("PREFECT_API_URL is no http address: correct it")
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self._url}/{path}", data=data, headers=self._headers)  # noqa: S310  # looked at above
        try:
            with self._opener.open(request, timeout=SECONDS) as answer:
                return json.load(answer)
        except HTTPError as fault:
            with fault:
                refused = fault.code in _FORBIDDEN
                hint = "correct PREFECT_API_KEY or PREFECT_API_AUTH_STRING" if refused else "correct PREFECT_API_URL"
                raise _Told(f"Prefect's API answers {fault.code}: {hint}", fault.code) from None
        except (OSError, HTTPException, ValueError) as fault:
            # Not its text: an address may hold a password.
            raise _Told(
                f"Prefect's API gives no answer ({type(fault).__name__}): start it, or correct PREFECT_API_URL"
            ) from None


def examine(api: PrefectApi | None) -> Iterator[Check]:
    """Look for Prefect, the deployments, and workers for them."""
    if api is None:
        yield skipped("prefect", "PREFECT_API_URL is not set: runs are started by hand, or by something else")
        return
    try:
        deployments = _deployments(api)
        yield _version(api)
    except _Told as fault:
        yield failure("prefect", str(fault), 2 if fault.status else 3)
        return
    yield _scheduled(deployments)
    for name in sorted({one.work_pool_name for one in deployments if one.work_pool_name}):
        yield _pool(api, name)


def _deployments(api: PrefectApi) -> list[Deployment]:
    wanted = {"deployments": {"tags": {"all_": [TAG]}}, "limit": 200}
    return api.ask(list[Deployment], "deployments/filter", wanted)


def _version(api: PrefectApi) -> Check:
    try:
        version = api.ask(str, "admin/version")
    except _Told as fault:
        # Prefect Cloud does not say.
        if fault.status != 404:
            raise
        return ok("prefect", "is there, and takes the key")
    if not version.startswith("3."):
        return failure("prefect", f"its server is of version {version}: the flows need 3")
    return ok("prefect", f"its server is there, of version {version}")


def _scheduled(deployments: list[Deployment]) -> Check:
    active = {one.entrypoint for one in deployments if not one.paused}
    if missing := [f"{what} ({entrypoint})" for entrypoint, what in SCHEDULED.items() if entrypoint not in active]:
        text = f"nothing that is deployed and not paused starts {', '.join(missing)}: prefect deploy --all"
        return warning("deployments", text)
    return ok("deployments", f"{len(deployments)} of formant-archive's are there, and scheduled")


def _pool(api: PrefectApi, name: str) -> Check:
    shown = "work pool"
    try:
        pool = api.ask(Pool, f"work_pools/{quote(name, safe='')}")
    except _Told as fault:
        if fault.status == 404:
            return failure(
                shown, f"deployments name {name}, and there is none: prefect work-pool create {name} --type …"
            )
        return failure(shown, str(fault), 3)
    if pool.is_paused:
        return warning(shown, f"{name} is paused: prefect work-pool resume {name}")
    if pool.status != "READY":
        return warning(shown, f"{name}: no worker is waiting for its runs: prefect worker start --pool {name}")
    return ok(shown, f"{name}: a worker is waiting for its runs")

"""What a request asks for, and the record that is kept of it.

WSGI hands the path over percent-decoded, so an id that holds a `/` looks like a longer path. The ids that
exist decide: of the readings of a path, the one that names a known conversation is meant. Where `x` and
`x/recording` are both ids, `/v1/conversations/x/recording` is the conversation `x/recording`; where `é` and
its mojibake `Ã©` are both ids, it is `é` that is found in process.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal
from wsgiref.types import WSGIEnvironment

Kind = Literal["list", "conversation", "recording", "presigned", "other"]

LIST_PATH = "/v1/conversations"
PRESIGNED_PATH = "/presigned/"
_SUFFIX = "/recording"


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One request that was answered.

    Attributes:
        method: `GET` or another.
        path: Percent-decoded.
        query: As sent, without the `?`.
        status: Of the answer; 0 for a connection that the simulator broke.
        kind: What was asked for. `presigned` is a recording behind a redirect, where no key belongs.
        authorization: Whether an `Authorization` header came along.
    """

    method: str
    path: str
    query: str
    status: int
    kind: Kind
    authorization: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Ask:
    """A request before it is answered.

    Attributes:
        method: `GET` or another.
        path: Percent-decoded.
        query: As sent, without the `?`.
        kind: What is asked for.
        name: The conversation's id, or the token of a presigned path, or empty.
        authorization: The header, or empty.
        origin: The scheme and host that the client used: `http://127.0.0.1:8080`.
    """

    method: str
    path: str
    query: str
    kind: Kind
    name: str
    authorization: str
    origin: str

    def answered(self, status: int) -> Request:
        """The record of this request."""
        return Request(self.method, self.path, self.query, status, self.kind, bool(self.authorization))


def read_request(environ: WSGIEnvironment, known: Callable[[str], object]) -> Ask:
    """Reads a WSGI request.

    Args:
        environ: WSGI's.
        known: Says whether there is a conversation of an id: None where there is not.
    """
    readings = _readings(environ.get("PATH_INFO", ""))
    path, kind, name = _route(readings, known)
    host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    return Ask(
        method=environ["REQUEST_METHOD"],
        path=path,
        query=environ.get("QUERY_STRING", ""),
        kind=kind,
        name=name,
        authorization=environ.get("HTTP_AUTHORIZATION", ""),
        origin=f"{environ['wsgi.url_scheme']}://{host}",
    )


def _readings(path_info: str) -> list[str]:
    """The texts that a path can mean: WSGI's bytes as Latin-1, or real text, as httpx's transport has it."""
    try:
        return [path_info.encode("latin-1").decode(), path_info]
    except UnicodeError:
        return [path_info]


def _route(readings: list[str], known: Callable[[str], object]) -> tuple[str, Kind, str]:
    path = readings[0]
    if path == LIST_PATH:
        return path, "list", ""
    if path.startswith(PRESIGNED_PATH):
        return path, "presigned", path.removeprefix(PRESIGNED_PATH)
    if not path.startswith(f"{LIST_PATH}/"):
        return path, "other", ""
    candidates = [(text, *_split(text, known)) for text in readings]
    return next((each for each in candidates if known(each[2]) is not None), candidates[0])


def _split(path: str, known: Callable[[str], object]) -> tuple[Kind, str]:
    name = path.removeprefix(f"{LIST_PATH}/")
    if name.endswith(_SUFFIX) and known(name) is None:
        return "recording", name.removesuffix(_SUFFIX)
    return "conversation", name

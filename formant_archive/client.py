"""FormantAI's API over HTTP: pages of the list, a conversation's bytes, a recording's stream.

The only module that knows httpx, and the one retrier of throttling, 5xx and broken connections. Its promises:

- Nothing but the errors below leaves it, also in the middle of a stream; none holds, or is chained to, anything that
  holds a URL's path or query, a body, the vendor's message or the key. Only `OSError` from writing the caller's own
  file passes as it is: a full disk is not the network's fault.
- What is served is handed on byte for byte. Whether it is a conversation or audio is for the caller to judge.
- The key goes to the base URL's host alone. A redirect is followed by a second client, which has no key and no cookies.
- Proxies and certificates are the machine's, as httpx finds them (`HTTPS_PROXY`, `SSL_CERT_FILE`), except to
  loopback. No `.netrc` is read.

    200                              the answer
    400                              ApiRejected
    401, 403                         ApiRefused
    404, the API's own not_found     NotFound
    429, 5xx, timeouts, cut bodies   asked again, then ApiUnavailable
    anything else                    BadAnswer
"""

import hashlib
import logging
import random as _random
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from ipaddress import ip_address
from math import ceil
from socket import inet_aton
from typing import BinaryIO, NamedTuple, Self, TypeVar
from urllib.parse import quote

import httpx

from formant_archive import __version__
from formant_archive.body import Body
from formant_archive.errors import ApiError, ApiRefused, ApiRejected, BadAnswer, NotFound, UsageError
from formant_archive.pacing import Pacer, Turn, retry_after, skew
from formant_archive.page import Page, read_page
from formant_archive.patience import Effort, Interrupted

__all__ = ["FormantClient", "Page"]

#: Bytes of a page or a conversation.
JSON_CAP = 32 * 1024**2
#: Bytes of a recording: what one `PutObject` takes.
RECORDING_CAP = 5 * 1024**3

_ERROR_CAP = 64 * 1024
_LAST_PORT = 65535
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 30.0
_REDIRECTS, _HOPS = frozenset({301, 302, 303, 307, 308}), 3
# What object stores answer to a link that has expired: the API gives a fresh one.
_DEAD_LINK = frozenset({400, 401, 403, 410})

_T = TypeVar("_T")


class FormantClient:
    """A workspace's conversations. One client serves all threads of a process: they share its limits.

    All three calls raise `ApiRefused`, `ApiRejected`, `BadAnswer` and `ApiUnavailable` as the table above says.

    Args:
        base_url: `https://…`, or `http://` on loopback; a path prefix is kept.
        api_key: The workspace's key.
        concurrency: Requests at once.
        json_seconds: The longest that a page or a conversation may take.
        recording_seconds: The longest that a recording may take.
        transport: Carries the requests to the API; httpx's own by default.
        redirect_transport: Carries the requests to where the API redirects.
        clock: Monotonic seconds.
        wall_clock: The time in UTC, for answers that carry no `Date`.
        sleep: Sleeps some seconds.
        random: A number from 0 to 1.

    Raises:
        UsageError: The base URL or the key cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        concurrency: int = 16,
        json_seconds: float = 60.0,
        recording_seconds: float = 600.0,
        transport: httpx.BaseTransport | None = None,
        redirect_transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._base = _checked_base(base_url)
        self._json_seconds = json_seconds
        self._recording_seconds = recording_seconds
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._random = random
        self._dated: tuple[Mapping[str, str], datetime] | None = None
        self._pacer = Pacer(concurrency, clock=clock, wall_clock=wall_clock, sleep=sleep, random=random)
        _hush()
        trusted = self._base.scheme == "https"
        # It takes 30 ms to load, and who brings the transports brings the certificates.
        verify = httpx.create_ssl_context(trust_env=trusted) if None in (transport, redirect_transport) else True
        key = {"Authorization": f"Bearer {_checked_key(api_key)}"}

        def made(transport: httpx.BaseTransport | None, headers: Mapping[str, str]) -> "_Client":
            return _Client(headers={**_HEADERS, **headers}, transport=transport, trust_env=trusted, verify=verify)

        self._made: Callable[[], _Wires] = lambda: _Wires(made(transport, key), made(redirect_transport, {}))
        self._idle: deque[_Wires] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        while self._idle:
            for client in self._idle.pop():
                client.close()

    @property
    def rate_limit(self) -> int | None:
        """Requests that the API allows in a window, as it told last; None where it told nothing."""
        return self._pacer.limit

    @property
    def skew(self) -> float | None:
        """Seconds that the API's clock is ahead of ours, as its last answer told; None where none told its time."""
        return None if self._dated is None else skew(*self._dated)

    def list_page(self, *, agent_id: int | None, offset: int, limit: int = 100) -> Page:
        """Ask for one page of the list: of an agent, or of all of them. Phone numbers stay behind."""
        agent = "" if agent_id is None else f"&agent_id={agent_id}"
        path = f"?limit={limit}&offset={offset}{agent}"
        return self._get(path, lambda body: read_page(body.json(JSON_CAP), body.host), self._json_seconds)

    def conversation(self, conversation_id: str) -> bytes:
        """Fetch a conversation's body as it is served, 32 MiB at most.

        Raises:
            NotFound: The API knows no such conversation.
        """
        return self._get(_path(conversation_id), lambda body: body.read(JSON_CAP), self._json_seconds)

    def recording(self, conversation_id: str, into: BinaryIO) -> str:
        """Stream a recording's body into a file, 5 GiB at most, whatever it turns out to be.

        Args:
            conversation_id: As the API spells it.
            into: A seekable file. Each attempt empties it first; it is left at its end.

        Returns:
            The body's SHA-256, hex.

        Raises:
            NotFound: There is no recording, not yet or never.
            OSError: The file could not be written.
        """

        def save(body: Body) -> str:
            into.seek(0)
            into.truncate()
            digest = hashlib.sha256()
            for chunk in body.chunks(RECORDING_CAP):
                digest.update(chunk)
                into.write(chunk)
            return digest.hexdigest()

        return self._get(f"{_path(conversation_id)}/recording", save, self._recording_seconds)

    def _get(self, path: str, read: Callable[[Body], _T], seconds: float) -> _T:
        """Ask until there is an answer or an error that asking again cannot mend."""
        effort = Effort(self._clock, self._random)
        url = httpx.URL(f"{self._base}/v1/conversations{path}")
        answer: _T = effort.retrying(self._sleep)(self._attempt, url, read, seconds, effort)
        return answer

    def _attempt(self, url: httpx.URL, read: Callable[[Body], _T], seconds: float, effort: Effort) -> _T:
        try:
            asked = self._clock()
            with self._pacer.turn() as turn, self._wires() as wires:
                effort.excuse(self._clock() - asked)
                return self._exchange(wires, url, read, seconds, turn)
        except (httpx.HTTPError, httpx.StreamError) as error:
            fault: ApiError = Interrupted(_fault(error))
        except (httpx.InvalidURL, UnicodeError):
            # httpx looks at where a redirect leads, also where it is not to follow it; at its host's name, too.
            fault = BadAnswer(f"{self._base.host} redirects to something that is no link")
        # Not raised above, not even `from None`: the error's context would still be httpx's, which holds the request.
        raise fault

    @contextmanager
    def _wires(self) -> Iterator["_Wires"]:
        """Lend a request connections of its own: in a pool of httpx's, threads wait half their time for its lock."""
        try:
            wires = self._idle.pop()
        except IndexError:
            wires = self._made()
        try:
            yield wires
        finally:
            self._idle.append(wires)

    def _exchange(self, wires: "_Wires", url: httpx.URL, read: Callable[[Body], _T], seconds: float, turn: Turn) -> _T:
        """Send the request, follow its redirects, and read the answer."""
        deadline = self._clock() + seconds
        connect = min(_CONNECT_SECONDS, seconds)
        # httpx says a number, and hands what it gets to the socket, which takes whatever has an `__index__`.
        timeout = {"connect": connect, "read": _TimeLeft(self._clock, deadline), "write": connect, "pool": connect}
        for hop in range(_HOPS + 1):
            client = wires.links if hop else wires.api
            # Not `client.build_request`, which joins what needs no joining, and takes twice the time.
            request = httpx.Request("GET", url, headers=client.headers, extensions={"timeout": timeout})
            with closing(client.send(request, stream=True)) as response:
                # A dict, because each look into httpx's own costs microseconds.
                headers = dict(response.headers.items())
                if not hop:
                    turn.answered(response.status_code, headers)
                    self._dated = headers, self._wall_clock()
                if response.status_code not in _REDIRECTS:
                    body = Body(response.iter_raw(), headers, url.host, self._clock, deadline)
                    self._judge(response.status_code, body, by_link=hop > 0)
                    return read(body)
                url = self._target(response)
        raise BadAnswer(f"{self._base.host} redirects more than {_HOPS} times")

    def _target(self, response: httpx.Response) -> httpx.URL:
        """Where an answer redirects to: https, or from loopback to loopback; never from outside into a network."""
        location = response.headers.get("location")
        target = _joined(response.url, location) if location else None
        if target is None or target.userinfo or not (_is_https(target) or self._is_local(target)):
            raise BadAnswer(f"{response.url.host} redirects to something that is not an https link")
        if _is_inside(target) and not _is_inside(self._base):
            raise BadAnswer(f"{response.url.host} redirects to an address of this machine or its network")
        return target

    def _is_local(self, target: httpx.URL) -> bool:
        return _is_loopback(self._base) and _is_loopback(target)

    def _judge(self, status: int, body: Body, *, by_link: bool) -> None:
        """Raise what an answer other than 200 means."""
        if status == httpx.codes.OK:
            return
        word = _error_type(body)
        said = f"{body.host} answered {status} {word}".rstrip()
        # The pacer obeys the API's own 429, for all threads; its wait is no part of this call's patience.
        if status == httpx.codes.TOO_MANY_REQUESTS and not by_link:
            raise Interrupted(said)
        if status == httpx.codes.TOO_MANY_REQUESTS or status >= 500 or (by_link and status in _DEAD_LINK):
            raise Interrupted(said, retry_after(body.headers, self._wall_clock()))
        raise BadAnswer(said) if by_link else _refusal(status, word, said)


class _TimeLeft:
    """The time until a deadline, as a read's timeout: a socket asks for its whole seconds before each read.

    httpx bounds each read alone, so that headers that come byte by byte would take days.
    """

    def __init__(self, clock: Callable[[], float], deadline: float) -> None:
        self._clock = clock
        self._deadline = deadline

    def __index__(self) -> int:
        left = self._deadline - self._clock()
        if left <= 0:
            raise TimeoutError
        return ceil(min(left, _READ_SECONDS))


class _NoCookies(httpx.Cookies):
    def extract_cookies(self, response: httpx.Response) -> None:
        """Leave them where they are: to look for them would take a tenth of a request's time."""


class _Client(httpx.Client):
    """httpx's client, but it keeps no cookies."""

    _none = _NoCookies()

    @property  # type: ignore[misc]  # httpx lets them be set, too
    def cookies(self) -> httpx.Cookies:
        """None, ever."""
        return self._none


class _Wires(NamedTuple):
    """What one request at a time goes over: a client with the key for the API, and one without for redirects."""

    api: _Client
    links: _Client


_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"formant-archive/{__version__}"}


def _hush() -> None:
    # Both write full URLs, whose queries can be signatures, and httpcore all headers.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _checked_base(base_url: str) -> httpx.URL:
    url = _joined(httpx.URL(), base_url.rstrip("/"))
    if url is None or not (_is_https(url) or _is_loopback(url)) or url.userinfo or url.query or url.fragment:
        raise UsageError("FORMANT_BASE_URL must be an https URL without a user, a query or a fragment")
    return url


def _checked_key(api_key: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]+", api_key):
        raise UsageError("FORMANT_API_KEY is empty or holds a space, a line break or another sign that no key has")
    return api_key


def _joined(base: httpx.URL, link: str) -> httpx.URL | None:
    """Resolve a link; None where no connection could be made to what comes of it."""
    try:
        url = base.join(link)
        # As the socket would encode it, and fail with an error that is not httpx's.
        url.raw_host.decode("ascii").encode("idna")
        # As its name is shown.
        _ = url.host
    except (httpx.InvalidURL, ValueError):
        return None
    return url if (url.port or 0) <= _LAST_PORT else None


def _is_https(url: httpx.URL) -> bool:
    return url.scheme == "https" and bool(url.host)


def _is_loopback(url: httpx.URL) -> bool:
    if url.scheme != "http" or url.host == "localhost":
        return url.scheme == "http"
    try:
        return ip_address(url.host).is_loopback
    except ValueError:
        return False


def _is_inside(url: httpx.URL) -> bool:
    """Whether a URL names an address that is not of the internet: loopback, a private network, link-local and so on."""
    host = url.host.rstrip(".")
    try:
        # As a resolver reads it, which takes `127.1` and `2130706433` for addresses as well.
        return not ip_address(host if ":" in host else inet_aton(host)).is_global
    except (ValueError, OSError):
        return host == "localhost"


def _path(conversation_id: str) -> str:
    """The path of a conversation, whatever its id is: it can neither leave its place nor name the list."""
    if not conversation_id:
        raise UsageError("a conversation's id is never empty")
    name = quote(conversation_id, safe="", errors="surrogatepass")
    return f"/{name.replace('.', '%2E') if name in ('.', '..') else name}"


def _fault(error: httpx.HTTPError | httpx.StreamError) -> str:
    host = error.request.url.host if isinstance(error, httpx.RequestError) else "FormantAI"
    if isinstance(error, httpx.TimeoutException):
        return f"{host} did not answer in time"
    if isinstance(error, httpx.ConnectError):
        return f"{host} could not be reached"
    return f"the connection to {host} broke off"


def _refusal(status: int, word: str, said: str) -> ApiError:
    """The error of an answer that asking again cannot mend."""
    if status in (401, 403):
        return ApiRefused(f"{said}: check that FORMANT_API_KEY is the key of this workspace")
    if status == httpx.codes.BAD_REQUEST:
        return ApiRejected(said)
    if status == httpx.codes.NOT_FOUND and word == "not_found":
        return NotFound(said)
    return BadAnswer(f"{said}, which its documentation does not know")


def _error_type(body: Body) -> str:
    """The API's one word for an error; empty where there is none that can be shown."""
    try:
        payload = body.json(_ERROR_CAP)
    except ApiError:
        return ""
    error = payload.get("error") if isinstance(payload, dict) else None
    word = error.get("type") if isinstance(error, dict) else None
    return word if isinstance(word, str) and re.fullmatch(r"[a-z_]{1,40}", word) else ""

"""The client against every answer that its documentation knows and does not know, and against broken connections."""

import gzip
import hashlib
import io
import json
import logging
import socket
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import pytest

from formant_archive import client as client_module
from formant_archive.client import FormantClient
from formant_archive.errors import (
    ApiError,
    ApiRefused,
    ApiRejected,
    ApiUnavailable,
    BadAnswer,
    NotFound,
    UsageError,
)

BASE = "https://api.example.com/prefix"
KEY = "canary-key-c0ffee"
PHONE = "+919876543210"
VENDOR = "canary words of the vendor"
SIGNATURE = "canary-signature-beef"
TRANSCRIPT = "canary words of a transcript"
CANARIES = (KEY, PHONE, VENDOR, SIGNATURE, TRANSCRIPT)

ROW = {
    "agent_id": 123,
    "contact_number": PHONE,
    "conversation_id": "e36853de_1",
    "duration_seconds": 142,
    "end_timestamp": 1773867341766,
    "start_timestamp": 1773867201766,
    "status": "completed",
}

Handler = Callable[[httpx.Request], httpx.Response]


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def wall(self) -> datetime:
        return datetime.fromtimestamp(1773867341 + self.now, UTC)


class Script:
    """Answers one after the other, the last one for ever, and keeps what was asked."""

    def __init__(self, *answers: httpx.Response | Exception | Handler) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return copy(answer) if isinstance(answer, httpx.Response) else answer(request)


def copy(answer: httpx.Response) -> httpx.Response:
    # A stream of its own, so that httpx neither reads nor decodes the body before the client does.
    return httpx.Response(answer.status_code, headers=answer.headers, stream=Chunks(answer.extensions["raw"]))


class Chunks(httpx.SyncByteStream):
    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks


def answer(status: int = 200, body: bytes = b"", **headers: str) -> httpx.Response:
    length = {"content-length": str(len(body))}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=length | named, extensions={"raw": [body]})


def refusal(status: int, word: str = "internal_error", **headers: str) -> httpx.Response:
    return answer(status, json.dumps({"error": {"message": f"{VENDOR} {PHONE}", "type": word}}).encode(), **headers)


def page(**changes: Any) -> httpx.Response:
    return answer(body=json.dumps({"data": [ROW], "has_more": False, "total": 1} | changes).encode())


NOT_FOUND = refusal(404, "not_found")


def made(api: Handler, links: Handler | None = None, clock: Clock | None = None, **more: Any) -> FormantClient:
    clock = clock or Clock()
    return FormantClient(
        more.pop("base_url", BASE),
        KEY,
        transport=httpx.MockTransport(api),
        redirect_transport=httpx.MockTransport(links or Script(answer(500))),
        clock=clock,
        wall_clock=clock.wall,
        sleep=clock.sleep,
        random=lambda: 0.5,
        **more,
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """All that hangs on an error: its causes and its contexts."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            waiting += [one.__cause__, one.__context__]
            yield one


@contextmanager
def refused(kind: type[Exception], match: str | None = None) -> Iterator[None]:
    """Expect an error, and find no canary and no error of httpx's on it or behind it."""
    with pytest.raises(kind, match=match) as caught:
        yield
    for one in chain(caught.value):
        told = f"{one} {one!r} {one.args} {vars(one)}"
        assert not [canary for canary in CANARIES if canary in told]
        assert isinstance(one, ApiError | UsageError)
        assert "/v1" not in told


# --- what is asked ------------------------------------------------------------------------------------------------


def test_a_page_is_references_without_phone_numbers() -> None:
    api = Script(page(has_more=True, total=7))
    found = made(api).list_page(agent_id=123, offset=200)
    assert (found.has_more, found.total) == (True, 7)
    assert [one.conversation_id for one in found.references] == ["e36853de_1"]
    assert PHONE not in repr(found)
    assert str(api.requests[0].url) == f"{BASE}/v1/conversations?limit=100&offset=200&agent_id=123"


def test_all_agents_are_asked_for_without_naming_one() -> None:
    api = Script(page())
    made(api).list_page(agent_id=None, offset=0, limit=20)
    assert api.requests[0].url.query == b"limit=20&offset=0"


def test_a_conversation_is_handed_on_byte_for_byte() -> None:
    body = b' \xef\xbb\xbf{"data": NaN, "x": 1, "x": 2}\r\n\0'
    assert made(Script(answer(body=body))).conversation("a") == body


def test_a_recording_is_written_and_hashed() -> None:
    body = bytes(range(256)) * 2000
    into = io.BytesIO(b"x" * 10**6)
    into.seek(77)
    assert made(Script(answer(body=body))).recording("a", into) == hashlib.sha256(body).hexdigest()
    assert into.getvalue() == body
    assert into.tell() == len(body)


@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_a_recording_that_is_none_is_written_all_the_same(kind: str) -> None:
    into = io.BytesIO()
    made(Script(answer(body=b"{}", content_type=kind))).recording("a", into)
    assert into.getvalue() == b"{}"


def test_a_request_names_its_sender_and_asks_for_no_encoding() -> None:
    api = Script(answer(body=b"{}"))
    made(api).conversation("a")
    headers = api.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"].startswith("formant-archive/")


@pytest.mark.parametrize(
    ("conversation_id", "path"),
    [
        ("e36853de-9cbb_1", "e36853de-9cbb_1"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("../agents", "..%2Fagents"),
        ("a/b?c#d%2e", "a%2Fb%3Fc%23d%252e"),
        ("ü 😀\n\0", "%C3%BC%20%F0%9F%98%80%0A%00"),
        ("\ud800", "%ED%A0%80"),
        ("http://evil/", "http%3A%2F%2Fevil%2F"),
    ],
)
@pytest.mark.parametrize("base_url", [BASE, f"{BASE}/", "https://api.example.com", "https://api.example.com/"])
def test_no_id_leaves_its_place_in_the_path(conversation_id: str, path: str, base_url: str) -> None:
    api = Script(answer(body=b"{}"))
    with made(api, base_url=base_url) as client:
        client.conversation(conversation_id)
        client.recording(conversation_id, io.BytesIO())
    prefix = "/prefix" if "prefix" in base_url else ""
    assert [request.url.raw_path.decode() for request in api.requests] == [
        f"{prefix}/v1/conversations/{path}",
        f"{prefix}/v1/conversations/{path}/recording",
    ]


def test_an_empty_id_does_not_ask_for_the_list() -> None:
    api = Script(page())
    with refused(UsageError):
        made(api).conversation("")
    assert api.requests == []


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.example.com",
        "http://10.0.0.1",
        "http://127.0.0.1.example.com",
        "ftp://api.example.com",
        "api.example.com",
        "https://",
        "https://user:canary-key-c0ffee@api.example.com",
        "https://api.example.com?x=canary-key-c0ffee",
        "https://api.example.com#x",
        "https://[::1",
        "https://a b\n",
        "https://a:70000",
        "",
    ],
)
def test_a_base_url_that_would_show_the_key_or_mean_nothing_is_refused(base_url: str) -> None:
    with refused(UsageError, "FORMANT_BASE_URL"):
        made(Script(page()), base_url=base_url)


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:8080/p"])
def test_plain_http_is_for_loopback(base_url: str) -> None:
    assert made(Script(page()), base_url=base_url).list_page(agent_id=None, offset=0).total == 1


@pytest.mark.parametrize("key", ["", "canary-key-c0ffee\n", "canary-key-c0ffee ", "canary-key-c0ffee–", "\0"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(key: str) -> None:
    with refused(UsageError, "FORMANT_API_KEY"):
        FormantClient(BASE, key)


def test_requests_go_over_the_machines_proxy_which_is_not_shown_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def turn_away(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    seen.append(connection.recv(4096))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=turn_away, args=(listening,), daemon=True)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listening.getsockname()[1]}")
        with FormantClient(BASE, KEY, sleep=lambda _: None) as client, pytest.raises(ApiUnavailable):
            client.conversation("c")
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()

    assert seen
    assert all(request.startswith(b"CONNECT api.example.com:443 ") and KEY.encode() not in request for request in seen)


def test_no_netrc_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text(
        "machine api.example.com login a password b\nmachine l.example.com login a password b"
    )
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    api, links = Script(answer(302, location="https://l.example.com/")), Script(answer(body=b"{}"))
    made(api, links).conversation("a")
    assert api.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in links.requests[0].headers


# --- what is answered ---------------------------------------------------------------------------------------------

Call = Callable[[FormantClient], object]

every_call = pytest.mark.parametrize(
    "call",
    [
        lambda client: client.list_page(agent_id=None, offset=0),
        lambda client: client.conversation("a"),
        lambda client: client.recording("a", io.BytesIO()),
    ],
    ids=["page", "conversation", "recording"],
)


@every_call
@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        (refusal(400, "invalid_request"), ApiRejected, "400 invalid_request"),
        (refusal(401, "authentication_error"), ApiRefused, "api.example.com .*FORMANT_API_KEY"),
        (answer(403, b"<html>canary words of the vendor"), ApiRefused, "403: .*FORMANT_API_KEY"),
        (NOT_FOUND, NotFound, "404 not_found"),
        (answer(404, b"<html>"), BadAnswer, "404"),
        (refusal(404, "no_route"), BadAnswer, "404 no_route"),
        (answer(404, b'{"error": "not_found"}'), BadAnswer, "404"),
        (answer(404, b'["not_found"]'), BadAnswer, "404"),
        (answer(404, b'{"error": {"type": "not_found"}}' + b" " * 10**6), BadAnswer, "404"),
        (refusal(409, "duplicate_request"), BadAnswer, "409"),
        (answer(204), BadAnswer, "204"),
        (answer(206, b"half"), BadAnswer, "206"),
        (answer(304), BadAnswer, "304"),
        (answer(410, b"[" * 50_000), BadAnswer, "410"),
        (refusal(418, f"X {PHONE}"), BadAnswer, "418, which"),
    ],
)
def test_an_answer_that_asking_again_cannot_mend_is_asked_for_once(
    call: Call, given: httpx.Response, kind: type[Exception], says: str
) -> None:
    api = Script(given)
    with refused(kind, says):
        call(made(api))
    assert len(api.requests) == 1


BROKEN: list[httpx.Response | Exception] = [
    refusal(500),
    answer(502, b"<html>"),
    answer(503),
    answer(599),
    refusal(429, "rate_limit_exceeded"),
    httpx.ConnectError(VENDOR),
    httpx.ConnectTimeout(VENDOR),
    httpx.ReadTimeout(VENDOR),
    httpx.ReadError(VENDOR),
    httpx.RemoteProtocolError(VENDOR),
    httpx.PoolTimeout(VENDOR),
    answer(body=b'{"data": ', content_length="100"),
    answer(body=gzip.compress(b"{}" * 500)[:-9], content_encoding="gzip"),
]


@every_call
@pytest.mark.parametrize("broken", BROKEN)
def test_what_can_mend_is_asked_for_five_times(call: Call, broken: httpx.Response | Exception) -> None:
    api, clock = Script(broken), Clock()
    with refused(ApiUnavailable, "api.example.com"):
        call(made(api, clock=clock))
    assert len(api.requests) == 5
    assert clock.slept == [0.25, 0.5, 1.0, 2.0]


@pytest.mark.parametrize("broken", BROKEN)
def test_what_has_mended_is_an_answer_like_any_other(broken: httpx.Response | Exception) -> None:
    into = io.BytesIO()
    made(Script(broken, broken, answer(body=b"RIFF"))).recording("a", into)
    assert into.getvalue() == b"RIFF"


class Breaking(httpx.SyncByteStream):
    """Gives a few bytes, then breaks."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield b'{"data": '
        raise self._error


@every_call
@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("error", [httpx.ReadError(VENDOR), httpx.ReadTimeout(VENDOR), httpx.StreamClosed()])
def test_no_error_of_httpx_leaves_the_middle_of_a_stream(call: Call, status: int, error: Exception) -> None:
    api = Script(lambda request: httpx.Response(status, stream=Breaking(error)))
    with refused(ApiUnavailable):
        call(made(api))
    assert len(api.requests) == 5


@pytest.mark.parametrize(
    "body",
    [
        b"<html>canary words of a transcript",
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"data": {}, "total": 1}',
        b'{"data": null, "total": 1}',
        b'{"data": [], "total": ' + b"9" * 5000 + b"}",
        b'{"data": []}',
        b'{"data": [], "total": -1}',
        b'{"data": [], "total": true}',
        b'{"data": [], "total": "1"}',
        b'{"data": [], "total": 1.0}',
        b'{"data": [{"contact_number": "+919876543210"}], "total": 1}',
        b'{"data": [{"conversation_id": "", "contact_number": "+919876543210"}], "total": 1}',
        b'{"data": [{"conversation_id": ["+919876543210"]}], "total": 1}',
        b'{"data": ["+919876543210"], "total": 1}',
        b'{"data": [[]], "total": 1}',
        b'{"data": [null], "total": 1}',
    ],
)
def test_a_bad_page_is_asked_for_again_and_shows_nothing(body: bytes) -> None:
    api = Script(answer(body=body))
    with refused(BadAnswer, "page"):
        made(api).list_page(agent_id=None, offset=0)
    assert len(api.requests) == 5
    assert made(Script(answer(body=body), page())).list_page(agent_id=None, offset=0).total == 1


@pytest.mark.parametrize(("odd", "taken"), [(None, False), ("yes", True), (0, False), ([], False)])
def test_has_more_is_advice(odd: object, taken: bool) -> None:
    assert made(Script(page(has_more=odd))).list_page(agent_id=None, offset=0).has_more is taken


# --- patience -----------------------------------------------------------------------------------------------------


def test_retry_after_of_a_5xx_is_waited_for() -> None:
    clock = Clock()
    made(Script(answer(503, retry_after="7"), answer(body=b"{}")), clock=clock).conversation("a")
    assert clock.slept == [7.0]


def test_a_retry_after_beyond_the_patience_ends_the_call() -> None:
    api, clock = Script(answer(503, retry_after="3600")), Clock()
    with refused(ApiUnavailable, "503"):
        made(api, clock=clock).conversation("a")
    assert (len(api.requests), clock.slept) == (1, [])


def test_no_attempt_begins_after_two_minutes() -> None:
    clock = Clock()

    def slow(request: httpx.Request) -> httpx.Response:
        clock.now += 50
        raise httpx.ReadTimeout("", request=request)

    api = Script(slow)
    with refused(ApiUnavailable):
        made(api, clock=clock).conversation("a")
    assert len(api.requests) == 3


def test_waiting_for_the_rate_limit_is_no_part_of_the_patience() -> None:
    clock = Clock()
    throttled = refusal(429, "rate_limit_exceeded", retry_after="100")
    made(Script(throttled, throttled, throttled, answer(body=b"{}")), clock=clock).conversation("a")
    assert clock.now > 300


def test_a_window_that_opens_too_late_is_not_waited_for() -> None:
    api, clock = Script(refusal(429, "rate_limit_exceeded", retry_after="3600")), Clock()
    with refused(ApiUnavailable, "until 2026-03-18 21:55:4. UTC"):
        made(api, clock=clock).conversation("a")
    assert len(api.requests) == 1
    assert clock.now < 2


def test_a_used_up_budget_stops_the_next_request_before_it_is_sent() -> None:
    clock = Clock()
    spent = answer(
        body=b"{}",
        x_ratelimit_remaining="0",
        x_ratelimit_reset="2026-03-18T20:56:00+00:00",
        date="Wed, 18 Mar 2026 20:55:30 GMT",
    )
    client = made(Script(spent, answer(body=b"{}")), clock=clock)
    client.conversation("a")
    assert clock.now == 0
    client.conversation("b")
    assert clock.now == 30.25


# --- bodies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)],
    ids=["gzip", "x-gzip", "deflate"],
)
@pytest.mark.parametrize("size", [0, 10, 256 * 1024, 3 * 10**6])
def test_a_body_that_comes_compressed_all_the_same_is_decompressed(
    encoding: str, encode: Callable[[bytes], bytes], size: int
) -> None:
    body = b"x" * size
    assert made(Script(answer(body=encode(body), content_encoding=encoding))).conversation("a") == body


@pytest.mark.parametrize(
    "odd",
    [
        answer(body=b"{}", content_encoding="br"),
        answer(body=b"{}", content_encoding="gzip, gzip"),
        answer(body=b"canary words of a transcript", content_encoding="gzip"),
        answer(body=gzip.compress(b"{}") + b"x" * 1000, content_encoding="gzip"),
    ],
)
def test_a_body_in_an_encoding_of_its_own_is_a_bad_answer(odd: httpx.Response) -> None:
    api = Script(odd)
    with refused(BadAnswer):
        made(api).conversation("a")
    assert len(api.requests) == 1


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_conversation_is_32_mib_at_most(encoding: str) -> None:
    body = bytes(client_module.JSON_CAP)
    for content in (body, body + b"x"):
        sent = gzip.compress(content, 1) if encoding == "gzip" else content
        client = made(Script(answer(body=sent, content_encoding=encoding)))
        if content is body:
            assert len(client.conversation("a")) == len(body)
        else:
            with refused(BadAnswer, "larger than 33554432 bytes"):
                client.conversation("a")


class Counting(io.RawIOBase):
    """A file that keeps nothing but its length."""

    length = 0

    def write(self, content: Any, /) -> int:
        self.length += len(content)
        return len(content)

    def seek(self, *_: int) -> int:
        return 0

    def truncate(self, *_: Any) -> int:
        return 0


def test_a_bomb_takes_no_memory() -> None:
    deflate = zlib.compressobj(9, wbits=31)
    bomb = b"".join(deflate.compress(bytes(10**6)) for _ in range(200)) + deflate.flush()
    client, into = made(Script(answer(body=bomb, content_encoding="gzip"))), Counting()
    tracemalloc.start()
    client.recording("a", into)  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert into.length == 200 * 10**6
    assert peak < 3 * 10**6


def test_a_full_disk_is_not_a_broken_connection() -> None:
    class Full(io.BytesIO):
        def write(self, _: Any, /) -> int:
            raise OSError(28, "No space left on device")

    api = Script(answer(body=b"RIFF"))
    with pytest.raises(OSError, match="No space"):
        made(api).recording("a", Full())
    assert len(api.requests) == 1


# --- redirects ----------------------------------------------------------------------------------------------------

LINK = f"https://files.example.net/a%2Fb/r.wav?X-Sig={SIGNATURE}&c=a%2Fb"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_without_key_or_cookies(status: int) -> None:
    api = Script(answer(status, location=LINK, set_cookie="session=canary; Path=/"))
    links = Script(answer(302, location="/elsewhere", set_cookie="session=canary; Path=/"), answer(body=b"RIFF"))
    into = io.BytesIO()
    client = made(api, links)
    client.recording("a", into)
    client.recording("a", into)
    assert into.getvalue() == b"RIFF"
    assert str(links.requests[0].url) == LINK
    assert str(links.requests[1].url) == "https://files.example.net/elsewhere"
    for request in links.requests:
        assert not {"authorization", "cookie"} & set(request.headers)
        assert KEY not in str(request.headers.raw)
    assert "cookie" not in api.requests[1].headers


@pytest.mark.parametrize(
    "location",
    [
        f"http://files.example.net/?{SIGNATURE}",
        f"http://169.254.169.254/?{SIGNATURE}",
        f"http://127.0.0.1/?{SIGNATURE}",
        f"file:///etc/passwd?{SIGNATURE}",
        f"ftp://files.example.net/?{SIGNATURE}",
        f"https://user:{SIGNATURE}@files.example.net/",
        "",
    ],
)
def test_a_redirect_to_anything_but_https_is_a_bad_answer(location: str) -> None:
    api, links = Script(answer(302, location=location)), Script(answer(body=b"RIFF"))
    with refused(BadAnswer, "redirects"):
        made(api, links).recording("a", io.BytesIO())
    assert links.requests == []


def test_a_redirect_without_a_place_is_a_bad_answer() -> None:
    with refused(BadAnswer, "redirects"):
        made(Script(answer(302))).recording("a", io.BytesIO())


@pytest.mark.parametrize(
    "location",
    [
        f"https://[::1/?{SIGNATURE}",
        f"https://a:99999999/?{SIGNATURE}",
        f"https://{'a' * 64}.net/?{SIGNATURE}",
        f"https://a..net/?{SIGNATURE}",
    ],
)
def test_a_redirect_that_is_no_url_follows_nothing_and_shows_nothing(location: str) -> None:
    links = Script(answer(body=b"RIFF"))
    with refused(ApiError):
        made(Script(answer(302, location=location)), links).recording("a", io.BytesIO())
    assert links.requests == []


def test_loopback_may_redirect_to_loopback_alone() -> None:
    into = io.BytesIO()
    local = "http://127.0.0.1:8080"
    made(Script(answer(302, location=f"{local}/r")), Script(answer(body=b"RIFF")), base_url=local).recording("a", into)
    assert into.getvalue() == b"RIFF"
    with refused(BadAnswer):
        made(Script(answer(302, location="http://10.0.0.1/r")), base_url=local).recording("a", into)


def test_a_loop_ends_after_three_hops() -> None:
    api, links = Script(answer(302, location=LINK)), Script(answer(302, location=LINK))
    with refused(BadAnswer, "more than 3 times"):
        made(api, links).recording("a", io.BytesIO())
    assert (len(api.requests), len(links.requests)) == (1, 3)


@pytest.mark.parametrize("status", [400, 401, 403, 410, 429, 500, 503])
def test_a_link_that_has_expired_is_asked_for_afresh(status: int) -> None:
    api = Script(answer(302, location=LINK))
    links = Script(answer(status, f"<Error>{SIGNATURE}</Error>".encode()), answer(body=b"RIFF"))
    into = io.BytesIO()
    made(api, links).recording("a", into)
    assert into.getvalue() == b"RIFF"
    assert len(api.requests) == 2
    with refused(ApiUnavailable, f"files.example.net answered {status}"):
        made(api, Script(answer(status, SIGNATURE.encode()))).recording("a", into)


def test_a_404_behind_a_link_is_not_the_apis_own() -> None:
    with refused(BadAnswer, r"files.example.net answered 404"):
        made(Script(answer(302, location=LINK)), Script(NOT_FOUND)).recording("a", io.BytesIO())


def test_a_broken_link_shows_its_host_alone() -> None:
    with refused(ApiUnavailable, "files.example.net"):
        made(Script(answer(302, location=LINK)), Script(httpx.ReadError(SIGNATURE))).recording("a", io.BytesIO())


def test_a_links_rate_limit_is_not_the_apis() -> None:
    clock = Clock()
    api = Script(answer(302, location=LINK), answer(body=b"{}"))
    client = made(api, Script(answer(429, retry_after="3600")), clock)
    with refused(ApiUnavailable, "files.example.net answered 429"):
        client.recording("a", io.BytesIO())
    client.conversation("a")
    assert clock.slept == []


# --- logs ---------------------------------------------------------------------------------------------------------


def test_no_log_record_holds_a_url_a_key_or_a_header(caplog: pytest.LogCaptureFixture) -> None:
    with Served(ok(b"{}"), ok(b"RIFF"), b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", ok(b"{}")) as served:
        client = FormantClient(served.url, KEY, sleep=lambda _: None)
        caplog.set_level(logging.DEBUG)
        with client:
            client.conversation("canary-id")
            client.recording("canary-id", io.BytesIO())
            client.conversation("canary-id")
    told = [record.getMessage() for record in caplog.records]
    assert not [text for text in told if KEY in text or "canary-id" in text or "127.0.0.1" in text]


# --- real sockets -------------------------------------------------------------------------------------------------

Reply = bytes | Callable[[socket.socket], None]


def ok(body: bytes, *headers: str, announce: bool = True) -> bytes:
    length = [f"Content-Length: {len(body)}"] if announce else []
    return "\r\n".join(["HTTP/1.1 200 OK", *length, *headers, "", ""]).encode() + body


class Served:
    """A server on loopback: one connection for one reply, the last one for ever."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = list(replies)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.asked = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Served":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                reply = self._replies[min(self.asked, len(self._replies) - 1)]
                self.asked += 1
                with closing(connection), suppress(OSError):
                    connection.recv(65536)
                    reply(connection) if callable(reply) else connection.sendall(reply)


def ask(served: Served, into: BinaryIO | None = None, **more: Any) -> str:
    with FormantClient(served.url, KEY, sleep=lambda _: None, **more) as client:
        return client.recording("a", into if into is not None else io.BytesIO())


def reset(connection: socket.socket) -> None:
    connection.sendall(ok(b"RI", announce=False))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


CUT = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"R" * 500,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nRIFFx\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nRIFFx\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Le",
    b"SSH-2.0-OpenSSH\r\n",
    b"",
    reset,
]


@pytest.mark.parametrize("reply", CUT)
def test_a_cut_connection_is_asked_for_again(reply: Reply) -> None:
    into = io.BytesIO()
    with Served(reply, reply, ok(b"RIFF")) as served:
        assert ask(served, into) == hashlib.sha256(b"RIFF").hexdigest()
        assert served.asked == 3
    assert into.getvalue() == b"RIFF"


@pytest.mark.parametrize("reply", CUT)
def test_a_connection_that_is_always_cut_is_unavailable(reply: Reply) -> None:
    with Served(reply) as served:
        with refused(ApiUnavailable, "127.0.0.1"):
            ask(served)
        assert served.asked == 5


def test_a_body_without_a_length_ends_with_its_connection() -> None:
    into = io.BytesIO()
    with Served(ok(b"RIFF" * 50_000, announce=False)) as served:
        ask(served, into)
    assert into.getvalue() == b"RIFF" * 50_000


def test_nobody_listening_is_unavailable() -> None:
    with Served(b"") as served:
        pass
    with refused(ApiUnavailable, "could not be reached"):
        ask(served)


def drip(connection: socket.socket) -> None:
    connection.sendall(ok(b"", "Content-Length: 5000", announce=False))
    # All of it takes a hundred seconds.
    for _ in range(5000):
        connection.sendall(b"R")
        time.sleep(0.02)


def test_a_drip_ends_at_the_deadline() -> None:
    began = time.monotonic()
    with Served(drip) as served, refused(ApiUnavailable, "too slowly"):
        ask(served, recording_seconds=0.2)
    assert time.monotonic() - began < 50


def test_a_server_that_falls_silent_ends_at_the_deadline() -> None:
    done = threading.Event()

    def silent(connection: socket.socket) -> None:
        connection.sendall(ok(b"RI", "Content-Length: 1000", announce=False))
        done.wait(60)

    began = time.monotonic()
    with Served(silent, ok(b"RIFF")) as served:

        def give_up(_: float) -> None:
            done.set()

        with FormantClient(served.url, KEY, sleep=give_up, recording_seconds=0.2) as client:
            client.recording("a", io.BytesIO())
        assert served.asked == 2
    assert time.monotonic() - began < 30

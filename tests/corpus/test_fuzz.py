"""Whatever the API sends, what reads it ends with its own outcome or a typed error, and with no other exception."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import httpx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from formant_archive import keys
from formant_archive.client import FormantClient
from formant_archive.conversation import read_conversation
from formant_archive.errors import ApiError, ArchiveError, BadAnswer, PayloadRefused
from formant_archive.pacing import ABSURD, RateLimit, retry_after
from formant_archive.page import Page, read_page
from formant_archive.records import Pending, Reference, as_id
from formant_archive.stores import check_key
from formant_archive.wav import inspect
from tests.corpus.cases import KEY, OTHER, PHONE, SICK, Sound, page, row
from tests.test_client import chain
from tests.test_wav import chunk, extensible, fmt, riff

SEEN = datetime(2026, 3, 20, 12, tzinfo=UTC)
fuzzed = settings(max_examples=200, deadline=None)

# Text with everything in it, half surrogate pairs included, as JSON can have it.
texts = st.text(st.characters(), max_size=20)
numbers = st.integers() | st.integers().map(lambda power: 10 ** (abs(power) % 400)) | st.floats()
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
ids = texts.filter(bool) | st.integers() | st.sampled_from([".", "..", "a/b", "../x", "/", "x" * 5000])


@st.composite
def changed(draw: st.DrawFn, sound: dict[str, Any]) -> dict[str, Any]:
    """A sound object of which some fields are missing, of any value, or new."""
    left = {name: value for name, value in sound.items() if draw(st.integers(0, 9))}
    strange = draw(st.dictionaries(st.sampled_from(sorted(sound.keys() - {"contact_number"})) | texts, values))
    return left | strange


@st.composite
def pieces(draw: st.DrawFn, sound: bytes) -> bytes:
    """Sound bytes, of which a part is cut out, replaced or doubled."""
    begin, end = sorted((draw(st.integers(0, len(sound))), draw(st.integers(0, len(sound)))))
    return sound[:begin] + draw(st.binary(max_size=8)) + sound[draw(st.sampled_from([begin, end])) :]


@contextmanager
def only(kind: type[ArchiveError]) -> Iterator[None]:
    """Let nothing pass but one kind of error, which neither shows a phone number nor hangs on anything that does."""
    with suppress(kind):
        try:
            yield
        except kind as fault:
            behind = [*chain(fault)]
            assert all(isinstance(one, kind) for one in behind)
            assert PHONE not in str([(one, vars(one)) for one in behind])
            raise


def read(payload: object) -> Page | None:
    with only(BadAnswer):
        return read_page(payload, "api.example.com")
    return None


# --- the list -----------------------------------------------------------------------------------------------------


@fuzzed
@given(values | st.fixed_dictionaries({"data": st.lists(values), "total": values}))
def test_any_json_is_a_page_or_a_bad_answer(payload: object) -> None:
    read(payload)


@fuzzed
@given(st.lists(changed(row()), max_size=3), values, st.integers(0, 10))
def test_no_reference_holds_a_phone_number_and_every_one_can_be_written_and_read(
    rows: list[dict[str, Any]], has_more: object, total: int
) -> None:
    payload = {"data": [*rows, OTHER.row], "has_more": has_more, "total": total}
    # As it comes: through JSON, as Python writes and reads it.
    found = read(json.loads(json.dumps(payload)))
    assert PHONE not in repr(found)
    for reference in found.references if found else ():
        pending = Pending(**reference.model_dump(), folder=keys.folder(reference), first_seen_at=SEEN)
        assert Pending.model_validate_json(pending.line()) == pending


# --- keys ---------------------------------------------------------------------------------------------------------


def folder(conversation_id: object, agent_id: object = 7, start: object = None) -> str:
    said = {"conversation_id": conversation_id, "agent_id": agent_id, "start_timestamp": start}
    return keys.folder(Reference.model_validate(said))


@fuzzed
@given(ids, values, values)
def test_no_id_agent_or_time_leaves_its_folder(conversation_id: object, agent_id: object, start: object) -> None:
    key = folder(conversation_id, agent_id, start) + keys.RECORD
    check_key(key)
    assert key.isascii()
    assert key.isprintable()
    top, agent, day, name, file = key.split("/")
    assert (top, file) == ("conversations", keys.RECORD)
    assert agent.startswith("agent_id=")
    assert day.startswith("date=")
    assert max(map(len, (agent, day, name))) <= 255


@fuzzed
@given(texts.filter(bool), texts.filter(bool))
@example("caf\u00e9", "cafe\u0301")
@example("a", "A")
@example("x" * 5000, "x" * 5001)
@example("a/b", "a%2Fb")
def test_two_ids_have_two_folders(one: str, other: str) -> None:
    assert (folder(one) == folder(other)) == (as_id(one) == as_id(other))


# --- conversations ------------------------------------------------------------------------------------------------


def is_read(body: bytes, conversation_id: str) -> bool:
    with only(PayloadRefused):
        data = read_conversation(body, conversation_id)
        assert as_id(data["conversation_id"]) == conversation_id
        return True
    return False


@fuzzed
@given(st.binary() | pieces(Sound(row()).conversation) | values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_conversation_or_refused(body: bytes) -> None:
    is_read(body, SICK)


@fuzzed
@given(changed(Sound(row()).data), values)
def test_a_body_is_this_conversation_or_refused(data: dict[str, Any], conversation_id: object) -> None:
    is_read(json.dumps({"data": data | {"conversation_id": conversation_id}}).encode(), SICK)


@fuzzed
@given(ids)
def test_a_conversation_of_any_id_is_known_by_it(conversation_id: object) -> None:
    sound = Sound(row(conversation_id=conversation_id))
    (reference, _) = read_page(json.loads(page([sound.row, OTHER.row])), "").references
    assert is_read(sound.conversation, reference.conversation_id)


# --- recordings ---------------------------------------------------------------------------------------------------

DATA = chunk(b"data", bytes(range(256)) * 2)
WAVES = [
    riff(fmt(), DATA),
    riff(fmt(7, bits=8), chunk(b"LIST", b"INFOodd"), DATA),
    riff(extensible(1, 16), DATA),
    riff(DATA, fmt(channels=2)),
    riff(chunk(b"ds64", bytes(28)), fmt(), DATA, length=0xFFFFFFFF, magic=b"RF64"),
    riff(fmt(), chunk(b"data", bytes(512), length=0xFFFFFFFF), length=0),
]


@fuzzed
@given(st.binary() | st.binary().map(lambda rest: b"RIFF\0\0\0\0WAVE" + rest) | st.sampled_from(WAVES).flatmap(pieces))
def test_no_audio_is_longer_than_its_bytes(body: bytes) -> None:
    found = inspect(io.BytesIO(body), len(body))
    assert (found.audio is not None) or found.fault
    if found.audio is not None and not found.audio.codec.startswith("format_"):
        assert 0 <= found.audio.seconds <= len(body) / (found.audio.sample_rate * found.audio.channels) + 0.0005
        json.dumps(found.audio.model_dump(), allow_nan=False)


@fuzzed
@given(st.sampled_from(WAVES[:4]), st.integers(1, 600))
def test_no_file_that_is_cut_is_sound(wave: bytes, cut: int) -> None:
    body = wave[:-cut]
    assert inspect(io.BytesIO(body), len(body)).fault


# --- answers ------------------------------------------------------------------------------------------------------

header_bytes = st.binary(max_size=40).map(lambda value: value.translate(None, b"\r\n\0"))
LINK_PARTS = [
    *(b"https:", b"http:", b"mailto:", b"javascript:", b"file:", b"//", b"/", b"..", b"?", b"#", b"%", b"%2F", b"@"),
    *(b":", b"8443", b"99999", b"[", b"]", b"[::1]", b"10.0.0.1", b"169.254.169.254", b"localhost", b"example.net"),
    *(b".", b"a" * 64, b"\xff", b"\xc3\xa9", b"xn--", b"xn--a", b" ", b"\t", b"\\", b"1", b"0x7f", b"::ffff:127.0.0.1"),
]
links = header_bytes | st.lists(st.sampled_from(LINK_PARTS), max_size=8).map(b"".join)


class Content(httpx.SyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Any:
        yield self._content


def ask(status: int, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> list[httpx.Request]:
    """Ask for a recording that is answered like this; give what was asked of the links."""
    asked: list[httpx.Request] = []

    def follow(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, stream=Content(b"RIFF"))

    with (
        FormantClient(
            "https://api.example.com",
            KEY,
            transport=httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, stream=Content(body))),
            redirect_transport=httpx.MockTransport(follow),
            clock=lambda: 0.0,
            sleep=lambda _: None,
        ) as client,
        only(ApiError),
    ):
        client.recording(SICK, io.BytesIO())
    return asked


@fuzzed
@given(st.sampled_from([301, 302, 303, 307, 308]), links)
@example(302, b"javascript:alert(1)")
@example(302, b"https://[::1]/")
@example(301, b"//xn--")
def test_no_location_leads_anywhere_but_to_the_internet_by_https(status: int, location: bytes) -> None:
    for request in ask(status, [(b"location", location)]):
        assert request.url.scheme == "https"
        assert request.url.host not in {"::1", "10.0.0.1", "169.254.169.254", "localhost", "::ffff:127.0.0.1"}
        assert "authorization" not in request.headers


NAMES = [b"content-length", b"content-encoding", b"content-type", b"transfer-encoding", b"location", b"set-cookie"]


@fuzzed
@given(
    st.sampled_from([200, 204, 206, 302, 400, 401, 404, 500]) | st.integers(200, 599).filter(lambda one: one != 429),
    st.lists(st.tuples(st.sampled_from(NAMES), header_bytes | st.sampled_from([b"gzip", b"deflate", b"7"]))),
    st.binary(max_size=100),
)
def test_any_answer_is_one_or_a_typed_error(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    ask(status, headers, body)


TIMES = ["Wed, 18 Mar 2026 20:56:30 GMT", "2026-03-18T20:54:00+00:00", "9999-12-31T23:59:59-23:59", "-1", "1e9", "60"]
times = st.text(max_size=30) | st.sampled_from(TIMES) | st.integers().map(str) | st.datetimes().map(str)


@fuzzed
@given(times, times, times, times, times)
def test_no_header_closes_the_window_for_longer_than_is_sane(
    date: str, after: str, reset: str, limit: str, remaining: str
) -> None:
    headers = {
        "date": date,
        "retry-after": after,
        "x-ratelimit-reset": reset,
        "x-ratelimit-limit": limit,
        "x-ratelimit-remaining": remaining,
    }
    assert 0 <= (retry_after(headers, SEEN) or 0) <= ABSURD
    told = RateLimit.told(headers, SEEN)
    assert told.resets_at is None or 0 < told.seconds_left <= ABSURD

"""The corpus: one small file for each bad input, which says what the API serves and how that must end.

    why: Python's own parser takes it; the bytes are kept as they are.
    conversation:
      body: {data: {duration_seconds: .nan}}
    expect: archived

What is served is named by `list`, `conversation`, `recording` or `link` (where a redirect leads to); what is not named
is sound. Each is an answer (`status`, `headers`, `body`, `encoding`) or a list of answers, which come one after the
other, the last one for ever. `row` changes the conversation's row in the list for good.

A body is text, in which `$wav` and the other names of `Sound.words` stand for what is sound; a list of bodies, one
after the other; or one of `Maker`'s methods with its argument, like `{repeat: ["[", 100000]}`.

`wire` holds what a real socket sends for the payload that `payload` names, as replies of steps: bytes; `reset`; `wait`
until the client has gone; or `{drip: [bytes, seconds between two]}`.

`expect` is `archived`, `pending` with its reason, or `error` with its type. `mended` is how it ends once the source is
sound again: `archived` where nothing else is said.
"""

import base64
import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.test_wav import chunk, fmt, riff

FOLDER = Path(__file__).parent / "cases"
KEY, PHONE = "canary-key-c0ffee", "+919876543210"
PHRASE, SIGNATURE = "canary words of a transcript", "canary-signature-beef"
CANARIES = (KEY, PHONE, PHRASE, SIGNATURE)
LINK = f"https://files.example.net/r.wav?X-Sig={SIGNATURE}"
HEALTHY, SICK = "healthy_1", "sick_1"
#: 2026-03-20 10:00 UTC, two hours before the clock of the tests.
START = 1774000800000


@dataclass(frozen=True)
class Answer:
    """One answer of HTTP; `body` is what a client should find in it, `sent` is what is on the wire."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    sent: bytes = b""


@dataclass(frozen=True)
class Step:
    """What is done on a connection: `send`; `drip`, a byte at a time; `reset`; `wait` until the client has gone."""

    verb: str
    content: bytes = b""
    pause: float = 0


@dataclass(frozen=True)
class Sound:
    """A conversation as a sound API serves it."""

    row: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        return {
            "agent_id": 7,
            "contact_number": PHONE,
            "conversation_id": self.row["conversation_id"],
            "duration_seconds": 1,
            "results": {"paid": True},
            "status": "completed",
            "transcript": [{"role": "agent", "message": PHRASE}],
        }

    @property
    def conversation(self) -> bytes:
        return json.dumps({"data": self.data}).encode()

    @property
    def recording(self) -> bytes:
        return riff(fmt(), chunk(b"data", json.dumps(self.row["conversation_id"]).encode() * 2 + bytes(16000)))

    @property
    def words(self) -> dict[str, bytes]:
        return {
            "$conversation": self.conversation,
            "$data": json.dumps(self.data).encode(),
            "$row": json.dumps(self.row).encode(),
            "$other": json.dumps(OTHER.row).encode(),
            "$wav": self.recording,
            "$link": LINK.encode(),
            "$phone": PHONE.encode(),
            "$phrase": PHRASE.encode(),
        }


def row(**changes: Any) -> dict[str, Any]:
    sound = {
        "agent_id": 7,
        "contact_number": PHONE,
        "conversation_id": SICK,
        "duration_seconds": 1,
        "end_timestamp": START + 1000,
        "start_timestamp": START,
        "status": "completed",
    }
    return sound | changes


OTHER = Sound(row(conversation_id=HEALTHY))


def page(rows: list[dict[str, Any]], **changes: Any) -> bytes:
    return json.dumps({"data": rows, "has_more": False, "total": len(rows)} | changes).encode()


class Maker:
    """Makes bytes of what a file says: each method is a word of its language."""

    def __init__(self, sound: Sound) -> None:
        self._sound = sound

    def __call__(self, said: Any) -> bytes:
        if isinstance(said, list):
            return b"".join(map(self, said))
        if isinstance(said, dict):
            ((name, argument),) = said.items()
            made: bytes = getattr(self, name)(argument)
            return made
        text: bytes = said.encode()
        for word, stands_for in self._sound.words.items():
            text = text.replace(word.encode(), stands_for)
        return text

    def repeat(self, said: Any) -> bytes:
        return self(said[0]) * int(said[1])

    def cut(self, said: Any) -> bytes:
        """The first so many bytes, or all but so many."""
        return self(said[0])[: said[1]]

    def chunks(self, said: list[Any]) -> bytes:
        """Pieces of a chunked body, without its end."""
        pieces = map(self, said)
        return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)

    def hex(self, said: str) -> bytes:
        return bytes.fromhex(said)

    def base64(self, said: str) -> bytes:
        return base64.b64decode(said)

    def gzip(self, said: Any) -> bytes:
        return gzip.compress(self(said), mtime=0)

    def zlib(self, said: Any) -> bytes:
        return zlib.compress(self(said))

    def utf_16(self, said: Any) -> bytes:
        return self(said).decode().encode("utf-16")

    def data(self, changes: dict[str, Any]) -> bytes:
        """The conversation's body with these changes."""
        return json.dumps({"data": self._sound.data | changes}).encode()

    def page(self, changes: dict[str, Any]) -> bytes:
        """The list's page with these changes."""
        return page([self._sound.row, OTHER.row], **changes)

    def rows(self, said: list[dict[str, Any]]) -> bytes:
        """A page of the conversation's row, changed in several ways, and the healthy one."""
        return page([*(self._sound.row | changes for changes in said), OTHER.row])

    def riff(self, said: dict[str, Any]) -> bytes:
        return riff(
            *map(self, said["chunks"]), length=said.get("length"), magic=said.get("magic", "RIFF").encode("ascii")
        )

    def chunk(self, said: dict[str, Any]) -> bytes:
        content = self(said.get("content", ""))
        return chunk(said["name"].encode(), content, length=said.get("length"), pad=said.get("pad", True))

    def fmt(self, said: dict[str, Any]) -> bytes:
        return fmt(**(said | {"extra": self(said.get("extra", ""))}))


def _longer(value: Any) -> Any:
    """Spell out a row's `{repeat: [x, 5000]}`."""
    return value["repeat"][0] * value["repeat"][1] if isinstance(value, dict) and "repeat" in value else value


_ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
}
_WORDS = {
    *("why", "list", "conversation", "recording", "link", "wire", "payload", "row", "base", "expect", "mended"),
    *("folder", "remark", "audio", "links", "complete", "peak", "seconds"),
}


@dataclass(frozen=True)
class Case:
    """One file of the corpus."""

    path: Path

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    @cached_property
    def said(self) -> dict[str, Any]:
        said: dict[str, Any] = yaml.safe_load(self.path.read_text())
        assert not said.keys() - _WORDS, "a word that nobody reads"
        assert said["why"]
        return said

    @property
    def is_of_the_wire(self) -> bool:
        return self.path.parent.name == "wire"

    @cached_property
    def sound(self) -> Sound:
        changes = self.said.get("row", {})
        return Sound(row(**{name: _longer(value) for name, value in changes.items()}))

    @cached_property
    def make(self) -> Maker:
        return Maker(self.sound)

    @cached_property
    def replies(self) -> list[list[Step]]:
        """What a socket sends for the payload, one reply for each connection, the last one for ever."""
        return [[self._step(step) for step in reply] for reply in self.said["wire"]]

    def _step(self, said: Any) -> Step:
        if said in ("reset", "wait"):
            return Step(said)
        if isinstance(said, dict) and "drip" in said:
            content, pause = said["drip"]
            return Step("drip", self.make(content), pause)
        return Step("send", self.make(said))

    @cached_property
    def answers(self) -> dict[str, list[Answer]]:
        """What is served, by its name; sound where the file says nothing."""
        sound = {
            "list": page([self.sound.row, OTHER.row]),
            "conversation": self.sound.conversation,
            "recording": self.sound.recording,
            "link": self.sound.recording,
        }
        return {name: self._answers(name, body) for name, body in sound.items()}

    def _answers(self, name: str, sound: bytes) -> list[Answer]:
        said = self.said.get(name, {})
        return [self._answer(one, sound) for one in (said if isinstance(said, list) else [said])]

    def _answer(self, said: dict[str, Any], sound: bytes) -> Answer:
        assert not said.keys() - {"status", "headers", "body", "encoding"}
        body = self.make(said["body"]) if "body" in said else sound
        headers = {name: self.make(str(value)).decode() for name, value in said.get("headers", {}).items()}
        if encoding := said.get("encoding"):
            headers["Content-Encoding"] = encoding
        sent = _ENCODINGS[encoding](body) if encoding else body
        return Answer(said.get("status", 200), headers, body, sent)


CASES = [Case(path) for path in sorted(FOLDER.rglob("*.yaml"))]

"""`python -m flows.archive` as a process that kills itself at a named point, the n-th time it gets there.

`TORTURE_POINT=record-linked:3` names the point; without it, the process is the flow and nothing else. The seams are the
store's `link` and `fsync` and the client's `transport`.
"""

import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO, cast

import httpx

from formant_archive import cli
from formant_archive.client import FormantClient
from formant_archive.settings import load_settings
from formant_archive.stores import PLAIN, Care
from formant_archive.stores.directory import DirectoryStore

#: What can be killed at, in the order in which a run gets there.
POINTS = (
    "before-first-page",
    "after-page",
    "mid-recording",
    "mid-write",
    "payload-written",
    "payload-flushed",
    "payload-linked",
    "between-transcript-and-recording",
    "between-recording-and-transcript",
    "record-flushed",
    "record-linked",
    "before-part",
    "between-part-and-manifest",
    "manifest-flushed",
    "manifest-linked",
    "committed",
)
#: Those of them that every run with something to do gets to several times.
OFTEN = {
    *("mid-recording", "mid-write", "payload-written", "payload-flushed", "payload-linked"),
    *("record-flushed", "record-linked", "between-part-and-manifest"),
}
#: Seconds that a body waits for a recording to be stored first, where that is the point: threads seldom come to it.
HELD_BACK = 5
Death = Callable[[], None]
KINDS = {"conversation.json": "payload", "recording.wav": "payload", "record.json": "record"}


def kind_of(key: str) -> str:
    """Name what lies under a key: a payload, a record, a manifest or a part of one."""
    if key.startswith("manifests/"):
        return "part" if key.startswith("manifests/parts/") else "manifest"
    return KINDS.get(key.rpartition("/")[2], "unknown")


class Doom:
    """Kills this process when it has come to a point so many times."""

    def __init__(self, order: str) -> None:
        self.point, _, times = order.partition(":")
        self._left = int(times or 1)
        self._lock = threading.Lock()

    def at(self, point: str) -> None:
        if point != self.point:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class MortalStore(DirectoryStore):
    """A directory in whose every step the process can die."""

    def __init__(self, path: str, doom: Doom) -> None:
        super().__init__(path, link=self._mortal_link, fsync=self._mortal_fsync)
        self._doom = doom
        self._folder = Path(path)
        self._now = threading.local()
        self._has_recording = threading.Event()

    def put(self, key: str, body: bytes | BinaryIO, *, sha256: str, care: Care = PLAIN) -> bool:
        kind = kind_of(key)
        self._now.kind = kind
        if kind == "part":
            self._doom.at("before-part")
        if key.endswith("/conversation.json") and self._doom.point == "between-recording-and-transcript":
            self._has_recording.wait(HELD_BACK)
        mortal = body if isinstance(body, bytes) else cast(BinaryIO, MortalFile(body, self._doom))
        created = super().put(key, mortal, sha256=sha256, care=care)
        if kind == "part":
            self._doom.at("between-part-and-manifest")
        if kind == "manifest":
            self._doom.at("committed")
        self._at_half_a_conversation(key)
        return created

    def _at_half_a_conversation(self, key: str) -> None:
        folder, _, name = key.rpartition("/")
        if name == "conversation.json" and not (self._folder / folder / "recording.wav").exists():
            self._doom.at("between-transcript-and-recording")
        if name == "recording.wav" and not (self._folder / folder / "conversation.json").exists():
            self._doom.at("between-recording-and-transcript")
            self._has_recording.set()

    def _mortal_fsync(self, descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            self._doom.at(f"{self._now.kind}-written")
        os.fsync(descriptor)

    def _mortal_link(self, source: Path, target: Path) -> None:
        self._doom.at(f"{self._now.kind}-flushed")
        os.link(source, target)
        self._doom.at(f"{self._now.kind}-linked")


class MortalFile(BufferedIOBase):
    """A recording that is stored a little at a time, and in between the process can die."""

    def __init__(self, body: BinaryIO, doom: Doom) -> None:
        self._body = body
        self._doom = doom

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._body.seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        if self._body.tell():
            self._doom.at("mid-write")
        return self._body.read(4096)


class MortalWire(httpx.HTTPTransport):
    """A connection in the middle of whose answers the process can die."""

    def __init__(self, doom: Doom) -> None:
        super().__init__()
        self._doom = doom

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        is_list = request.url.path == "/v1/conversations"
        if is_list:
            self._doom.at("before-first-page")
        response = super().handle_request(request)
        if is_list:
            response.stream = MortalBody(response, last=lambda: self._doom.at("after-page"))
        if request.url.path.endswith("/recording"):
            response.stream = MortalBody(response, each=lambda: self._doom.at("mid-recording"))
        return response


class MortalBody(httpx.SyncByteStream):
    """A body after each of whose chunks, or after the last, the process can die."""

    def __init__(self, response: httpx.Response, *, each: Death = lambda: None, last: Death = lambda: None) -> None:
        assert isinstance(response.stream, httpx.SyncByteStream)
        self._stream = response.stream
        self._each, self._last = each, last

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            yield chunk
            self._each()
        self._last()

    def close(self) -> None:
        self._stream.close()


def main() -> None:
    """Run the flow as `python -m flows.archive` does, over a store and a wire that are mortal."""
    # Not at the top: whoever only wants the points' names must not load Prefect.
    import flows.archive
    from tasks import connections

    if order := os.environ.get("TORTURE_POINT"):
        settings, doom = load_settings(), Doom(order)
        assert settings.formant_api_key is not None
        store = MortalStore(settings.archive_url, doom)
        key = settings.formant_api_key.get_secret_value()
        client = FormantClient(settings.formant_base_url, key, transport=MortalWire(doom))
        connections.store = lambda: store
        connections.client = lambda: client
    cli.run_function(flows.archive.main, name="python -m flows.archive")


if __name__ == "__main__":
    main()

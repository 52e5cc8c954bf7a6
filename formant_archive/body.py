"""The body of one HTTP answer: decoded, counted against its length, capped, and in time.

Nobody may be trusted to send what was asked for: a body can be cut, drip for hours, be larger than the disk, or
be a kilobyte that inflates to a gigabyte. Memory stays within a chunk whatever comes. This module knows no httpx: it is
given raw chunks as they come from the wire.
"""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from formant_archive.errors import BadAnswer
from formant_archive.pacing import whole_number
from formant_archive.patience import Interrupted

#: Bytes that an inflater gives at once.
CHUNK = 256 * 1024

# zlib's word for "look at the header: gzip or zlib".
_EITHER = 32 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Body:
    """A body that is still on the wire.

    Attributes:
        raw: Its chunks as they come, still encoded.
        headers: The answer's headers, found by their names in lower case.
        host: Who sends it: all that an error says of the URL.
        clock: Monotonic seconds.
        deadline: By that clock; a chunk that comes later ends the attempt.
    """

    raw: Iterator[bytes]
    headers: Mapping[str, str]
    host: str
    clock: Callable[[], float]
    deadline: float

    def read(self, cap: int) -> bytes:
        """Read all of it, `cap` bytes at most; errors as in `chunks`."""
        return b"".join(self.chunks(cap))

    def json(self, cap: int) -> object:
        """Read it as JSON; None where it is none. Errors as in `chunks`."""
        text = self.read(cap)
        try:
            payload: object = json.loads(text)
        # Dropped here, and nothing is raised in its place: the parser's error holds the text.
        except (ValueError, RecursionError):
            return None
        return payload

    def chunks(self, cap: int) -> Iterator[bytes]:
        """Yield the decoded body.

        Raises:
            BadAnswer: It is larger than `cap` bytes, or encoded in a way that nobody asked for.
            Interrupted: It is cut off, or too slow.
        """
        size = 0
        for chunk in self._decoded():
            size += len(chunk)
            if size > cap:
                raise BadAnswer(f"{self.host} sent a body larger than {cap} bytes")
            yield chunk

    def _decoded(self) -> Iterator[bytes]:
        encoding = self.headers.get("content-encoding", "").strip().lower()
        if encoding in ("", "identity"):
            return self._arriving()
        if encoding in ("gzip", "x-gzip", "deflate"):
            return self._inflated()
        raise BadAnswer(f"{self.host} sent a body in an encoding that was not asked for")

    def _arriving(self) -> Iterator[bytes]:
        received = 0
        for chunk in self.raw:
            if self.clock() > self.deadline:
                raise Interrupted(f"{self.host} sent its body too slowly")
            received += len(chunk)
            yield chunk
        if whole_number(self.headers.get("content-length")) not in (None, received):
            raise Interrupted(f"{self.host} sent a body of another length than it announced")

    def _inflated(self) -> Iterator[bytes]:
        inflater = zlib.decompressobj(_EITHER)
        for piece in self._arriving():
            yield from self._inflate(inflater, piece)
        if not inflater.eof:
            raise Interrupted(f"{self.host} sent a compressed body that is cut off")

    def _inflate(self, inflater: "zlib._Decompress", piece: bytes) -> Iterator[bytes]:
        while piece:
            yield self._step(inflater, piece)
            piece = inflater.unconsumed_tail

    def _step(self, inflater: "zlib._Decompress", piece: bytes) -> bytes:
        try:
            chunk = inflater.decompress(piece, CHUNK)
        except zlib.error:
            chunk = None
        if chunk is None or inflater.unused_data:
            raise BadAnswer(f"{self.host} sent a body that is not compressed as it says")
        return chunk

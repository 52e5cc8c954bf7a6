"""What a RIFF/WAVE file says of itself, and whether it keeps its word.

Python's own `wave` refuses the codecs that telephones use and believes a header whose audio is cut off. This walker
reads headers only, skips all else by seeking, and says what is wrong in a word; on no bytes whatever does it raise.

    empty           no byte
    not_wav         something else: HTML, JSON, MP3, …
    truncated       a chunk, or the length that RIFF gives, goes beyond the end of the file
    no_format       no `fmt ` chunk, or one that describes nothing
    no_audio        no data, or data of no length
    unknown_codec   neither PCM, nor float, nor µ-law, nor A-law
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from formant_archive.records import Audio

#: Chunks that are looked at; a telephone call has three or four.
MOST_CHUNKS = 1000

_WIDE = (b"RF64", b"BW64")
# A length that was not known when the header was written; zero is used for it as well.
_STREAMED = 0xFFFFFFFF
_EXTENSIBLE = 0xFFFE
# What follows the format's number in a GUID that stands for it.
_GUID_END = bytes.fromhex("0000 0000 1000 8000 00aa 0038 9b71")
_CODECS = {
    (1, 8): "pcm_u8",
    (1, 16): "pcm_s16le",
    (1, 24): "pcm_s24le",
    (1, 32): "pcm_s32le",
    (3, 32): "pcm_f32le",
    (3, 64): "pcm_f64le",
    (6, 8): "pcm_alaw",
    (7, 8): "pcm_mulaw",
}
# A-law and µ-law take a byte, whatever the header says of the bits that they stand for.
_COMPANDED = (6, 7)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found.

    Attributes:
        audio: What the header says, with the seconds that are really there. Given wherever the format can be read,
            also with a fault: a recording that is cut off is audio all the same.
        remarks: Oddities that leave the audio whole.
        fault: None for a sound file, else a word of the table above.
    """

    audio: Audio | None = None
    remarks: tuple[str, ...] = ()
    fault: str | None = None


def inspect(file: BinaryIO, size: int) -> Inspection:
    """Walk through a file's chunks.

    Args:
        file: Seekable; it is left at no place in particular.
        size: Its length in bytes.
    """
    if size <= 0:
        return Inspection(fault="empty")
    head = _read(file, 0, 12)
    if head[:4] not in (b"RIFF", *_WIDE) or not b"WAVE".startswith(head[8:]):
        return Inspection(fault="not_wav")
    wave = _walk(file, size, head)
    return Inspection(_audio(wave), _remarks(wave), _fault(wave))


@dataclass(frozen=True, slots=True)
class _Format:
    """A `fmt ` chunk."""

    tag: int
    channels: int
    rate: int
    byte_rate: int
    align: int
    bits: int

    @property
    def codec(self) -> str | None:
        return _CODECS.get((self.tag, self._width))

    @property
    def _width(self) -> int:
        return 8 if self.tag in _COMPANDED else self.bits

    @property
    def frame(self) -> int:
        """Bytes of one sample of all channels; headers get it wrong, so it is computed where that can be done."""
        return self.channels * self._width // 8 if self.codec else self.align

    @property
    def pace(self) -> int:
        """Bytes a second."""
        return self.rate * self.frame if self.codec else self.byte_rate


@dataclass(slots=True)
class _Wave:
    """What the walk has found.

    Attributes:
        size: The file's length in bytes.
        riff_end: Where the file ends by its own account; None where its writer did not know.
        reached: The end of the last chunk that was looked at, without its padding; it can be beyond the file's.
        format: What the audio is.
        data: How many bytes of audio are there; None before the data chunk.
        is_streamed: Whether the data chunk's writer did not know its length.
        wide_data: The data's length as RF64 gives it; 0 where it does not.
    """

    size: int
    riff_end: int | None = None
    reached: int = 12
    format: _Format | None = None
    data: int | None = None
    is_streamed: bool = False
    wide_data: int = 0


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def _walk(file: BinaryIO, size: int, head: bytes) -> _Wave:
    wave = _Wave(size, riff_end=_riff_end(int.from_bytes(head[4:8], "little"), _STREAMED))
    position = 12
    for _ in range(MOST_CHUNKS):
        if position >= size or (wave.format and wave.data is not None):
            break
        wave.reached = _take_chunk(wave, file, position)
        position = wave.reached + wave.reached % 2
    return wave


def _riff_end(length: int, unknown: int) -> int | None:
    return None if length in (0, unknown) else 8 + length


def _take_chunk(wave: _Wave, file: BinaryIO, position: int) -> int:
    """Look at the chunk at a position; return where it ends."""
    header = _read(file, position, 8)
    if len(header) < 8:
        return position + 8
    name, length = struct.unpack("<4sI", header)
    start = position + 8
    if name == b"data" and wave.data is None:
        return _take_data(wave, file, start, length)
    if name == b"fmt " and wave.format is None:
        wave.format = _format(_read(file, start, min(length, 40)))
    elif name == b"ds64" and wave.format is None:
        _take_wide_lengths(wave, _read(file, start, min(length, 16)))
    return start + int(length)


def _take_wide_lengths(wave: _Wave, content: bytes) -> None:
    if len(content) == 16 and wave.riff_end is None:
        riff, data = struct.unpack("<QQ", content)
        wave.riff_end = _riff_end(riff, 2**64 - 1)
        wave.wide_data = 0 if data == 2**64 - 1 else data


def _take_data(wave: _Wave, file: BinaryIO, start: int, length: int) -> int:
    there = max(0, wave.size - start)
    if length == _STREAMED and wave.wide_data:
        length = wave.wide_data
    # An empty data chunk before another chunk is empty; before anything else, nobody has come back to fill it in.
    elif length == _STREAMED or (length == 0 and there and not _is_chunk(file, start, wave.size)):
        wave.is_streamed = True
        length = there
    wave.data = min(length, there)
    return start + length


def _is_chunk(file: BinaryIO, position: int, size: int) -> bool:
    header = _read(file, position, 8)
    is_named = len(header) == 8 and all(0x20 <= letter < 0x7F for letter in header[:4])
    return is_named and position + 8 + int.from_bytes(header[4:], "little") <= size


def _format(content: bytes) -> _Format | None:
    """Read a `fmt ` chunk; None where it is cut off or describes nothing."""
    if len(content) < 16:
        return None
    tag, channels, rate, byte_rate, align, bits = struct.unpack("<HHIIHH", content[:16])
    if tag == _EXTENSIBLE and content[26:] == _GUID_END:
        tag = int.from_bytes(content[24:26], "little")
    return _Format(tag, channels, rate, byte_rate, align, bits) if channels and rate else None


def _audio(wave: _Wave) -> Audio | None:
    if wave.format is None:
        return None
    return Audio(
        seconds=round((wave.data or 0) / wave.format.pace, 3) if wave.format.pace else 0.0,
        sample_rate=wave.format.rate,
        channels=wave.format.channels,
        codec=wave.format.codec or f"format_{wave.format.tag}",
    )


def _fault(wave: _Wave) -> str | None:
    # A last byte of padding that was counted and not written is missed by nobody.
    missing_pad = wave.reached % 2 if wave.reached == wave.size else 0
    if wave.reached > wave.size or (wave.riff_end or 0) > wave.size + missing_pad:
        return "truncated"
    if wave.format is None:
        return "no_format"
    if not wave.data:
        return "no_audio"
    return None if wave.format.codec else "unknown_codec"


def _remarks(wave: _Wave) -> tuple[str, ...]:
    layout = wave.format
    known = layout if layout and layout.codec else None
    end = wave.riff_end or wave.size
    after = wave.size - max(end + end % 2, wave.reached + wave.reached % 2)
    remarks = {
        "the RIFF length is not given": wave.riff_end is None,
        "the data length is not given": wave.is_streamed,
        "the RIFF length is shorter than what it holds": end < wave.reached <= wave.size,
        f"{after} bytes after the end of RIFF": after > 0,
        "the block alignment does not fit the format": known and known.align != known.frame,
        "the byte rate does not fit the format": known and known.byte_rate != known.pace,
        "the last sample is cut": layout and layout.frame and (wave.data or 0) % layout.frame,
    }
    return tuple(remark for remark, holds in remarks.items() if holds)

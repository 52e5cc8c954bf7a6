"""The RIFF/WAVE walker against sound files, odd files and no files at all."""

import io
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formant_archive.wav import MOST_CHUNKS, Inspection, inspect

GUID_END = bytes.fromhex("000000001000800000aa00389b71")
UNKNOWN = 0xFFFFFFFF


def chunk(name: bytes, content: bytes, *, length: int | None = None, pad: bool = True) -> bytes:
    padding = b"\0" if pad and len(content) % 2 else b""
    return name + struct.pack("<I", len(content) if length is None else length) + content + padding


def fmt(
    tag: int = 1,
    channels: int = 1,
    rate: int = 8000,
    bits: int = 16,
    *,
    align: int | None = None,
    byte_rate: int | None = None,
    extra: bytes = b"",
) -> bytes:
    align = channels * bits // 8 if align is None else align
    byte_rate = rate * align if byte_rate is None else byte_rate
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, byte_rate, align, bits) + extra)


def extensible(tag: int, bits: int, guid_end: bytes = GUID_END) -> bytes:
    return fmt(0xFFFE, bits=bits, extra=struct.pack("<HHIH", 22, bits, 4, tag) + guid_end)


def riff(*chunks: bytes, length: int | None = None, magic: bytes = b"RIFF") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(body) if length is None else length) + body


def seen(content: bytes) -> Inspection:
    return inspect(io.BytesIO(content), len(content))


def seconds(found: Inspection) -> float:
    assert found.audio is not None
    return found.audio.seconds


SECOND = bytes(16000)
SOUND = riff(fmt(), chunk(b"data", SECOND))


def test_a_plain_file_is_sound_and_measured() -> None:
    found = seen(SOUND)
    assert (found.fault, found.remarks) == (None, ())
    assert found.audio is not None
    assert found.audio.model_dump() == {"seconds": 1.0, "sample_rate": 8000, "channels": 1, "codec": "pcm_s16le"}


@pytest.mark.parametrize(
    ("header", "codec", "length"),
    [
        (fmt(1, bits=8), "pcm_u8", 2.0),
        (fmt(1, bits=24), "pcm_s24le", 0.667),
        (fmt(1, bits=32), "pcm_s32le", 0.5),
        (fmt(3, bits=32), "pcm_f32le", 0.5),
        (fmt(3, bits=64), "pcm_f64le", 0.25),
        (fmt(6, bits=8), "pcm_alaw", 2.0),
        (fmt(7, bits=8), "pcm_mulaw", 2.0),
        (fmt(7, bits=8, extra=b"\0\0"), "pcm_mulaw", 2.0),
        (fmt(7, bits=16, align=1), "pcm_mulaw", 2.0),
        (fmt(1, channels=2), "pcm_s16le", 0.5),
        (extensible(1, 16), "pcm_s16le", 1.0),
        (extensible(7, 8), "pcm_mulaw", 2.0),
    ],
)
def test_the_codecs_of_telephones_are_known(header: bytes, codec: str, length: float) -> None:
    found = seen(riff(header, chunk(b"data", SECOND)))
    assert found.audio is not None
    assert (found.audio.codec, found.audio.seconds, found.fault) == (codec, length, None)


@pytest.mark.parametrize(
    "header",
    [fmt(49, align=65, byte_rate=1625), fmt(1, bits=12), extensible(1, 16, b"x" * 14), fmt(0xFFFE)],
)
def test_an_unknown_codec_is_a_fault_but_audio_all_the_same(header: bytes) -> None:
    found = seen(riff(header, chunk(b"data", SECOND)))
    assert found.fault == "unknown_codec"
    assert found.audio is not None
    assert found.audio.codec.startswith("format_")


def test_an_unknown_codec_without_a_byte_rate_has_no_known_length() -> None:
    assert seconds(seen(riff(fmt(49, align=0, byte_rate=0), chunk(b"data", SECOND)))) == 0.0


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "empty"),
        (b"<!doctype html><html>", "not_wav"),
        (b'{"error": {"type": "not_found"}}', "not_wav"),
        (b"ID3\x04" + bytes(200), "not_wav"),
        (b"RIFF\x24\0\0\0AVI " + bytes(50), "not_wav"),
        (b"RI", "not_wav"),
        (b"RIFF", "truncated"),
        (b"RIFF\0\0\0\0WA", "truncated"),
        (riff(chunk(b"data", SECOND)), "no_format"),
        (riff(chunk(b"fmt ", bytes(10)), chunk(b"data", SECOND)), "no_format"),
        (riff(fmt(rate=0), chunk(b"data", SECOND)), "no_format"),
        (riff(fmt(channels=0), chunk(b"data", SECOND)), "no_format"),
        (riff(), "no_format"),
        (riff(fmt()), "no_audio"),
        (riff(fmt(), chunk(b"data", b"")), "no_audio"),
        (riff(fmt(), chunk(b"data", b""), length=UNKNOWN), "no_audio"),
        (riff(fmt(), chunk(b"data", b"", length=UNKNOWN), length=UNKNOWN), "no_audio"),
        (riff(fmt(), chunk(b"data", b""), chunk(b"LIST", b"INFOx")), "no_audio"),
    ],
)
def test_what_is_no_recording_is_named(content: bytes, fault: str) -> None:
    assert seen(content).fault == fault


@pytest.mark.parametrize("cut", [1, 100, 15_999])
def test_cut_data_is_truncated_and_measured_by_what_is_there(cut: int) -> None:
    found = seen(SOUND[:-cut])
    assert found.fault == "truncated"
    assert seconds(found) == round((16000 - cut) / 16000, 3)


@pytest.mark.parametrize("kept", [14, 25, 36, 40, 43])
def test_a_file_cut_in_its_headers_is_truncated(kept: int) -> None:
    assert seen(SOUND[:kept]).fault == "truncated"


@pytest.mark.parametrize(
    "content",
    [
        riff(fmt(), chunk(b"data", SECOND), length=UNKNOWN)[:-1],
        riff(fmt(), length=UNKNOWN) + b"dat",
        riff(fmt(), chunk(b"LIST", bytes(10)), length=UNKNOWN)[:-1],
    ],
    ids=["data", "header", "list"],
)
def test_a_stream_that_is_cut_in_a_chunk_of_known_length_is_truncated(content: bytes) -> None:
    assert seen(content).fault == "truncated"


def test_a_riff_longer_than_the_file_is_truncated_though_its_data_is_whole() -> None:
    whole = riff(fmt(), chunk(b"data", SECOND), chunk(b"LIST", bytes(20)))
    assert seen(whole).fault is None
    assert seen(whole[:-10]).fault == "truncated"


@pytest.mark.parametrize("data_length", [0, UNKNOWN])
@pytest.mark.parametrize("riff_length", [0, UNKNOWN])
def test_lengths_of_a_stream_are_tolerated_with_a_remark(data_length: int, riff_length: int) -> None:
    found = seen(riff(fmt(), chunk(b"data", SECOND, length=data_length), length=riff_length))
    assert found.fault is None
    assert seconds(found) == 1.0
    assert found.remarks == ("the RIFF length is not given", "the data length is not given")


def test_a_header_that_was_never_filled_in_is_a_stream() -> None:
    found = seen(riff(fmt(), chunk(b"data", SECOND, length=0), length=36))
    assert (found.fault, seconds(found)) == (None, 1.0)
    assert "the RIFF length is shorter than what it holds" in found.remarks


def test_a_list_before_the_format_is_skipped() -> None:
    found = seen(riff(chunk(b"LIST", b"INFOodd"), fmt(), chunk(b"fact", bytes(4)), chunk(b"data", SECOND)))
    assert (found.fault, found.remarks, seconds(found)) == (None, (), 1.0)


@pytest.mark.parametrize("pad", [True, False])
def test_an_odd_length_may_lack_its_padding_at_the_end(pad: bool) -> None:
    data = chunk(b"data", bytes(8001), pad=pad)
    body = len(b"WAVE" + fmt(7, bits=8) + data)
    for length in (body, body + (not pad)):
        found = seen(riff(fmt(7, bits=8), data, length=length))
        assert (found.fault, found.remarks) == (None, ())


def wide(riff_length: int, data_length: int, content: bytes = SECOND) -> bytes:
    sizes = chunk(b"ds64", struct.pack("<QQQI", riff_length, data_length, 0, 0))
    return riff(sizes, fmt(), chunk(b"data", content, length=UNKNOWN), length=UNKNOWN, magic=b"RF64")


def test_rf64_is_read_by_its_wide_lengths() -> None:
    whole = wide(len(wide(0, 0)) - 8, 16000)
    found = seen(whole)
    assert (found.fault, found.remarks, seconds(found)) == (None, (), 1.0)
    assert seen(whole[:-1000]).fault == "truncated"


@pytest.mark.parametrize("unknown", [0, 2**64 - 1])
def test_rf64_without_its_wide_lengths_is_a_stream(unknown: int) -> None:
    found = seen(wide(unknown, unknown))
    assert (found.fault, seconds(found)) == (None, 1.0)
    assert "the data length is not given" in found.remarks


def test_junk_after_the_end_is_remarked() -> None:
    assert seen(SOUND + b"junk!").remarks == ("5 bytes after the end of RIFF",)


def test_a_wrong_alignment_is_remarked_and_not_believed() -> None:
    found = seen(riff(fmt(align=9, byte_rate=1), chunk(b"data", SECOND)))
    assert seconds(found) == 1.0
    assert found.remarks == (
        "the block alignment does not fit the format",
        "the byte rate does not fit the format",
    )


def test_a_part_of_a_sample_at_the_end_is_remarked() -> None:
    assert seen(riff(fmt(), chunk(b"data", SECOND + b"\0"))).remarks == ("the last sample is cut",)


class Counting(io.BytesIO):
    """Counts what is read of it."""

    taken = 0
    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.reads += 1
        self.taken += len(content)
        return content


@pytest.mark.parametrize("content", [SOUND, riff(chunk(b"LIST", bytes(10**6)), fmt(), chunk(b"data", bytes(10**6)))])
def test_only_headers_are_read(content: bytes) -> None:
    file = Counting(content)
    inspect(file, len(content))
    assert file.taken < 100


def test_a_file_of_nothing_but_chunks_is_bounded_work() -> None:
    content = riff(*[chunk(b"JUNK", b"")] * 5000)
    file = Counting(content)
    assert inspect(file, len(content)).fault == "no_format"
    assert file.reads < MOST_CHUNKS + 10


@given(st.binary(max_size=200))
def test_no_bytes_raise(content: bytes) -> None:
    seen(content)
    seen(b"RIFF\xff\xff\xff\xffWAVE" + content)
    seen(b"RF64\xff\xff\xff\xffWAVE" + content)


WHOLES = [
    riff(chunk(b"LIST", b"abc"), extensible(7, 8), chunk(b"fact", bytes(4)), chunk(b"data", bytes(33))),
    wide(len(wide(0, 0, bytes(32))) - 8, 32, bytes(32)),
]


@settings(max_examples=500)
@given(
    st.sampled_from(WHOLES),
    st.lists(st.tuples(st.integers(0, 140), st.sampled_from([0, 1, 0x7F, 0x80, 0xFE, 0xFF])), max_size=12),
    st.integers(0, 160),
    st.integers(-2, 10**12),
)
def test_no_mutated_file_raises(whole: bytes, changes: list[Any], kept: int, size: int) -> None:
    content = bytearray(whole)
    for place, value in changes:
        content[place % len(content)] = value
    found = seen(bytes(content[:kept]))
    assert found.audio is None or 0 <= found.audio.seconds < 10**9
    inspect(io.BytesIO(bytes(content)), size)

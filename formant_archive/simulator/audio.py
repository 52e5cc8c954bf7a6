"""Recordings that sound like a call: cut from one long track, so that making one is no more than copying."""

import array
import functools
import math
import random
import struct
import zlib

from formant_archive.simulator.dice import dice

SAMPLE_RATE = 8000
SAMPLE_BYTES = 2
TRACK_SECONDS = 60

_FORMAT = struct.pack(
    "<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLE_RATE, SAMPLE_RATE * SAMPLE_BYTES, SAMPLE_BYTES, 8 * SAMPLE_BYTES
)


def recording(seed: int, name: str, seconds: float) -> bytes:
    """Makes the WAV file of one conversation: 16-bit PCM, 8 kHz, mono.

    Args:
        seed: The simulator's seed: one voice track per seed.
        name: The conversation's id. It chooses where in the track the recording begins, and stands in the
            file as a comment (`LIST`/`INFO`/`ICMT`), so that no two conversations have the same bytes.
        seconds: The length of the audio.
    """
    label = name.encode()
    comment = _chunk(b"LIST", b"INFO" + _chunk(b"ICMT", label + b"\0"))
    sound = _cut(track(seed), zlib.crc32(label), round(seconds * SAMPLE_RATE) * SAMPLE_BYTES)
    size = sum(map(len, sound))
    riff = b"WAVE" + _FORMAT + comment + struct.pack("<4sI", b"data", size)
    return b"".join([struct.pack("<4sI", b"RIFF", len(riff) + size), riff, *sound])


@functools.lru_cache(maxsize=8)
def track(seed: int) -> bytes:
    """Speaks for `TRACK_SECONDS`: words of a few syllables, and pauses. Made once for a seed."""
    random_numbers = dice(seed, "track")
    syllables = [_syllable(random_numbers) for _ in range(32)]
    samples = array.array("h")
    while len(samples) < TRACK_SECONDS * SAMPLE_RATE:
        for syllable in random_numbers.choices(syllables, k=random_numbers.randint(1, 4)):
            samples.extend(syllable)
        samples.extend([0] * random_numbers.randint(600, 2400))
    return _little_endian(samples[: TRACK_SECONDS * SAMPLE_RATE])


def _syllable(random_numbers: random.Random) -> "array.array[int]":
    """A burst of noise, as of a consonant, then a vowel: a pitch and two overtones, swelling and fading."""
    burst = [random_numbers.randint(-1500, 1500) for _ in range(random_numbers.randint(80, 300))]
    length = random_numbers.randint(900, 1800)
    pitch = 2 * math.pi * random_numbers.uniform(100, 220) / SAMPLE_RATE
    low, high = random_numbers.randint(2, 5), random_numbers.randint(6, 14)
    vowel = (
        math.sin(math.pi * at / length)
        * (5000 * math.sin(pitch * at) + 3000 * math.sin(pitch * low * at) + 1200 * math.sin(pitch * high * at))
        for at in range(length)
    )
    return array.array("h", [*burst, *map(int, vowel)])


def _little_endian(samples: "array.array[int]") -> bytes:
    if struct.pack("=H", 1) != struct.pack("<H", 1):
        samples.byteswap()
    return samples.tobytes()


def _cut(sound: bytes, place: int, size: int) -> list[memoryview]:
    """Takes `size` bytes of the endless loop of `sound`, from the sample number `place` on."""
    view = memoryview(sound)
    begin = place * SAMPLE_BYTES % len(sound)
    pieces = []
    while size > 0:
        pieces.append(view[begin : begin + size])
        size -= len(pieces[-1])
        begin = 0
    return pieces


def _chunk(name: bytes, content: bytes) -> bytes:
    padding = b"\0" * (len(content) % 2)
    return struct.pack("<4sI", name, len(content)) + content + padding

"""A small number for each of very many ids: 15 to 30 bytes each, where a dict of the ids takes some two hundred.

An id is known by 64 bits of its hash. Two ids that have them in common are taken for one: with ten million ids, in one
listing of some 350,000, which then says that one conversation is missing.
"""

from array import array
from hashlib import blake2b

#: Places to begin with; doubled whenever two thirds of them are taken.
PLACES = 1024
#: The most that a number can be.
LARGEST = 2**16 - 1


class Notes:
    """Numbers by id; an id that was never noted has the number 0."""

    def __init__(self) -> None:
        self._make(PLACES)

    def __len__(self) -> int:
        """How many ids were noted."""
        return self._taken

    def __getitem__(self, name: str) -> int:
        return self._numbers[self._place(_hash(name))]

    def __setitem__(self, name: str, number: int) -> None:
        if 3 * self._taken >= 2 * len(self._hashes):
            self._grow()
        self._put(_hash(name), number)

    def _make(self, places: int) -> None:
        self._hashes = array("Q", [0]) * places
        self._numbers = array("H", [0]) * places
        self._taken = 0

    def _put(self, hashed: int, number: int) -> None:
        place = self._place(hashed)
        self._taken += not self._hashes[place]
        self._hashes[place], self._numbers[place] = hashed, number

    def _place(self, hashed: int) -> int:
        """Find an id's place, or the free one that it would get."""
        hashes, last = self._hashes, len(self._hashes) - 1
        place = hashed & last
        while hashes[place] not in (0, hashed):
            place = (place + 1) & last
        return place

    def _grow(self) -> None:
        hashes, numbers = self._hashes, self._numbers
        self._make(2 * len(hashes))
        for hashed, number in zip(hashes, numbers, strict=True):
            if hashed:
                self._put(hashed, number)


def _hash(name: str) -> int:
    # Never 0, which stands for a free place.
    return int.from_bytes(blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()) or 1

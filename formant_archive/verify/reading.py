"""Reading what may be anything: whatever lies there is a finding, until it is the store that is gone."""

import hashlib

from formant_archive.errors import StoreError, StoreUnavailable
from formant_archive.findings import Finding
from formant_archive.manifest import Manifest
from formant_archive.records import Record
from formant_archive.stores import Store

#: After so many objects that a store could not give, it is the store that is gone, not objects of it.
PATIENCE = 20
_CHUNK = 1 << 20


class Unreadable:
    """The objects that could not be read."""

    def __init__(self) -> None:
        self._outages = 0

    def finding(self, key: str, fault: StoreError) -> Finding:
        """Make a finding of an object that could not be read.

        Raises:
            StoreError: There have been too many for the store to be there at all.
        """
        self._outages += isinstance(fault, StoreUnavailable)
        if self._outages > PATIENCE:
            raise fault
        return Finding(code="U001", key=key, expected="to be read", found=str(fault))


def is_written_so(one: Manifest | Record, body: bytes) -> bool:
    """Whether a body is the one way to write what was read from it: canonical, documented fields, nothing twice."""
    try:
        return one.body() == body
    except ValueError:
        # NaN and infinity can be read, and are no JSON.
        return False


def weigh(store: Store, key: str) -> tuple[int, str]:
    """Read an object to its last byte; give its size in bytes and its SHA-256, hex.

    Raises:
        ObjectMissing: Nothing is stored under the key.
    """
    hashed, size = hashlib.sha256(), 0
    with store.open(key) as file:
        while chunk := file.read(_CHUNK):
            hashed.update(chunk)
            size += len(chunk)
    return size, hashed.hexdigest()

"""Reading what may be anything: whatever lies there is a finding, until it is the store that is gone."""

from formant_archive.errors import StoreError, StoreUnavailable
from formant_archive.findings import Finding
from formant_archive.manifest import Manifest
from formant_archive.records import Record

#: After so many objects that a store could not give, it is the store that is gone, not objects of it.
PATIENCE = 20


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

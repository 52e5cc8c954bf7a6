"""What every store is and does; the rules are in the package's docstring."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import BinaryIO, Literal, Protocol

from pydantic import BaseModel

_CHUNK = 1 << 20


class Lock(BaseModel, frozen=True):
    """What keeps an object from being deleted, and until when."""

    mode: Literal["GOVERNANCE", "COMPLIANCE"]
    until: datetime

    def covers(self, other: "Lock") -> bool:
        """Whether this one forbids all that the other one forbids."""
        return self.until >= other.until and (self.mode, other.mode) != ("GOVERNANCE", "COMPLIANCE")

    def joined(self, other: "Lock | None") -> "Lock":
        """Give the weakest lock that covers both."""
        if other is None:
            return self
        mode = self.mode if self.mode == other.mode else "COMPLIANCE"
        return Lock(mode=mode, until=max(self.until, other.until))


class Care(BaseModel, frozen=True):
    """How one object is to be kept.

    Attributes:
        lock: None: as the bucket does by itself.
        held: Under a legal hold from its first moment. Where the store knows no such thing, the chain alone says it.
        is_payload: It is a payload: large, seldom read, and so of the storage class that the settings name.
    """

    lock: Lock | None = None
    held: bool = False
    is_payload: bool = False


#: As the bucket does by itself.
PLAIN = Care()


class Terms(BaseModel, frozen=True):
    """What is asked of a bucket for every object that is put there; None: as the bucket does by itself.

    Attributes:
        kms_key_id: The key's id, ARN or alias at KMS.
        bucket_key: Whether S3 may use one data key for many objects, which costs fewer calls to KMS.
        storage_class: Of payloads alone: records and manifests are read by every run.
    """

    kms_key_id: str | None = None
    bucket_key: bool = True
    storage_class: Literal["STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"] | None = None

    @property
    def ask(self) -> bool:
        """Whether anything is asked: a bucket key alone, without a key, asks for nothing."""
        return bool(self.kms_key_id or self.storage_class)


#: Nothing is asked.
NO_TERMS = Terms()


class Stat(BaseModel, frozen=True):
    """What a store says of an object without reading it.

    Attributes:
        key: The object's key, relative to the archive.
        size: Bytes.
        sha256: Hex digest from the object's metadata, as its writer gave it; None where the store keeps none.
        lock: None where there is none.
        held: Whether it is under a legal hold; None where the store knows no such thing.
    """

    key: str
    size: int
    sha256: str | None = None
    lock: Lock | None = None
    held: bool | None = None


class Trace(BaseModel, frozen=True):
    """What a versioned bucket still knows of an object that was overwritten or deleted.

    Attributes:
        key: The object's key, relative to the archive.
        version: The store's own word for the version.
        is_deletion: Whether it is a delete marker; else it is an earlier version.
    """

    key: str
    version: str
    is_deletion: bool


class Store(Protocol):
    """Keys and bytes of one archive."""

    @property
    def url(self) -> str:
        """Where the archive is, as `ARCHIVE_URL` spells it, without secrets."""
        ...

    def put(self, key: str, body: bytes | BinaryIO, *, sha256: str, care: Care = PLAIN) -> bool:
        """Store `body` under `key` unless the key is taken; say whether this call created it.

        Args:
            key: Relative to the archive, `/` between its parts.
            body: Bytes, or a seekable binary file, which is read from its start and left open.
            sha256: Hex digest of the body.
            care: How it is to be kept, where this call creates it.

        Raises:
            StoreRefused: The store denies it, cannot or does not keep it so, or the body is not the one that was
                hashed.
            StoreUnavailable: It may or may not have been stored; put again to know.
        """
        ...

    def get(self, key: str) -> bytes:
        """Read a whole (small) object.

        Raises:
            ObjectMissing: Nothing is stored under the key.
        """
        ...

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Read an object as a stream, from its start.

        Raises:
            ObjectMissing: Nothing is stored under the key.
        """
        ...

    def stat(self, key: str) -> Stat | None:
        """Say what is stored under the key, or None."""
        ...

    def lengthen(self, key: str, lock: Lock) -> None:
        """Lock an object at least so hard and so long. No lock ever becomes weaker.

        Raises:
            StoreRefused: The store cannot lock, denies it, or did not do it.
        """
        ...

    def hold(self, key: str) -> bool:
        """Put an object under a legal hold, which nobody ends here; say whether the store keeps holds.

        Raises:
            ObjectMissing: Nothing is stored under the key.
            StoreRefused: The store denies it.
        """
        ...

    def list(self, prefix: str) -> Iterator[Stat]:
        """Yield the objects whose key starts with `prefix`, in no promised order.

        The prefix ends with `/` or is empty. `sha256`, `lock` and `held` are None in what it yields.
        """
        ...

    def traces(self, prefix: str) -> Iterator[Trace]:
        """Yield what was overwritten or deleted under a prefix, as far as the store keeps versions.

        Raises:
            StoreRefused: It keeps them and denies to list them.
        """
        ...


def check_key(key: str) -> None:
    """Refuse a key that is not one.

    Raises:
        ValueError: A part of it is empty, `.` or `..`, or it holds a NUL.
    """
    if "\0" in key or not {"", ".", ".."}.isdisjoint(key.split("/")):
        raise ValueError(f"not a key: {key!r}")


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that is neither empty nor a key and a `/`.

    Raises:
        ValueError: It is neither.
    """
    if prefix:
        check_key(prefix.removesuffix("/"))
        if not prefix.endswith("/"):
            raise ValueError(f"not a prefix, it ends without '/': {prefix!r}")


def chunks(body: bytes | BinaryIO) -> Iterator[bytes]:
    """Yield a body from its start, a mebibyte at a time; a file is left open."""
    if isinstance(body, bytes):
        yield body
        return
    body.seek(0)
    while chunk := body.read(_CHUNK):
        yield chunk

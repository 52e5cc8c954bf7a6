"""Where the archive's bytes are kept: a few verbs over keys, the same for a bucket and a directory.

A store knows keys and bytes, never conversations. Every store keeps these rules, and one suite
(`tests/stores/test_contract.py`) proves them for each:

- An object is created once, whole or not at all, and never overwritten or deleted.
  There is no verb for either.
- `put` of a key that is taken changes nothing and answers `False`; the caller looks at what is there.
- An object is stored only when its bytes hash to the SHA-256 that came with it.
- Errors are `StoreError`s, also in the middle of a stream.
- Every method may be called from many threads at once.
- A key is one or more parts with `/` between them, none of them empty, `.` or `..`. Any other is a
  `ValueError`: it is a mistake of ours, and could leave a directory.
"""

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from formant_archive.errors import UsageError
from formant_archive.stores.contract import (
    NO_TERMS,
    PLAIN,
    Care,
    Lock,
    Stat,
    Store,
    Terms,
    Trace,
    check_key,
    check_prefix,
    chunks,
)

if TYPE_CHECKING:
    from formant_archive.stores.bucket import Bucket

__all__ = [
    "NO_TERMS",
    "PLAIN",
    "Care",
    "Lock",
    "Stat",
    "Store",
    "Terms",
    "Trace",
    "check_key",
    "check_prefix",
    "chunks",
    "open_bucket",
    "open_store",
]

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


def open_store(url: str, *, locks: bool = False, terms: Terms = NO_TERMS) -> Store:
    """Open the archive at `s3://bucket/prefix`, `file:///path` or a plain path.

    It is not asked anything yet, and nothing is made there.

    Args:
        url: As in `ARCHIVE_URL`.
        locks: Whether what is stored there is to be locked.
        terms: What is asked of a bucket for every object.

    Raises:
        UsageError: The address is none of these, or a folder's that is to lock or encrypt.
        StoreRefused: AWS's own settings (profile, configuration files) cannot be used.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme.lower() == "s3":
        return _bucket(rest, terms)
    if locks:
        raise UsageError("ARCHIVE_LOCK_MODE: a folder cannot lock: use a bucket, s3://…, or leave it out")
    if terms.ask:
        raise UsageError("ARCHIVE_KMS_KEY_ID and ARCHIVE_STORAGE_CLASS are for a bucket, s3://…: leave them out")
    if separator and scheme.lower() == "file":
        return _directory(_local_path(rest))
    if separator or url.startswith(("s3:", "file:")):
        # Only the scheme is repeated: some tools' addresses hold a password.
        scheme = url.partition(":")[0]
        raise UsageError(f"ARCHIVE_URL begins with {scheme}: use s3://bucket/prefix, file:///path or a path")
    return _directory(url)


def open_bucket(url: str, *, terms: Terms = NO_TERMS) -> "Bucket | None":
    """Open the archive at `s3://bucket/prefix` for examination; None where the address is another one.

    Raises:
        UsageError, StoreRefused: As in `open_store`.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() != "s3":
        return None
    from formant_archive.stores.bucket import Bucket

    return Bucket(*_place(rest), terms=terms)


def _bucket(rest: str, terms: Terms) -> Store:
    # Imported here so that a directory archive needs no boto3 at start (0.4 s).
    from formant_archive.stores.s3 import S3Store

    return S3Store(*_place(rest), terms=terms)


def _place(rest: str) -> tuple[str, str]:
    """Read a bucket's name and a prefix."""
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise UsageError("ARCHIVE_URL names no bucket: use s3://bucket/prefix")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError("ARCHIVE_URL: what follows s3:// is not a bucket's name: use s3://bucket/prefix, nothing else")
    try:
        check_prefix(prefix.rstrip("/") + "/" if prefix.rstrip("/") else "")
    except ValueError:
        raise UsageError("ARCHIVE_URL: the prefix has an empty part, '.' or '..': use s3://bucket/prefix") from None
    return bucket, prefix


def _local_path(rest: str) -> str:
    path = unquote(rest)
    if not path.startswith("/"):
        raise UsageError("ARCHIVE_URL: file:// needs a whole path, with three slashes: file:///path")
    return path


def _directory(path: str) -> Store:
    if not path.strip() or "\0" in path:
        raise UsageError("ARCHIVE_URL is empty or no path: use s3://bucket/prefix, file:///path or a path")

    from formant_archive.stores.directory import DirectoryStore

    return DirectoryStore(path)

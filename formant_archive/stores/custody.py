"""What only a custodian may do to an archive: end a hold, and remove what may be removed.

Nothing that runs by itself imports this (`tests/test_architecture.py`): a run's code has no way to delete, whatever
rights its role has by mistake.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Protocol
from urllib.parse import unquote, urlsplit

from botocore.exceptions import ClientError

from formant_archive.errors import StoreRefused
from formant_archive.stores import NO_TERMS, Store, Terms, open_store
from formant_archive.stores.contract import check_key
from formant_archive.stores.directory import DirectoryStore
from formant_archive.stores.s3 import NEVER_LOCKED, S3Store


class Custody(Store, Protocol):
    """A store whose holds can end, and whose payloads can go."""

    @property
    def keeps_holds(self) -> bool:
        """Whether the store itself keeps to holds; else only the chain says them."""
        ...

    def release(self, key: str) -> None:
        """End an object's legal hold.

        Raises:
            ObjectMissing: Nothing is stored under the key.
            StoreRefused: The store denies it.
        """
        ...

    def bond(self, key: str, now: datetime, *, bypass: bool = False) -> str | None:
        """Say what forbids to remove an object, as words that follow "is"; None where nothing is known to."""
        ...

    def erase(self, key: str, *, bypass: bool = False) -> int:
        """Remove every version of an object, and every delete marker over it; say how many there were.

        Args:
            key: Relative to the archive.
            bypass: Also where a GOVERNANCE lock forbids it, by a right that few have.

        Raises:
            StoreRefused: A lock, a hold or a policy forbids it.
        """
        ...


class S3Custody(S3Store):
    """An archive in a bucket, in a custodian's hands."""

    keeps_holds = True

    def release(self, key: str) -> None:
        """End an object's legal hold; see `Custody.release`."""
        self._set_hold(key, "OFF")

    def bond(self, key: str, now: datetime, *, bypass: bool = False) -> str | None:
        """Say what forbids to remove the newest version; see `Custody.bond`."""
        check_key(key)
        if self._holds(key):
            return "under a legal hold that the chain does not name: see who placed it"
        lock = self._locked(key)
        if lock is None or lock.until <= now or (bypass and lock.mode == "GOVERNANCE"):
            return None
        return f"locked until {lock.until:%Y-%m-%d} ({lock.mode})"

    def _holds(self, key: str) -> bool:
        with self._plainly("s3:GetObjectLegalHold"):
            try:
                found = self._client.get_object_legal_hold(Bucket=self._bucket, Key=self._base + key)
            except ClientError as error:
                if error.response["Error"].get("Code") in NEVER_LOCKED:
                    return False
                raise
        return found["LegalHold"].get("Status") == "ON"

    def erase(self, key: str, *, bypass: bool = False) -> int:
        """Remove every version of an object; see `Custody.erase`."""
        check_key(key)
        removed = 0
        for version in list(self._versions(key)):
            with self._plainly("s3:DeleteObjectVersion"):
                try:
                    if bypass:
                        self._client.delete_object(
                            Bucket=self._bucket,
                            Key=self._base + key,
                            VersionId=version,
                            BypassGovernanceRetention=True,
                        )
                    else:
                        self._client.delete_object(Bucket=self._bucket, Key=self._base + key, VersionId=version)
                except ClientError as error:
                    if error.response["ResponseMetadata"]["HTTPStatusCode"] == 403:
                        raise StoreRefused(f"{key}: a lock, a hold or the role forbids to remove it") from None
                    raise
            removed += 1
        return removed

    def _versions(self, key: str) -> Iterator[str]:
        with self._plainly("s3:ListBucketVersions"):
            pages = self._client.get_paginator("list_object_versions").paginate(
                Bucket=self._bucket, Prefix=self._base + key
            )
            for page in pages:
                for one in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
                    if one["Key"] == self._base + key:
                        yield one["VersionId"]


class DirectoryCustody(DirectoryStore):
    """An archive in a folder, in a custodian's hands."""

    keeps_holds = False

    def release(self, key: str) -> None:
        """Do nothing: a folder keeps no holds; see `Custody.release`."""
        check_key(key)

    def bond(self, key: str, now: datetime, *, bypass: bool = False) -> str | None:
        """Give None: a folder keeps no holds and no locks; see `Custody.bond`."""
        check_key(key)
        return None

    def erase(self, key: str, *, bypass: bool = False) -> int:
        """Remove an object; see `Custody.erase`."""
        path = self._path(key)
        try:
            path.unlink()
        except FileNotFoundError:
            return 0
        except OSError as fault:
            raise StoreRefused(f"{path}: it cannot be removed: {fault.strerror}") from None
        with suppress(OSError):
            self._sync_folder(path.parent)
        return 1


def open_custody(url: str, *, terms: Terms = NO_TERMS) -> Custody:
    """Open an archive for a custodian; see `open_store`."""
    store = open_store(url, terms=terms)
    if store.url.startswith("s3://"):
        bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
        return S3Custody(bucket, prefix, terms=terms)
    return DirectoryCustody(unquote(urlsplit(store.url).path))

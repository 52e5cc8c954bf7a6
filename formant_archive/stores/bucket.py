"""What only the doctor asks of a bucket: clock, versions, locks, checksums, and whether its key could delete.

Nothing that exists is ever put at risk: every question is asked about a name that was made up for it, under a prefix
that holds nothing of an archive.
"""

import hashlib
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ClientError
from pydantic import BaseModel

from formant_archive.stores.contract import Lock
from formant_archive.stores.s3 import S3Store, _code, _lock, _status

Right = Literal["s3:DeleteObject", "s3:DeleteObjectVersion"]

#: An entity tag that no object has.
_NO_TAG = '"00000000000000000000000000000000"'
_TOLD = b"the body that was hashed\n"
_SENT = b"the body that came, else\n"


class Facts(BaseModel, frozen=True):
    """What a store says of an object that was just put.

    Attributes:
        keeps_versions: Whether it has an id of its own version.
        lock: What the bucket locks it with by itself.
        encryption: As the store spells it, for example `aws:kms`; None where it says nothing.
        kms_key: The key's id.
    """

    keeps_versions: bool
    lock: Lock | None
    encryption: str | None
    kms_key: str | None


class Bucket(S3Store):
    """A bucket under examination."""

    def skew(self) -> float | None:
        """Ask for the bucket itself; say how many seconds its clock is ahead of ours, None where it tells no time.

        Raises:
            StoreRefused: There is no such bucket, or it may not be listed.
        """
        with self._plainly("s3:ListBucket"):
            asked = datetime.now(UTC)
            answer = self._client.head_bucket(Bucket=self._bucket)
            answered = datetime.now(UTC)
        told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if told is None:
            return None
        # To the middle of the request; a Date has no fractions.
        return (parsedate_to_datetime(told) - asked - (answered - asked) / 2).total_seconds()

    def facts(self, key: str) -> Facts:
        """Say how an object is kept."""
        with self._plainly("s3:GetObject"):
            found = self._client.head_object(Bucket=self._bucket, Key=self._base + key)
        return Facts(
            keeps_versions=found.get("VersionId", "null") != "null",
            lock=_lock(found),
            encryption=found.get("ServerSideEncryption"),
            kms_key=found.get("SSEKMSKeyId"),
        )

    def takes_wrong_checksum(self, key: str) -> bool:
        """Put a body with the SHA-256 of another one; say whether the store took it."""
        return self._takes(key, _SENT)

    def takes_altered_body(self, key: str) -> bool:
        """Send another body than the one that was hashed and signed; say whether the store took it."""

        def alter(request: AWSPreparedRequest, **_: object) -> None:
            request.body = _SENT

        events: Any = self._client.meta.events
        events.register_last("before-send.s3.PutObject", alter)
        try:
            return self._takes(key, _TOLD)
        finally:
            events.unregister("before-send.s3.PutObject", alter)

    def _takes(self, key: str, body: bytes) -> bool:
        with self._plainly("s3:PutObject"):
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._base + key,
                    Body=body,
                    IfNoneMatch="*",
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=b64encode(hashlib.sha256(_TOLD).digest()).decode(),
                )
            except ClientError as error:
                if _status(error) == 400:
                    return False
                raise
        return True

    def may(self, right: Right, key: str) -> bool | None:
        """Find out whether the key may delete, by deleting what has never been there; None where it could not be told.

        A version is deleted by naming it: `null`, of a key that has none. An object is deleted on the condition that it
        has a tag that no object has. A store that ignores this condition (Ceph before 20 does) leaves a delete marker
        under that made-up name, in a bucket that keeps versions; nothing else can come of it.

        Args:
            right: To delete what, in S3's words.
            key: Made up for this question; nothing must ever have been stored there.
        """
        more: dict[str, str] = {"VersionId": "null"} if right == "s3:DeleteObjectVersion" else {"IfMatch": _NO_TAG}
        with self._plainly(right):
            try:
                self._client.delete_object(Bucket=self._bucket, Key=self._base + key, **more)  # type: ignore[arg-type]
            except ClientError as error:
                if _status(error) == 403:
                    return False
                # Allowed, and nothing was there to delete. Other answers are about the question's form.
                return True if _status(error) in (404, 412) else None
        return True

    def locked(self, key: str) -> Lock | None:
        """Put a small object under a GOVERNANCE lock of a day; give the lock that the store says it has.

        Raises:
            StoreRefused: The store refuses the lock: no Object Lock, or no right to lock.
        """
        day = datetime.now(UTC) + timedelta(days=1)
        with self._plainly("s3:PutObjectRetention"):
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._base + key,
                Body=_TOLD,
                IfNoneMatch="*",
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=b64encode(hashlib.sha256(_TOLD).digest()).decode(),
                ObjectLockMode="GOVERNANCE",
                ObjectLockRetainUntilDate=day,
            )
        return self.facts(key).lock

    def can_remove(self, key: str, *, bypass: bool = False) -> bool:
        """Try to delete the very version that lies under a key, which was put for this; say whether the store did it.

        Args:
            key: Of an object that was put to be tried.
            bypass: Ask to pass over a GOVERNANCE lock, as somebody with `s3:BypassGovernanceRetention` may.
        """
        with self._plainly("s3:DeleteObjectVersion"):
            version = self._client.head_object(Bucket=self._bucket, Key=self._base + key).get("VersionId", "null")
            more: Any = {"BypassGovernanceRetention": True} if bypass else {}
            try:
                self._client.delete_object(Bucket=self._bucket, Key=self._base + key, VersionId=version, **more)
            except ClientError as error:
                if _status(error) == 403 or _code(error) in {"InvalidRequest", "AccessDenied"}:
                    return False
                raise
        return True

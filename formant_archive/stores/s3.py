"""An archive in an S3-compatible bucket, under the rules of `formant_archive.stores`.

- One object is one conditional `PutObject`: `If-None-Match: *` and a SHA-256 that the server checks. No
  transfer manager, which cannot send the condition, and no multipart upload, whose hash would not be the
  object's own.
- 412 means *taken*, also by this very call: botocore repeats a put whose reply was lost. 409 means that
  another put of the key is under way; botocore does not repeat it, so it is repeated here.
- Not every server checks the hash, so a body is hashed here before it is sent (1 ms a megabyte).
- No error of botocore or urllib3 leaves this module, and none is chained to ours: their texts can name
  proxies and endpoints with passwords in them.
"""

import hashlib
import io
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ChecksumError,
    ClientError,
    ConnectionError,  # noqa: A004
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    ProfileNotFound,
    SSLError,
)
from botocore.response import StreamingBody
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)
from urllib3.exceptions import HTTPError

from formant_archive.errors import ObjectMissing, StoreError, StoreRefused, StoreUnavailable, UnsafeStore
from formant_archive.stores.contract import (
    NO_TERMS,
    PLAIN,
    Care,
    Lock,
    Stat,
    Terms,
    Trace,
    check_key,
    check_prefix,
    chunks,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import ObjectLockLegalHoldStatusType
    from mypy_boto3_s3.type_defs import (
        HeadObjectOutputTypeDef,
        ListObjectVersionsOutputTypeDef,
        PutObjectRequestTypeDef,
    )

_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 5},
    connect_timeout=5,  # seconds
    read_timeout=60,
    tcp_keepalive=True,
    max_pool_connections=64,
    # Not every server knows the checksums that boto3 adds by itself; ours is always sent.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    s3={"payload_signing_enabled": True},
)
_BUFFER = 256 * 1024
_CONFLICT_ATTEMPTS = 10
_CONFLICT_SECONDS = 30.0

_CONFLICTS = {"ConditionalRequestConflict", "OperationAborted"}
_UNAVAILABLE = {
    "SlowDown",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "IncompleteBody",
    # The body was hashed here a moment ago: it was damaged on its way.
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
} | _CONFLICTS

_CREDENTIALS = "the credentials are refused: renew or correct them"
_REGION = "the bucket is in another region: set AWS_REGION to it"
_NO_BUCKET = "there is no such bucket at this endpoint: create it, or correct ARCHIVE_URL or AWS_ENDPOINT_URL_S3"
_REFUSED = {
    "NoSuchBucket": _NO_BUCKET,
    "404": _NO_BUCKET,
    "NotFound": _NO_BUCKET,
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "ExpiredToken": "the credentials have expired: renew them",
    "ExpiredTokenException": "the credentials have expired: renew them",
    "InvalidToken": _CREDENTIALS,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "301": _REGION,
    "InvalidObjectState": "the object is in cold storage: restore it first",
    "EntityTooLarge": "the object is larger than the store takes in one piece",
}
_NO_LOCKS = "the bucket has no Object Lock: use one that was made with it, or leave ARCHIVE_LOCK_MODE out"
_HARDER = (
    "is locked under GOVERNANCE, and the store does not let this role make that COMPLIANCE (403): keep to GOVERNANCE"
    " (--mode, ARCHIVE_LOCK_MODE); docs/compliance.md says more"
)
#: What a store says of an object without a lock, or of a bucket that knows none.
NEVER_LOCKED = {"NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", "InvalidRequest"}
_LISTING_HELPS = "; without s3:ListBucket a missing object is denied too"


class S3Store:
    """The archive under one prefix of one bucket.

    Args:
        bucket: Its name.
        prefix: Empty, or `a/b`; a slash before or after it changes nothing.
        client: boto3's; by default one made by `connect`.
        terms: What is asked for every object. What the store makes of it is read back on the first one.
        sleep: Waits so many seconds between two puts that met a conflict.

    Raises:
        StoreRefused: AWS's own settings (profile, configuration files) cannot be used.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        client: "S3Client | None" = None,
        *,
        terms: Terms = NO_TERMS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        self._base = f"{self._prefix}/" if self._prefix else ""
        self._bucket_seen = False
        self._terms = terms
        self._kept: frozenset[str] = frozenset()
        self._sleep = sleep
        self._client = client or self._connected()

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put(self, key: str, body: bytes | BinaryIO, *, sha256: str, care: Care = PLAIN) -> bool:
        """Store `body` under `key` unless the key is taken; see `Store.put`.

        Raises:
            UnsafeStore: The store says that it does not know conditional writes.
        """
        check_key(key)
        _verify(body, sha256)
        retrying = Retrying(
            retry=retry_if_exception(_is_conflict),
            wait=wait_random_exponential(multiplier=0.05, max=5),
            stop=stop_after_attempt(_CONFLICT_ATTEMPTS) | stop_after_delay(_CONFLICT_SECONDS),
            sleep=self._sleep,
            reraise=True,
        )
        with self._plainly("s3:PutObject"):
            created = retrying(self._put_once, key, body, sha256, care)
        if created:
            self._read_back(key, care)
        return created

    def get(self, key: str) -> bytes:
        """Read a whole object; see `Store.get`."""
        body = self._body(key)
        with closing(body), self._plainly("s3:GetObject"):
            return body.read()

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """Read an object as a stream, not seekable; see `Store.open`."""
        reader = _Reader(self._body(key), self._plainly)
        with closing(io.BufferedReader(reader, _BUFFER)) as file:
            yield file

    def stat(self, key: str) -> Stat | None:
        """Say what is stored under the key, or None; see `Store.stat`."""
        check_key(key)
        found = self._head(key)
        if found is None:
            self._require_bucket()
            return None
        return Stat(
            key=key,
            size=found["ContentLength"],
            sha256=found["Metadata"].get("sha256"),
            lock=_lock(found),
            held=found.get("ObjectLockLegalHoldStatus") == "ON",
        )

    def lengthen(self, key: str, lock: Lock) -> None:
        """Lock an object at least so hard and so long, and read it back; see `Store.lengthen`."""
        check_key(key)
        found = self._locked(key)
        if found is not None and found.covers(lock):
            return
        wanted = lock.joined(found)
        with self._plainly("s3:PutObjectRetention"):
            try:
                self._client.put_object_retention(
                    Bucket=self._bucket,
                    Key=self._base + key,
                    Retention={"Mode": wanted.mode, "RetainUntilDate": wanted.until},
                    ChecksumAlgorithm="SHA256",
                )
            except ClientError as error:
                if _status(error) == 403 and found is not None and found.mode != wanted.mode:
                    raise StoreRefused(f"{self.url}: {key} {_HARDER}") from None
                raise
        found = self._locked(key)
        if found is None or not found.covers(wanted):
            raise StoreRefused(f"{self.url}: the store did not lock {key} as it was told: it cannot be relied upon")

    def hold(self, key: str) -> bool:
        """Put an object under a legal hold; see `Store.hold`."""
        self._set_hold(key, "ON")
        return True

    def _set_hold(self, key: str, status: "ObjectLockLegalHoldStatusType") -> None:
        check_key(key)
        with self._plainly("s3:PutObjectLegalHold"):
            try:
                self._client.put_object_legal_hold(
                    Bucket=self._bucket,
                    Key=self._base + key,
                    LegalHold={"Status": status},
                    ChecksumAlgorithm="SHA256",
                )
            except ClientError as error:
                if _code(error) == "NoSuchKey":
                    raise ObjectMissing(f"nothing is stored under {self.url}/{key}") from None
                raise

    def _locked(self, key: str) -> Lock | None:
        """Say how an object is locked; whoever may not read it may still ask for that."""
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=self._base + key)
        except ClientError as error:
            if _status(error) == 403:
                return self._retention(key)
            with self._plainly("s3:GetObject"):
                raise
        except (BotoCoreError, HTTPError, OSError) as error:
            raise self._told_failure(error) from None
        return _lock(head)

    def _retention(self, key: str) -> Lock | None:
        with self._plainly("s3:GetObjectRetention"):
            try:
                found = self._client.get_object_retention(Bucket=self._bucket, Key=self._base + key)["Retention"]
            except ClientError as error:
                if _code(error) in NEVER_LOCKED:
                    return None
                raise
        if "Mode" not in found or "RetainUntilDate" not in found:
            return None
        return Lock(mode=found["Mode"], until=found["RetainUntilDate"])

    def list(self, prefix: str) -> Iterator[Stat]:
        """Yield the objects whose key starts with `prefix`, a thousand a request; see `Store.list`."""
        check_prefix(prefix)
        return self._listed(prefix)

    def traces(self, prefix: str) -> Iterator[Trace]:
        """Yield delete markers and earlier versions, a thousand a request; see `Store.traces`."""
        check_prefix(prefix)
        return self._traced(prefix)

    def _connected(self) -> "S3Client":
        with self._plainly("s3:ListBucket"):
            return connect()

    def _put_once(self, key: str, body: bytes | BinaryIO, sha256: str, care: Care) -> bool:
        if not isinstance(body, bytes):
            body.seek(0)
        request: PutObjectRequestTypeDef = {
            "Bucket": self._bucket,
            "Key": self._base + key,
            "Body": body,
            "IfNoneMatch": "*",
            # Ceph 20 ignores the value where the algorithm is not named too.
            "ChecksumAlgorithm": "SHA256",
            "ChecksumSHA256": b64encode(bytes.fromhex(sha256)).decode(),
            "Metadata": {"sha256": sha256},
        }
        if care.lock is not None:
            request["ObjectLockMode"] = care.lock.mode
            request["ObjectLockRetainUntilDate"] = care.lock.until
        if self._terms.kms_key_id is not None:
            request["ServerSideEncryption"] = "aws:kms"
            request["SSEKMSKeyId"] = self._terms.kms_key_id
            request["BucketKeyEnabled"] = self._terms.bucket_key
        if self._terms.storage_class is not None and care.is_payload:
            request["StorageClass"] = self._terms.storage_class
        if care.held:
            request["ObjectLockLegalHoldStatus"] = "ON"
        try:
            self._client.put_object(**request)
        except ClientError as error:
            if _status(error) == 412:
                return False
            raise
        return True

    def _read_back(self, key: str, care: Care) -> None:
        """See that the store did what it was told, once for each kind of thing: stores answer 200 and do otherwise.

        Raises:
            StoreRefused: It did not. The object stays as it is.
        """
        asked = _asked(care, self._terms) - self._kept
        if not asked:
            return
        found = self._head(key)
        kept = set() if found is None else _kept(found, care, self._terms)
        if ignored := sorted(asked - kept):
            raise StoreRefused(
                f"{self.url}: the store ignored {' and '.join(ignored)} for {key}: use another, or do not ask for it"
            )
        # Two threads at once look twice, which harms nothing.
        self._kept |= asked

    def _body(self, key: str) -> StreamingBody:
        check_key(key)
        with self._plainly("s3:GetObject"):
            try:
                return self._client.get_object(Bucket=self._bucket, Key=self._base + key)["Body"]
            except ClientError as error:
                # Not any 404: a proxy's page must not pass for an answer of the store.
                if _code(error) == "NoSuchKey":
                    raise ObjectMissing(f"nothing is stored under {self.url}/{key}") from None
                raise

    def _head(self, key: str) -> "HeadObjectOutputTypeDef | None":
        with self._plainly("s3:GetObject"):
            try:
                return self._client.head_object(Bucket=self._bucket, Key=self._base + key)
            except ClientError as error:
                if _status(error) == 404:
                    return None
                raise

    def _require_bucket(self) -> None:
        """Tell a missing bucket from a missing object, once: the answer to a HEAD of either is a bare 404."""
        if self._bucket_seen:
            return
        with self._plainly("s3:ListBucket"):
            try:
                self._client.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                # A bucket that denies to be asked is there.
                if _status(error) != 403:
                    raise
        self._bucket_seen = True

    def _listed(self, prefix: str) -> Iterator[Stat]:
        with self._plainly("s3:ListBucket"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._base + prefix
            )
            for page in pages:
                for found in page.get("Contents", []):
                    # A console's "folder" is an empty object with a slash at its end: nothing of an archive.
                    if not found["Key"].endswith("/"):
                        yield Stat(key=found["Key"].removeprefix(self._base), size=found["Size"])

    def _traced(self, prefix: str) -> Iterator[Trace]:
        with self._plainly("s3:ListBucketVersions"):
            pages = self._client.get_paginator("list_object_versions").paginate(
                Bucket=self._bucket, Prefix=self._base + prefix
            )
            try:
                for page in pages:
                    yield from self._traces_of(page)
            except ClientError as error:
                # A store that knows no versions keeps none.
                if _status(error) != 501:
                    raise

    def _traces_of(self, page: "ListObjectVersionsOutputTypeDef") -> Iterator[Trace]:
        for marker in page.get("DeleteMarkers", []):
            yield Trace(key=marker["Key"].removeprefix(self._base), version=marker["VersionId"], is_deletion=True)
        for version in page.get("Versions", []):
            if not version["IsLatest"]:
                yield Trace(
                    key=version["Key"].removeprefix(self._base), version=version["VersionId"], is_deletion=False
                )

    @contextmanager
    def _plainly(self, permission: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise self._told_answer(error, permission) from None
        except (BotoCoreError, HTTPError, OSError) as error:
            raise self._told_failure(error) from None

    def _told_answer(self, error: ClientError, permission: str) -> StoreError:
        code, status = _code(error), _status(error)
        if permission == "s3:PutObject" and _names_condition(error):
            return UnsafeStore(
                f"{self.url}: the store does not know If-None-Match, so one writer could overwrite another:"
                f" use a store that does ({status} {code})"
            )
        if status >= 500 or status in (408, 429) or code in _UNAVAILABLE:
            return StoreUnavailable(f"{self.url}: {_busy(code)} ({status} {code})")
        if status == 400 and "objectlock" in _words(error).replace(" ", ""):
            return StoreRefused(f"{self.url}: {_NO_LOCKS} ({status} {code})")
        if code in _REFUSED:
            return StoreRefused(f"{self.url}: {_REFUSED[code]} ({status} {code})")
        if status == 403:
            return StoreRefused(f"{self.url}: {_denied(permission)} ({status} {code})")
        return StoreRefused(f"{self.url}: the store refuses the request ({status} {code})")

    def _told_failure(self, error: Exception) -> StoreError:
        name = type(error).__name__
        if isinstance(error, SSLError) and "CERTIFICATE" in str(error):
            return StoreRefused(f"{self.url}: {self._host} shows a certificate that is not trusted: set AWS_CA_BUNDLE")
        if not isinstance(error, BotoCoreError) or isinstance(error, _BROKEN):
            return StoreUnavailable(f"{self.url}: no whole answer from {self._host} ({name})")
        return StoreRefused(f"{self.url}: {_unusable(error)} ({name})")

    @property
    def _host(self) -> str:
        # Not the whole endpoint: it may hold a name and a password.
        return urlsplit(self._client.meta.endpoint_url).netloc.rpartition("@")[2]


_BROKEN = (
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ChecksumError,
    FlexibleChecksumError,
    MetadataRetrievalError,
)


def connect() -> "S3Client":
    """Make a client by the SDK's own rules for credentials, region, profile and endpoint.

    Where an endpoint is set, botocore puts the bucket into the path, unless AWS's configuration file says
    `addressing_style = virtual`.
    """
    return boto3.session.Session().client("s3", config=_CONFIG)


class _Reader(io.RawIOBase):
    """A response's body whose reading fails with this project's errors, at whatever byte."""

    def __init__(self, body: StreamingBody, plainly: Callable[[str], AbstractContextManager[None]]) -> None:
        self._body = body
        self._plainly = plainly

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        with self._plainly("s3:GetObject"):
            chunk = self._body.read(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self._body.close()
        super().close()


def _verify(body: bytes | BinaryIO, sha256: str) -> None:
    digest = hashlib.sha256()
    for chunk in chunks(body):
        digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise StoreRefused("the body is not the one that was hashed: nothing was stored")


def _lock(found: "HeadObjectOutputTypeDef") -> Lock | None:
    if "ObjectLockMode" not in found or "ObjectLockRetainUntilDate" not in found:
        return None
    return Lock(mode=found["ObjectLockMode"], until=found["ObjectLockRetainUntilDate"])


def _asked(care: Care, terms: Terms) -> set[str]:
    """Name what is asked for an object, by the setting that asks for it."""
    asked = {
        "ARCHIVE_LOCK_MODE": care.lock is not None,
        "the legal hold": care.held,
        "ARCHIVE_KMS_KEY_ID": terms.kms_key_id is not None,
        "ARCHIVE_STORAGE_CLASS": terms.storage_class is not None and care.is_payload,
    }
    return {name for name, is_asked in asked.items() if is_asked}


def _kept(found: "HeadObjectOutputTypeDef", care: Care, terms: Terms) -> set[str]:
    """Name what a store has done of it."""
    lock = _lock(found)
    kept = {
        "ARCHIVE_LOCK_MODE": lock is not None and care.lock is not None and lock.covers(care.lock),
        "the legal hold": found.get("ObjectLockLegalHoldStatus") == "ON",
        "ARCHIVE_KMS_KEY_ID": _is_encrypted(found, terms.kms_key_id or ""),
        "ARCHIVE_STORAGE_CLASS": found.get("StorageClass", "STANDARD") == terms.storage_class,
    }
    return {name for name, is_kept in kept.items() if is_kept}


def _is_encrypted(found: "HeadObjectOutputTypeDef", key_id: str) -> bool:
    """Whether an object is encrypted with a key; an answer names the key itself, also where an alias was asked for."""
    key = found.get("SSEKMSKeyId", "")
    is_it = bool(key) if "alias/" in key_id else key.rpartition("/")[2] == key_id.rpartition("/")[2]
    return found.get("ServerSideEncryption") == "aws:kms" and is_it


def _status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def _code(error: ClientError) -> str:
    return error.response["Error"].get("Code", "")


def _is_conflict(error: BaseException) -> bool:
    return isinstance(error, ClientError) and _code(error) in _CONFLICTS


def _names_condition(error: ClientError) -> bool:
    """Whether the server refuses `If-None-Match`: in words, or by a 501 that names no other header."""
    words = _words(error)
    if "if-none-match" in words or "conditional" in words:
        return _status(error) in (400, 501)
    return _status(error) == 501 and "x-amz-" not in words


def _words(error: ClientError) -> str:
    return " ".join(str(value) for value in error.response["Error"].values()).lower()


def _busy(code: str) -> str:
    if code == "RequestTimeTooSkewed":
        return "this machine's clock and the store's differ: set the clock"
    if code in _CONFLICTS:
        return "another put of the same key did not end: run again"
    return "the store is busy or failing: run again"


def _denied(permission: str) -> str:
    hint = _LISTING_HELPS if permission == "s3:GetObject" else ""
    return f"access is denied: the role needs {permission}{hint}"


def _unusable(error: BotoCoreError) -> str:
    if isinstance(error, NoCredentialsError):
        return "no credentials found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret, or use a role"
    if isinstance(error, ProfileNotFound):
        return "AWS_PROFILE names a profile that is in none of AWS's configuration files: correct it"
    return "AWS's settings cannot be used: correct profile, credentials, region and endpoint"

"""What the S3 store says on the wire, and what it makes of every answer."""

import hashlib
import io
import re
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError, SSLError
from urllib3 import HTTPResponse
from urllib3.exceptions import DecodeError

from formant_archive.errors import ObjectMissing, StoreError, StoreRefused, StoreUnavailable, UnsafeStore
from formant_archive.stores import Care, Lock, Terms
from formant_archive.stores.s3 import S3Store, connect
from tests.stores.wire import Answer, on_request, refusal, reply

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BODY = b"RIFF" * 1000
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def store(client: "S3Client", bucket: str) -> S3Store:
    return S3Store(bucket, "pre/fix", client)


def put(store: S3Store) -> bool:
    return store.put("a/b", BODY, sha256=SHA)


def answers(client: "S3Client", operation: str, *given: AWSResponse | Exception | None) -> list[str]:
    """Answer an operation's requests with these, the last one for ever; None lets one through to the server."""
    rest, seen = list(given), list[str]()

    def answer(request: AWSPreparedRequest) -> AWSResponse | None:
        seen.append(request.url)
        now = rest.pop(0) if len(rest) > 1 else rest[0]
        if isinstance(now, Exception):
            raise now
        return now

    on_request(client, operation, answer)
    return seen


def header(request: AWSPreparedRequest, name: str) -> str:
    value = request.headers[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def test_a_put_is_one_conditional_request_with_its_hash(store: S3Store, client: "S3Client") -> None:
    requests: list[AWSPreparedRequest] = []
    on_request(client, "PutObject", requests.append)
    assert store.put("a/b", io.BytesIO(BODY), sha256=SHA)
    (request,) = requests
    assert request.method == "PUT"
    assert request.url.endswith("/pre/fix/a/b")
    assert header(request, "If-None-Match") == "*"
    assert header(request, "x-amz-sdk-checksum-algorithm") == "SHA256"
    assert header(request, "x-amz-checksum-sha256") == b64encode(bytes.fromhex(SHA)).decode()
    assert header(request, "x-amz-content-sha256") == SHA
    assert header(request, "x-amz-meta-sha256") == SHA
    assert header(request, "Content-Length") == str(len(BODY))


def test_over_https_the_hash_is_a_header_too_and_the_body_is_plain(
    connected: Callable[[str], "S3Client"],
) -> None:
    client = connected("https://127.0.0.1:9")
    requests: list[AWSPreparedRequest] = []

    def answer(request: AWSPreparedRequest) -> AWSResponse:
        requests.append(request)
        return reply(200)

    on_request(client, "PutObject", answer)
    put(S3Store("bucket", "", client))
    (request,) = requests
    assert header(request, "x-amz-checksum-sha256") == b64encode(bytes.fromhex(SHA)).decode()
    assert header(request, "x-amz-content-sha256") == SHA
    assert not {"x-amz-trailer", "transfer-encoding", "content-encoding"} & {name.lower() for name in request.headers}


def test_a_wrong_hash_is_refused_before_anything_is_sent(store: S3Store, client: "S3Client") -> None:
    sent = answers(client, "PutObject", None)
    with pytest.raises(StoreRefused):
        store.put("a/b", b"other", sha256=SHA)
    assert sent == []


def test_stat_tells_the_hash_that_the_writer_gave(store: S3Store) -> None:
    put(store)
    found = store.stat("a/b")
    assert found is not None
    assert found.sha256 == SHA


def test_stat_of_an_object_without_a_hash_tells_none(store: S3Store, client: "S3Client", bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="pre/fix/a", Body=b"x")
    found = store.stat("a")
    assert found is not None
    assert found.sha256 is None


@pytest.mark.parametrize("prefix", ["", "a/b", "a/b/", "/a/b/"])
def test_a_prefix_may_be_empty_and_end_with_a_slash(client: "S3Client", bucket: str, prefix: str) -> None:
    store = S3Store(bucket, prefix, client)
    put(store)
    expected = "a/b" if not prefix else "a/b/a/b"
    assert [found["Key"] for found in client.list_objects_v2(Bucket=bucket)["Contents"]] == [expected]
    assert [found.key for found in store.list("")] == ["a/b"]
    assert store.url == f"s3://{bucket}/{prefix.strip('/')}".rstrip("/")


def test_two_archives_in_one_bucket_do_not_see_each_other(client: "S3Client", bucket: str) -> None:
    put(S3Store(bucket, "one", client))
    assert list(S3Store(bucket, "on", client).list("")) == []


def test_a_consoles_folder_is_no_object(store: S3Store, client: "S3Client", bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="pre/fix/")
    client.put_object(Bucket=bucket, Key="pre/fix/a/")
    assert list(store.list("")) == []


def test_412_means_taken(store: S3Store, client: "S3Client") -> None:
    answers(client, "PutObject", refusal(412, "PreconditionFailed"))
    assert put(store) is False


def test_a_put_whose_reply_was_lost_finds_its_own_object(
    connected: Callable[..., "S3Client"], endpoint: str, client: "S3Client", bucket: str
) -> None:
    patient = connected(endpoint, 2)
    lost = iter([True])

    def lose_first(request: AWSPreparedRequest) -> AWSResponse | None:
        if next(lost, False):
            client.put_object(Bucket=bucket, Key="a/b", Body=BODY)
            raise ConnectionClosedError(endpoint_url=request.url)
        return None

    on_request(patient, "PutObject", lose_first)
    store = S3Store(bucket, "", patient)
    assert store.put("a/b", io.BytesIO(BODY), sha256=SHA) is False
    assert store.get("a/b") == BODY


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
def test_a_conflict_is_put_again_whole(client: "S3Client", bucket: str, code: str) -> None:
    waits: list[float] = []
    sent = answers(client, "PutObject", refusal(409, code), refusal(409, code), None)
    store = S3Store(bucket, "", client, sleep=waits.append)
    assert store.put("a/b", io.BytesIO(BODY), sha256=SHA) is True
    assert store.get("a/b") == BODY
    assert len(sent) == 3
    assert len(waits) == 2


def test_a_conflict_without_end_is_given_up(client: "S3Client", bucket: str) -> None:
    waits: list[float] = []
    sent = answers(client, "PutObject", refusal(409, "ConditionalRequestConflict"))
    store = S3Store(bucket, "", client, sleep=waits.append)
    with pytest.raises(StoreUnavailable, match="another put"):
        put(store)
    assert len(sent) == 10
    assert len(set(waits)) > 1
    assert all(0 <= wait <= 5 for wait in waits)


@pytest.mark.parametrize(
    "answer",
    [
        refusal(501, "NotImplemented", "A header you provided implies functionality that is not implemented"),
        refusal(501, "NotImplemented", Header="If-None-Match"),
        refusal(400, "InvalidArgument", "Unsupported header 'if-none-match' received for this API call."),
        refusal(400, "InvalidRequest", "Conditional writes are not supported"),
    ],
    ids=["501", "501 by name", "400 by name", "400 in words"],
)
def test_a_store_that_does_not_know_the_condition_is_unsafe(
    store: S3Store, client: "S3Client", answer: AWSResponse
) -> None:
    answers(client, "PutObject", answer)
    with pytest.raises(UnsafeStore, match="If-None-Match"):
        put(store)


@pytest.mark.parametrize(
    "answer",
    [
        refusal(400, "InvalidArgument", "Unsupported header 'x-amz-sdk-checksum-algorithm'"),
        refusal(501, "NotImplemented", Header="x-amz-checksum-sha256"),
    ],
    ids=["400", "501"],
)
def test_a_store_that_does_not_know_another_header_is_not_called_unsafe(
    store: S3Store, client: "S3Client", answer: AWSResponse
) -> None:
    answers(client, "PutObject", answer)
    with pytest.raises(StoreError) as caught:
        put(store)
    assert not isinstance(caught.value, UnsafeStore)


def each_verb(store: S3Store) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "PutObject", lambda: put(store)
    yield "GetObject", lambda: store.get("a/b")
    yield "GetObject", lambda: store.open("a/b").__enter__()
    yield "HeadObject", lambda: store.stat("a/b")
    yield "ListObjectsV2", lambda: list(store.list(""))


def fails_everywhere(store: S3Store, client: "S3Client", answer: Answer, kind: type[StoreError]) -> str:
    """Every verb must fail with this kind of error; its last sentence."""
    for operation, call in each_verb(store):
        on_request(client, operation, answer)
        with pytest.raises(StoreError) as caught:
            call()
        assert type(caught.value) is kind
        one_line_without_botocore(caught.value)
    return str(caught.value)


def one_line_without_botocore(error: StoreError) -> None:
    shown = "".join(traceback.format_exception(error))
    assert len(str(error).splitlines()) == 1
    assert not re.search(r"botocore\.\w*exceptions|X-Amz-Signature|test-secret|hunter2", shown)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InternalError"),
        (503, "SlowDown"),
        (503, "ServiceUnavailable"),
        (502, "x"),
        (429, "TooManyRequests"),
        (400, "RequestTimeout"),
        (403, "RequestTimeTooSkewed"),
    ],
)
def test_a_busy_or_failing_store_is_unavailable(store: S3Store, client: "S3Client", status: int, code: str) -> None:
    said = fails_everywhere(store, client, lambda _: refusal(status, code), StoreUnavailable)
    assert store.url in said
    assert code in said


@pytest.mark.parametrize(
    ("status", "code", "what_to_do"),
    [
        (404, "NoSuchBucket", "create it"),
        (403, "InvalidAccessKeyId", "credentials"),
        (403, "SignatureDoesNotMatch", "credentials"),
        (400, "ExpiredToken", "expired"),
        (403, "AccessDenied", "the role needs s3:"),
        (403, "", "the role needs s3:"),
        (301, "PermanentRedirect", "AWS_REGION"),
        (400, "InvalidRequest", "refuses"),
    ],
)
def test_a_store_that_denies_says_what_to_do(
    store: S3Store, client: "S3Client", bucket: str, status: int, code: str, what_to_do: str
) -> None:
    for operation, call in each_verb(store):
        if operation == "HeadObject":
            continue
        answers(client, operation, refusal(status, code))
        with pytest.raises(StoreRefused, match=what_to_do) as caught:
            call()
        assert bucket in str(caught.value)
        one_line_without_botocore(caught.value)


def test_a_denied_look_says_that_the_right_to_list_helps(store: S3Store, client: "S3Client") -> None:
    answers(client, "HeadObject", reply(403))
    with pytest.raises(StoreRefused, match=r"s3:GetObject.*s3:ListBucket"):
        store.stat("a")


@pytest.mark.parametrize("error", [ConnectionClosedError, ReadTimeoutError])
def test_a_lost_connection_is_unavailable(
    store: S3Store, client: "S3Client", error: type[ConnectionClosedError | ReadTimeoutError]
) -> None:
    def lose(request: AWSPreparedRequest) -> AWSResponse:
        raise error(endpoint_url="http://user:hunter2@127.0.0.1/?X-Amz-Signature=1", error="hunter2")

    fails_everywhere(store, client, lose, StoreUnavailable)


def test_a_server_that_is_not_there_is_unavailable(connected: Callable[[str], "S3Client"]) -> None:
    store = S3Store("bucket", "", connected("http://user:hunter2@127.0.0.1:9"))
    for _, call in each_verb(store):
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9 ") as caught:
            call()
        one_line_without_botocore(caught.value)


def test_an_untrusted_certificate_is_refused(store: S3Store, client: "S3Client") -> None:
    def distrust(request: AWSPreparedRequest) -> AWSResponse:
        raise SSLError(endpoint_url=request.url, error=OSError("CERTIFICATE_VERIFY_FAILED"))

    assert "AWS_CA_BUNDLE" in fails_everywhere(store, client, distrust, StoreRefused)


def test_a_proxys_page_is_no_list(store: S3Store, client: "S3Client") -> None:
    answers(client, "ListObjectsV2", reply(200, b"<html><p>Sign in"))
    with pytest.raises(StoreUnavailable):
        list(store.list(""))


def test_a_proxys_404_is_no_missing_object(store: S3Store, client: "S3Client") -> None:
    answers(client, "GetObject", reply(404, b"<html>Not Found</html>"))
    with pytest.raises(StoreRefused):
        store.get("a")


def test_the_throttled_are_patient(connected: Callable[..., "S3Client"], endpoint: str, bucket: str) -> None:
    patient = connected(endpoint, 2)
    sent = answers(patient, "PutObject", refusal(503, "SlowDown"), None)
    assert S3Store(bucket, "", patient).put("a", io.BytesIO(BODY), sha256=SHA)
    assert len(sent) == 2


def test_a_missing_bucket_is_not_a_missing_object(client: "S3Client") -> None:
    store = S3Store("no-such-bucket", "", client)
    for _, call in each_verb(store):
        with pytest.raises(StoreRefused, match="no such bucket") as caught:
            call()
        assert "s3://no-such-bucket" in str(caught.value)


def test_whether_the_bucket_is_there_is_asked_once(store: S3Store, client: "S3Client") -> None:
    asked = answers(client, "HeadBucket", None)
    assert [store.stat("a"), store.stat("b")] == [None, None]
    assert len(asked) == 1


def test_a_bucket_that_may_not_be_asked_is_there(store: S3Store, client: "S3Client") -> None:
    answers(client, "HeadBucket", reply(403))
    assert store.stat("a") is None


def test_damage_on_the_way_can_be_put_again(store: S3Store, client: "S3Client") -> None:
    answers(client, "PutObject", refusal(400, "BadDigest"))
    with pytest.raises(StoreUnavailable):
        put(store)


def test_an_object_in_cold_storage_says_so(store: S3Store, client: "S3Client") -> None:
    answers(client, "GetObject", refusal(403, "InvalidObjectState"))
    with pytest.raises(StoreRefused, match="cold storage"):
        store.get("a")


def test_half_an_answer_is_unavailable_and_never_half_an_object(store: S3Store, client: "S3Client") -> None:
    on_request(client, "GetObject", lambda _: reply(200, BODY[:10], length=len(BODY)))
    with pytest.raises(StoreUnavailable) as caught:
        store.get("a")
    one_line_without_botocore(caught.value)
    with store.open("a") as file, pytest.raises(StoreUnavailable) as caught:
        file.read()
    one_line_without_botocore(caught.value)


class Undecodable(HTTPResponse):
    """A body that fails with an error of urllib3 that botocore does not translate."""

    def read(self, *_: object, **__: object) -> bytes:
        raise DecodeError("hunter2")


def test_no_error_of_urllib3_escapes_from_a_stream(store: S3Store, client: "S3Client") -> None:
    whole = reply(200, BODY)
    whole.raw = Undecodable(io.BytesIO(BODY), preload_content=False)
    on_request(client, "GetObject", lambda _: whole)
    with store.open("a") as file, pytest.raises(StoreUnavailable) as caught:
        file.read()
    one_line_without_botocore(caught.value)


def test_a_list_that_breaks_on_its_second_page_says_so(store: S3Store, client: "S3Client") -> None:
    page = b"""<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>
        <Contents><Key>pre/fix/a</Key><Size>1</Size></Contents></ListBucketResult>"""
    answers(client, "ListObjectsV2", reply(200, page), refusal(503, "SlowDown"))
    listed = store.list("")
    assert next(listed).key == "a"
    with pytest.raises(StoreUnavailable):
        next(listed)


def test_get_of_a_missing_key_names_it(store: S3Store) -> None:
    with pytest.raises(ObjectMissing, match="pre/fix/manifests/1"):
        store.get("manifests/1")


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The environment of a machine on which nobody has ever used AWS."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return monkeypatch


def bucket_url(client: "S3Client") -> str:
    sent = answers(client, "HeadBucket", reply(200))
    client.head_bucket(Bucket="my-bucket")
    return sent[0]


def with_keys(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", "k")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "s")


def test_at_amazon_the_bucket_is_in_the_host_name(no_aws: pytest.MonkeyPatch) -> None:
    with_keys(no_aws)
    no_aws.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert bucket_url(connect()) == "https://my-bucket.s3.eu-central-1.amazonaws.com/"


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_at_an_endpoint_the_bucket_is_in_the_path(no_aws: pytest.MonkeyPatch, name: str) -> None:
    with_keys(no_aws)
    no_aws.setenv(name, "https://minio.example.com:9000")
    assert bucket_url(connect()) == "https://minio.example.com:9000/my-bucket"


def test_a_configured_addressing_style_goes_before(no_aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_keys(no_aws)
    no_aws.setenv("AWS_ENDPOINT_URL_S3", "https://oss.example.com")
    (tmp_path / "config").write_text("[default]\ns3 =\n  addressing_style = virtual\n")
    assert bucket_url(connect()) == "https://my-bucket.oss.example.com/"


@pytest.mark.parametrize("endpoint_set", [True, False])
def test_patience_and_checksums_are_set_not_inherited(no_aws: pytest.MonkeyPatch, endpoint_set: bool) -> None:
    if endpoint_set:
        no_aws.setenv("AWS_ENDPOINT_URL_S3", "https://minio.example.com")
    no_aws.setenv("AWS_MAX_ATTEMPTS", "1")
    no_aws.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    config = vars(connect().meta.config)
    assert config["retries"] == {"mode": "standard", "total_max_attempts": 5}
    assert (config["connect_timeout"], config["read_timeout"]) == (5, 60)
    assert config["request_checksum_calculation"] == "when_required"
    assert config["response_checksum_validation"] == "when_required"
    assert config["s3"]["payload_signing_enabled"] is True
    assert config["max_pool_connections"] >= 32


def test_a_machine_without_credentials_is_told_what_to_set(no_aws: pytest.MonkeyPatch, endpoint: str) -> None:
    no_aws.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    for _, call in each_verb(S3Store("bucket", "")):
        with pytest.raises(StoreRefused, match="AWS_PROFILE"):
            call()


def test_an_unknown_profile_is_refused_when_the_store_is_opened(no_aws: pytest.MonkeyPatch) -> None:
    no_aws.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreRefused, match="AWS_PROFILE names"):
        S3Store("bucket", "")


def test_half_a_configuration_is_refused_when_the_store_is_opened(no_aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("no section\n")
    with pytest.raises(StoreRefused, match="settings cannot be used"):
        S3Store("bucket", "")


def test_a_store_that_only_says_that_it_has_locked_is_refused(store: S3Store, client: "S3Client") -> None:
    put(store)
    on_request(client, "PutObjectRetention", lambda _: reply(200))

    with pytest.raises(StoreRefused, match="did not lock"):
        store.lengthen("a/b", Lock(mode="COMPLIANCE", until=datetime(2100, 1, 1, tzinfo=UTC)))


@pytest.mark.parametrize(
    ("wanted", "said"), [("COMPLIANCE", "keep to GOVERNANCE"), ("GOVERNANCE", "the role needs s3:PutObjectRetention")]
)
def test_a_store_that_makes_no_lock_harder_says_to_keep_to_its_mode(
    client: "S3Client", wanted: Literal["GOVERNANCE", "COMPLIANCE"], said: str
) -> None:
    client.create_bucket(Bucket=(name := f"locked-{uuid4().hex}"), ObjectLockEnabledForBucket=True)
    store = S3Store(name, "a/prefix", client)
    put(store)
    store.lengthen("a/b", Lock(mode="GOVERNANCE", until=datetime(2099, 1, 1, tzinfo=UTC)))
    answers(client, "PutObjectRetention", refusal(403, "AccessDenied"))

    with pytest.raises(StoreRefused, match=said):
        store.lengthen("a/b", Lock(mode=wanted, until=datetime(2100, 1, 1, tzinfo=UTC)))


def test_to_hold_what_is_not_there_says_so(store: S3Store, client: "S3Client") -> None:
    answers(client, "PutObjectLegalHold", refusal(404, "NoSuchKey"))

    with pytest.raises(ObjectMissing):
        store.hold("a/b")


UNTIL = datetime(2100, 1, 1, tzinfo=UTC)
ASKING = Terms(kms_key_id="1234abcd-12ab-34cd-56ef-1234567890ab", storage_class="STANDARD_IA")
KEPT = {
    "content-type": "application/json",
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-server-side-encryption-aws-kms-key-id": f"arn:aws:kms:eu-central-1:123456789012:key/{ASKING.kms_key_id}",
    "x-amz-storage-class": "STANDARD_IA",
    "x-amz-object-lock-mode": "COMPLIANCE",
    "x-amz-object-lock-retain-until-date": "2100-01-01T00:00:00Z",
    "x-amz-object-lock-legal-hold": "ON",
}
ALL = Care(lock=Lock(mode="COMPLIANCE", until=UNTIL), held=True, is_payload=True)


def asking(
    client: "S3Client", bucket: str, answer: dict[str, Any]
) -> tuple[S3Store, list[AWSPreparedRequest], list[str]]:
    puts = list[AWSPreparedRequest]()

    def take(request: AWSPreparedRequest) -> AWSResponse:
        puts.append(request)
        return reply(200)

    on_request(client, "PutObject", take)
    headers: dict[str, Any] = dict(answer)
    looks = answers(client, "HeadObject", reply(200, b"", **headers))
    return S3Store(bucket, "a", client, terms=ASKING), puts, looks


def test_what_is_asked_goes_with_the_put_and_is_read_back_once(client: "S3Client", bucket: str) -> None:
    store, puts, looks = asking(client, bucket, KEPT)
    for name in "xyz":
        assert store.put(name, BODY, sha256=SHA, care=ALL)

    assert len(looks) == 1
    sent = {name: header(puts[0], name) for name in KEPT if name in puts[0].headers and name != "content-type"}
    assert sent == {
        **{name: value for name, value in KEPT.items() if name != "content-type"},
        "x-amz-server-side-encryption-aws-kms-key-id": ASKING.kms_key_id,
    }


def test_a_record_has_no_storage_class_of_its_own(client: "S3Client", bucket: str) -> None:
    store, puts, _ = asking(client, bucket, KEPT)
    assert store.put("record.json", BODY, sha256=SHA)

    assert "x-amz-storage-class" not in puts[0].headers


@pytest.mark.parametrize(
    ("header", "value", "ignored"),
    [
        ("x-amz-server-side-encryption", "AES256", "ARCHIVE_KMS_KEY_ID"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:eu-central-1:1:key/2", "ARCHIVE_KMS_KEY_ID"),
        ("x-amz-storage-class", "STANDARD", "ARCHIVE_STORAGE_CLASS"),
        ("x-amz-object-lock-mode", "GOVERNANCE", "ARCHIVE_LOCK_MODE"),
        ("x-amz-object-lock-retain-until-date", "2099-12-31T23:59:59Z", "ARCHIVE_LOCK_MODE"),
        ("x-amz-object-lock-legal-hold", "OFF", "the legal hold"),
    ],
)
def test_a_store_that_ignores_what_it_is_told_is_refused(
    client: "S3Client", bucket: str, header: str, value: str, ignored: str
) -> None:
    store, _, _ = asking(client, bucket, {**KEPT, header: value})

    with pytest.raises(StoreRefused, match=f"ignored {ignored} for x") as caught:
        store.put("x", BODY, sha256=SHA, care=ALL)
    one_line_without_botocore(caught.value)

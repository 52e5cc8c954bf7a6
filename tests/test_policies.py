"""The roles in `deployments/aws` may do what the code does, and nothing that harms an archive."""

import io
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import hcl2
import pytest
from botocore.exceptions import ClientError
from parliament import analyze_policy_string, iam_definition

from formant_archive import cli
from formant_archive.catalogue import EVERYTHING, read_catalogue
from formant_archive.custody import Custodian
from formant_archive.errors import StoreRefused
from formant_archive.manifest import digest
from formant_archive.retention import Keeping, Rule
from formant_archive.stores.custody import open_custody
from formant_archive.stores.s3 import S3Store, connect
from tests import plain, policies
from tests.export import calls
from tests.policies import ADMIN, BUCKET, KEY, NAMES, POLICIES, PREFIX, REGION, ROLES, GuardedS3, Request, allows

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

AWS = POLICIES.parent
EVERY = sorted(path.stem for path in POLICIES.glob("*.json"))
each_policy = pytest.mark.parametrize("name", EVERY)
each_role = pytest.mark.parametrize("role", ROLES)
MANIFEST = f"{NAMES['archive_arn']}/manifests/00000000000000000001.json"
CALL = f"{NAMES['archive_arn']}/conversations/agent_id=1/date=2026-03-18/c1"
ONLY_NEW = {"s3:if-none-match": "*", "s3:ObjectCreationOperation": "true"}


# What is written


@each_policy
def test_each_statement_is_explained_in_the_table(name: str) -> None:
    said = (AWS / "README.md").read_text().partition(f"### `{name}.json`")[2].partition("###")[0]

    told = re.findall(r"^\| `(\w+)` \| .+ \|$", said, re.MULTILINE)

    assert told == [one["Sid"] for one in policies.statements(name)]


def unknown_words(text: str) -> set[str]:
    """Name the actions, and the condition keys of an action, that AWS's own reference does not have."""
    return {word for one in json.loads(text)["Statement"] for action in one["Action"] for word in _unknown(one, action)}


def _unknown(statement: policies.Statement, action: str) -> set[str]:
    prefix, _, name = action.partition(":")
    (service,) = [one for one in iam_definition if one["prefix"] == prefix]
    (known,) = [one for one in service["privileges"] if one["privilege"] == name] or [None]
    if known is None:
        return {action}
    keys = {key for kind in known["resource_types"] for key in kind["condition_keys"]}
    asked = {key for each in statement.get("Condition", {}).values() for key in each}
    return {key for key in asked if key.startswith(f"{prefix}:")} - keys


def spelled_out(name: str) -> str:
    """A policy whose actions are a list, and none of them `*`."""
    whole = json.loads(policies.text_of(name))["Statement"]
    some = ["s3:PutObject", "s3:GetObject", "s3:ListBucket", "s3:DeleteObjectVersion"]
    for one in whole:
        one["Action"] = some if one["Action"] == "s3:*" else policies.listed(one["Action"])
    return json.dumps({"Statement": whole})


@pytest.mark.parametrize("name", [*ROLES, "bucket"])
def test_aws_knows_each_action_and_each_condition_key_of_the_action(name: str) -> None:
    assert unknown_words(spelled_out(name)) == set()


@pytest.mark.parametrize(
    ("right", "wrong"), [("s3:if-none-match", "s3:if-nonematch"), ("ListBucketVersions", "ListBucketVersion")]
)
def test_a_misspelt_word_is_found(right: str, wrong: str) -> None:
    assert len(unknown_words(spelled_out("writer").replace(right, wrong))) == 1


#: Where the linter errs: it takes 1.2 for no number, and wants an ARN's operator for a key that may be named by its id.
ERRS = ("s3:TlsVersion", "StringNotEquals requires a value of type String but given Arn")


@pytest.mark.parametrize("name", [*ROLES, "bucket"])
def test_a_linter_of_policies_finds_no_fault(name: str) -> None:
    found = [f"{one.issue}: {one.detail}" for one in analyze_policy_string(policies.text_of(name)).findings]

    assert [one for one in found if not any(known in one for known in ERRS)] == []


@each_policy
def test_a_bucket_or_role_policy_fits_where_aws_keeps_it(name: str) -> None:
    # 20 KB for a bucket's, 10,240 characters without white space for all that are inline in a role.
    assert len(json.dumps(json.loads(policies.text_of(name)))) < 10_240


# What the code needs

#: The longest lock that the bucket allows.
LOCKING = replace(plain.EAGER, keeping=Keeping("GOVERNANCE", (Rule(3653),)))


@cache
def client_of(url: str, role: str) -> "S3Client":
    session = boto3.session.Session(role, "secret", region_name=REGION)
    client: S3Client = session.client("s3", endpoint_url=url)
    return client


def be(role: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Act as a role from here on, by the environment alone."""
    for name in os.environ:
        if name.upper().startswith(("ARCHIVE_", "FORMANT_", "AWS_")):
            monkeypatch.delenv(name)
    values = {"ACCESS_KEY_ID": role, "SECRET_ACCESS_KEY": "secret", "REGION": REGION, "ENDPOINT_URL_S3": url}
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)


def hold(clock: plain.Clock) -> None:
    """Hold everything, with the retention that the archive has."""
    store = open_custody(f"s3://{BUCKET}/{PREFIX}")
    officer = Custodian(
        store,
        read_catalogue(store),
        by="ben",
        run_id="act-1",
        version="test",
        now=clock(),
        retention=LOCKING.longest_retention(clock()),
    )
    officer.place("case-1", EVERYTHING)


@pytest.fixture(scope="module")
def s3() -> Iterator[GuardedS3]:
    """A locked bucket behind the policies, with an archive that the writer has made."""
    with policies.serving() as guarded, pytest.MonkeyPatch.context() as patch:
        admin = client_of(guarded.url, ADMIN)
        admin.create_bucket(
            Bucket=BUCKET,
            ObjectLockEnabledForBucket=True,
            CreateBucketConfiguration={"LocationConstraint": REGION},
        )
        rule: Any = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 30}}
        admin.put_object_lock_configuration(
            Bucket=BUCKET, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
        )
        be("writer", guarded.url, patch)
        clock = plain.Clock()
        sim, writer = calls.workspace(clock), S3Store(BUCKET, PREFIX, connect())
        plain.archive(plain.client_of(sim, clock), writer, clock, policy=LOCKING)
        be("hold-officer", guarded.url, patch)
        hold(clock)
        be("writer", guarded.url, patch)
        calls.archive(sim, writer, clock, LOCKING)
        yield guarded


@pytest.fixture
def act(s3: GuardedS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    monkeypatch.chdir(tmp_path)
    return lambda role: be(role, s3.url, monkeypatch)


def run(*arguments: str) -> int:
    try:
        return cli.exit_code(lambda: cli.app(arguments, exit_on_error=False, print_error=False))
    except SystemExit as end:
        return int(end.code or 0)


URL = f"s3://{BUCKET}/{PREFIX}"
READING: list[tuple[str, ...]] = [
    ("verify", URL, "--deep"),
    ("status", URL),
    ("list", URL, "--limit", "3"),
    ("export", "--everything", "--to", "handed-over", "--archive-url", URL),
]


@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
@pytest.mark.parametrize("role", ["writer", "auditor"])
def test_the_writer_and_the_auditor_can_read_the_archive(
    act: Callable[[str], None], role: str, command: tuple[str, ...]
) -> None:
    act(role)

    assert run(*command) == 0


#: What a person does with other tools than ours.
BY_HAND = {
    "writer": set[str](),
    "auditor": {
        "s3:GetObjectVersion",
        "s3:GetBucketObjectLockConfiguration",
        "s3:GetBucketPolicy",
        "s3:GetBucketPublicAccessBlock",
        "s3:GetBucketVersioning",
        "s3:GetEncryptionConfiguration",
        "s3:GetLifecycleConfiguration",
    },
}


@pytest.mark.parametrize("role", sorted(BY_HAND))
def test_the_role_has_no_right_that_the_code_does_not_use(s3: GuardedS3, act: Callable[[str], None], role: str) -> None:
    act(role)
    for command in READING:
        assert run(*command) == 0
    granted = {action for one in policies.statements(role) for action in policies.listed(one["Action"])}

    assert {one for one in granted if one.startswith("s3:")} - BY_HAND[role] == s3.used[role]
    assert not BY_HAND[role] & s3.used[role]


def test_a_missing_object_is_not_a_denied_one(s3: GuardedS3, act: Callable[[str], None]) -> None:
    act("writer")

    assert S3Store(BUCKET, PREFIX).stat("manifests/99999999999999999999.json") is None


def test_the_lock_is_shown_to_who_verifies(s3: GuardedS3, act: Callable[[str], None]) -> None:
    for role in ("writer", "auditor"):
        act(role)
        stat = S3Store(BUCKET, PREFIX).stat("manifests/00000000000000000001.json")

        assert stat is not None
        assert stat.lock is not None


def test_outside_of_the_archives_folder_nothing_can_be_written_or_read(
    s3: GuardedS3, act: Callable[[str], None]
) -> None:
    act("writer")
    elsewhere = S3Store(BUCKET, "elsewhere")

    with pytest.raises(StoreRefused, match="s3:PutObject"):
        elsewhere.put("a", io.BytesIO(b"a"), sha256=digest(b"a"))
    with pytest.raises(StoreRefused, match="s3:GetObject"):
        elsewhere.get("a")


# What custodians do


def test_the_hold_officer_and_the_eraser_can_do_their_work_and_need_all_of_their_rights(
    act: Callable[[str], None], s3: GuardedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    act("auditor")
    store = S3Store(BUCKET, PREFIX)
    one, two = (entry.conversation_id for entry in plain.entries(store)[:2])
    monkeypatch.setenv("ARCHIVE_URL", URL)
    act("hold-officer")
    monkeypatch.setenv("ARCHIVE_URL", URL)
    later = f"{datetime.now(UTC) + timedelta(days=3600):%Y-%m-%d}"
    assert run("hold", "release", one, "--case", "case-1") == 0
    assert run("retain", two, "--extend-to", later, "--mode", "governance") == 0
    act("eraser")
    monkeypatch.setenv("ARCHIVE_URL", URL)
    monkeypatch.setenv("ARCHIVE_LOCK_MODE", "governance")
    monkeypatch.setenv("ARCHIVE_RETENTION_DAYS", "3653")
    why = ("--reason", "asked to", "--legal-basis", "GDPR 17(1)(b)")
    assert run("erase", two, *why) == 1
    assert run("erase", one, *why) == 1
    assert run("erase", one, *why, "--bypass-governance") == 0
    act("auditor")
    assert run("verify", URL) == 0

    for role in ("hold-officer", "eraser"):
        granted = {action for each in policies.statements(role) for action in policies.listed(each["Action"])}
        assert {right for right in granted if right.startswith("s3:")} == s3.used[role], role


# What harms an archive

SOME = f"{PREFIX}/manifests/00000000000000000001.json"
SOON = datetime(2100, 1, 1, tzinfo=UTC)
Attack = Callable[["S3Client", str], object]
ATTACKS: dict[str, Attack] = {
    "put without a condition": lambda s3, _: s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}/new", Body=b""),
    "overwrite": lambda s3, _: s3.put_object(Bucket=BUCKET, Key=SOME, Body=b"{}"),
    "delete": lambda s3, _: s3.delete_object(Bucket=BUCKET, Key=SOME),
    "delete several": lambda s3, _: s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": SOME}]}),
    "remove a version": lambda s3, version: s3.delete_object(Bucket=BUCKET, Key=SOME, VersionId=version),
    "remove a version past its lock": lambda s3, version: s3.delete_object(
        Bucket=BUCKET, Key=SOME, VersionId=version, BypassGovernanceRetention=True
    ),
    "shorten its lock": lambda s3, _: s3.put_object_retention(
        Bucket=BUCKET,
        Key=SOME,
        BypassGovernanceRetention=True,
        Retention={"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(days=1)},
    ),
    "lock it for ever": lambda s3, _: s3.put_object_retention(
        Bucket=BUCKET, Key=SOME, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": SOON}
    ),
    "begin an upload in parts over it": lambda s3, _: _in_parts(s3),
    "another key": lambda s3, _: s3.put_object(
        Bucket=BUCKET,
        Key=f"{PREFIX}/manifests/new",
        Body=b"",
        IfNoneMatch="*",
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId=f"{KEY}-of-others",
    ),
    "no key": lambda s3, _: s3.put_object(
        Bucket=BUCKET, Key=f"{PREFIX}/manifests/new", Body=b"", IfNoneMatch="*", ServerSideEncryption="AES256"
    ),
    "the bucket's policy": lambda s3, _: s3.delete_bucket_policy(Bucket=BUCKET),
    "the bucket's lock": lambda s3, _: s3.put_object_lock_configuration(
        Bucket=BUCKET, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
    ),
    "the bucket's versions": lambda s3, _: s3.put_bucket_versioning(
        Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"}
    ),
    "the bucket": lambda s3, _: s3.delete_bucket(Bucket=BUCKET),
}


def _in_parts(s3: "S3Client") -> None:
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=SOME)["UploadId"]
    part = s3.upload_part(Bucket=BUCKET, Key=SOME, UploadId=upload, PartNumber=1, Body=b"{}")
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket=BUCKET, Key=SOME, UploadId=upload, MultipartUpload=parts)


@each_role
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_role_can_harm_a_manifest_or_the_bucket(s3: GuardedS3, role: str, attack: str) -> None:
    version = client_of(s3.url, ADMIN).head_object(Bucket=BUCKET, Key=SOME)["VersionId"]

    with pytest.raises(ClientError) as refused:
        ATTACKS[attack](client_of(s3.url, role), version)

    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert client_of(s3.url, ADMIN).head_object(Bucket=BUCKET, Key=SOME)["VersionId"] == version


def test_what_the_policies_refuse_would_have_worked(s3: GuardedS3) -> None:
    """An Object Lock alone does not stop an overwriting or a marker: behind it a key is free again."""
    admin = client_of(s3.url, ADMIN)
    place: Any = {"Bucket": "unguarded", "Key": SOME}
    admin.create_bucket(
        Bucket="unguarded",
        ObjectLockEnabledForBucket=True,
        CreateBucketConfiguration={"LocationConstraint": REGION},
    )
    first = admin.put_object(**place, Body=b"{}", IfNoneMatch="*", ChecksumAlgorithm="SHA256")["VersionId"]

    assert admin.put_object(**place, Body=b"{}")["VersionId"] != first
    assert admin.delete_object(**place)["DeleteMarker"]
    assert admin.put_object(**place, Body=b"forged", IfNoneMatch="*")["VersionId"] != first


def test_who_may_put_where() -> None:
    may = {
        (role, place)
        for role in ROLES
        for place, arn in {"manifests": MANIFEST, "conversations": f"{CALL}/record.json"}.items()
        if allows(Request("s3:PutObject", arn, role, ONLY_NEW))
    }

    assert may == {
        ("writer", "manifests"),
        ("writer", "conversations"),
        ("hold-officer", "manifests"),
        ("eraser", "manifests"),
    }


@pytest.mark.parametrize(
    ("action", "who"),
    [
        ("s3:GetObject", {"writer", "auditor"}),
        ("s3:PutObjectLegalHold", {"hold-officer"}),  # Ending it, or saying nothing.
        ("s3:PutObjectRetention", {"hold-officer", "writer"}),
        ("s3:DeleteObject", set[str]()),
        ("s3:DeleteObjectVersion", {"eraser"}),
        ("s3:BypassGovernanceRetention", {"eraser"}),
        ("s3:PutObjectAcl", set[str]()),
        ("s3:PutObjectTagging", set[str]()),
        ("s3:RestoreObject", set[str]()),
    ],
)
def test_who_may_do_what_with_a_recording(action: str, who: set[str]) -> None:
    assert {role for role in ROLES if allows(Request(action, f"{CALL}/recording.wav", role))} == who


@pytest.mark.parametrize(
    ("status", "who"), [("ON", {"writer", "hold-officer"}), ("OFF", {"hold-officer"}), ("", {"hold-officer"})]
)
def test_the_writer_may_place_a_hold_and_not_end_one(status: str, who: set[str]) -> None:
    context = {"s3:object-lock-legal-hold": status} if status else {}
    right = "s3:PutObjectLegalHold"

    assert {role for role in ROLES if allows(Request(right, f"{CALL}/recording.wav", role, context))} == who


@each_role
@pytest.mark.parametrize("weak", [{"aws:SecureTransport": "false"}, {"s3:TlsVersion": "1.1"}])
def test_nothing_goes_without_todays_tls(role: str, weak: dict[str, str]) -> None:
    listing = Request("s3:ListBucket", NAMES["bucket_arn"], role)

    assert allows(listing)
    assert not allows(Request(listing.action, listing.resource, role, weak))


#: By the statement of the bucket that it breaks: an action, and what it has besides a put that is well.
BROKEN: dict[str, tuple[str, dict[str, str]]] = {
    "TlsOnly": ("s3:PutObject", {"aws:SecureTransport": "false"}),
    "NoOldTls": ("s3:PutObject", {"s3:TlsVersion": "1.1"}),
    "NoDeleteMarkers": ("s3:DeleteObject", {}),
    "OnlyTheEraserRemoves": ("s3:DeleteObjectVersion", {}),
    "OnlyTheHoldOfficerReleases": ("s3:PutObjectLegalHold", {}),
    "NoRetentionBeyondTheCap": ("s3:PutObject", {"s3:object-lock-remaining-retention-days": "36500"}),
    "NoOtherKey": ("s3:PutObject", {"s3:x-amz-server-side-encryption-aws-kms-key-id": "alias/theirs"}),
    "NoOtherEncryption": ("s3:PutObject", {"s3:x-amz-server-side-encryption": "AES256"}),
    "NoCustomerKeys": ("s3:PutObject", {"s3:x-amz-server-side-encryption-customer-algorithm": "AES256"}),
}


@pytest.mark.parametrize("sid", BROKEN)
def test_the_bucket_refuses_also_who_has_every_right_in_the_account(sid: str) -> None:
    action, context = BROKEN[sid]

    assert allows(Request("s3:PutObject", MANIFEST, ADMIN, ONLY_NEW))
    assert not allows(Request(action, MANIFEST, ADMIN, ONLY_NEW | context))


@pytest.mark.parametrize(
    ("method", "query", "headers", "may"),
    [
        ("PUT", "", {"if-none-match": "*"}, True),
        ("PUT", "", {}, False),
        ("PUT", "", {"x-amz-copy-source": "b/k"}, False),
        ("POST", "uploads", {}, True),
        ("PUT", "uploadId=1&partNumber=1", {}, True),
        ("POST", "uploadId=1", {"if-none-match": "*"}, True),
        ("POST", "uploadId=1", {}, False),
    ],
)
def test_whoever_creates_an_object_must_say_that_it_is_new(
    method: str, query: str, headers: dict[str, str], may: bool
) -> None:
    (request,) = policies.needed(method, f"/{BUCKET}/{SOME}", query, headers, ADMIN)

    assert allows(request) is may


def test_each_statement_of_the_bucket_is_broken_once_here() -> None:
    assert {one["Sid"] for one in policies.statements("bucket")} == BROKEN.keys() | {"CreateOnly"}


@pytest.mark.parametrize(("days", "may"), [("3653", True), ("3654", False)])
def test_a_retention_ends_at_the_cap(days: str, may: bool) -> None:
    context = {"s3:object-lock-remaining-retention-days": days}

    assert allows(Request("s3:PutObjectRetention", MANIFEST, "hold-officer", context)) is may


@pytest.mark.parametrize(
    ("header", "value", "may"),
    [
        ("", "", True),
        ("s3:x-amz-server-side-encryption", "aws:kms", True),
        ("s3:x-amz-server-side-encryption", "AES256", False),
        ("s3:x-amz-server-side-encryption-aws-kms-key-id", KEY, True),
        ("s3:x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:eu-central-1:1:key/2", False),
        ("s3:x-amz-server-side-encryption-customer-algorithm", "AES256", False),
    ],
)
def test_a_put_is_encrypted_with_the_buckets_key_also_where_it_names_none(header: str, value: str, may: bool) -> None:
    # Our writer sends no such header: the bucket's default encryption decides.
    context = ONLY_NEW | ({header: value} if header else {})

    assert allows(Request("s3:PutObject", MANIFEST, "writer", context)) is may


@each_role
def test_the_key_is_used_through_s3_alone(role: str) -> None:
    through = {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}

    assert allows(Request("kms:Decrypt", KEY, role, through))
    assert not allows(Request("kms:Decrypt", KEY, role))
    assert not allows(Request("kms:Decrypt", KEY, role, {"kms:ViaService": "s3.us-east-1.amazonaws.com"}))
    assert allows(Request("kms:GenerateDataKey", KEY, role, through)) is (role != "auditor")
    assert not allows(Request("kms:ScheduleKeyDeletion", KEY, role, through))


def test_an_unknown_element_is_not_judged() -> None:
    with pytest.raises(KeyError):
        policies.needed("PATCH", f"/{BUCKET}/a", "", {}, "writer")


# Terraform

Block = dict[str, Any]


def terraform(kind: str) -> list[Block]:
    found = [hcl2.loads(path.read_text()) for path in sorted(AWS.glob("*.tf"))]
    return [block for file in found for block in file.get(kind, [])]


def resources() -> dict[str, Block]:
    """By `type.name`."""
    return {
        f"{kind}.{name}".replace('"', ""): body
        for block in terraform("resource")
        for kind, named in block.items()
        if kind != "__is_block__"
        for name, body in named.items()
        if name != "__is_block__"
    }


def test_every_policy_of_terraform_is_one_of_the_files() -> None:
    written = [
        value for one in resources().values() for name, value in one.items() if name in ("policy", "assume_role_policy")
    ]

    used = [re.match(r'\$\{templatefile\(\\?"\$\{path\.module\}/policies/([\w${}.-]+)\.json', one) for one in written]

    assert all(used), written
    named = {one.group(1) for one in used if one}
    assert named == {"bucket", "writer", "trust-service", "trust-person", "${each.key}"}
    people = {name.strip('"') for name in terraform("locals")[0]["people"]}
    assert (named - {"${each.key}"}) | people == set(EVERY)


def test_terraform_fills_in_every_name_of_the_policies() -> None:
    text = (AWS / "main.tf").read_text()
    for name in EVERY:
        for wanted in re.findall(r"\$\{(\w+)\}", (POLICIES / f"{name}.json").read_text()):
            assert re.search(rf"\b{wanted}\s+=", text), f"{name}: {wanted}"


def test_the_bucket_is_locked_versioned_private_and_encrypted() -> None:
    made = resources()
    public = made["aws_s3_bucket_public_access_block.archive"]
    versions = made["aws_s3_bucket_versioning.archive"]["versioning_configuration"][0]
    retention = made["aws_s3_bucket_object_lock_configuration.archive"]["rule"][0]["default_retention"][0]
    encryption = made["aws_s3_bucket_server_side_encryption_configuration.archive"]["rule"][0]

    assert made["aws_s3_bucket.archive"]["object_lock_enabled"] is True
    assert made["aws_s3_bucket.archive"]["lifecycle"][0]["prevent_destroy"] is True
    assert "force_destroy" not in made["aws_s3_bucket.archive"]
    assert versions["status"] == '"Enabled"'
    assert (retention["mode"], retention["days"]) == ("${var.lock_mode}", "${var.retention_days}")
    assert [value for name, value in public.items() if name.startswith(("block_", "ignore_", "restrict_"))] == [
        True
    ] * 4
    assert encryption["apply_server_side_encryption_by_default"][0]["sse_algorithm"] == '"aws:kms"'
    assert made["aws_s3_bucket_ownership_controls.archive"]["rule"][0]["object_ownership"] == '"BucketOwnerEnforced"'


def test_no_lifecycle_rule_expires_or_moves_anything() -> None:
    (rule,) = resources()["aws_s3_bucket_lifecycle_configuration.archive"]["rule"]

    assert {name for name in rule if not name.startswith("__")} == {
        "id",
        "status",
        "filter",
        "abort_incomplete_multipart_upload",
    }


def test_how_long_and_who_must_be_said() -> None:
    variables = {name.strip('"'): body for block in terraform("variable") for name, body in block.items()}

    needed = {name for name, body in variables.items() if isinstance(body, dict) and "default" not in body}

    assert needed == {"region", "bucket", "retention_days", "auditor_arn", "hold_officer_arn", "eraser_arn"}

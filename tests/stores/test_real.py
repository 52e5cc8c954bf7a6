"""What real S3 servers do, as `tests/stores/README.md` has it, and what the doctor and a first run make of it."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from formant_archive.crew import abreast
from formant_archive.doctor import Check
from formant_archive.doctor.storage import Examination, examine
from formant_archive.errors import UnsafeStore
from formant_archive.ledger import Head
from formant_archive.race import proved
from formant_archive.stores.bucket import Bucket
from tests.stores.servers import Server, asked

Place = tuple[Server, str]

#: What the doctor says of each bucket to a key that owns it, one letter of its state after another.
LOOKED_AT = ("one winner", "listing", "checksums", "versions", "retention", "encryption", "rights", "object lock")
SAID = {
    ("ceph-20", "plain"): "o o o w w w w f",
    ("ceph-20", "locked"): "f o o o w w w w",
    ("ceph-18", "plain"): "o o w w w w w f",
    ("ceph-18", "locked"): "f o w o w w w w",
    ("swift", "plain"): "f o o w w w w f",
}
MET = [one for one in SAID if one[0] in asked()]

each_bucket = pytest.mark.parametrize("place", MET, indirect=True, ids="-".join)


def made(server: Server, *, locked: bool) -> str:
    name = f"test-{uuid4().hex}"
    server.client().create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
    return name


@pytest.fixture
def place(request: pytest.FixtureRequest, real: Callable[[str], Server]) -> Place:
    name, kind = request.param
    server = real(name)
    return server, made(server, locked=kind == "locked")


@pytest.fixture
def crew() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads


def examined(bucket: Bucket) -> dict[str, Check]:
    it = Examination(store=bucket, name="one", each=abreast, rounds=30, with_lock=True)
    return {check.name: check for check in examine(it)}


@each_bucket
def test_the_doctor_finds_what_is_known_of_the_server(place: Place, request: pytest.FixtureRequest) -> None:
    server, name = place
    found = examined(Bucket(name, "a/prefix", server.client()))

    assert {name: found[name].state for name in ("bucket", "bucket clock", "write, read")} == {
        "bucket": "ok",
        "bucket clock": "ok",
        "write, read": "ok",
    }
    told = " ".join(found[name].state[0] for name in LOOKED_AT)
    assert told == SAID[request.node.callspec.params["place"]], [found[name].text for name in LOOKED_AT]


@each_bucket
def test_a_first_run_is_refused_where_several_writers_win(
    place: Place, request: pytest.FixtureRequest, crew: ThreadPoolExecutor
) -> None:
    server, name = place
    bucket = Bucket(name, "a", server.client())
    if SAID[request.node.callspec.params["place"]].startswith("o"):
        head = proved(bucket, Head(), "one", allow_unsafe=False, each=crew.map)
        assert head.race
        assert head.race.lost == 0
        return
    with pytest.raises(UnsafeStore):
        proved(bucket, Head(), "one", allow_unsafe=False, each=crew.map)
    head = proved(bucket, Head(), "two", allow_unsafe=True, each=crew.map)
    assert head.race
    assert head.race.lost > 0


@pytest.mark.parametrize("place", [one for one in MET if one[0] != "swift"], indirect=True, ids="-".join)
def test_a_key_that_may_only_create_and_read_has_just_the_rights(place: Place, request: pytest.FixtureRequest) -> None:
    server, name = place
    assert server.second
    allowed = {"Effect": "Allow", "Principal": {"AWS": server.second[2]}}
    objects = {"Action": ["s3:PutObject", "s3:GetObject"], "Resource": f"arn:aws:s3:::{name}/*"}
    listing = {"Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{name}"}
    policy = {"Version": "2012-10-17", "Statement": [allowed | objects, allowed | listing]}
    server.client().put_bucket_policy(Bucket=name, Policy=json.dumps(policy))

    found = examined(Bucket(name, "a", server.client(second=True)))

    assert found["rights"].state == "ok", found["rights"].text
    assert found["checksums"].state != "failure"
    # Ceph asks for no right to lock beyond s3:PutObject, as AWS does; it asks for one to lift a lock.
    is_locked = request.node.callspec.params["place"][1] == "locked"
    assert found["object lock"].state == ("ok" if is_locked else "failure")


@each_bucket
def test_asking_for_rights_leaves_at_most_a_marker_at_a_made_up_name(place: Place) -> None:
    server, name = place
    bucket = Bucket(name, "a", server.client())

    assert bucket.may("s3:DeleteObject", "doctor/one/never-DeleteObject") is True
    assert bucket.may("s3:DeleteObjectVersion", "doctor/one/never-DeleteObjectVersion") is True

    left = server.client().list_object_versions(Bucket=name)
    assert "Versions" not in left
    assert {one["Key"] for one in left.get("DeleteMarkers", [])} <= {"a/doctor/one/never-DeleteObject"}

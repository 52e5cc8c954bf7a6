"""What every store promises, proved for each of them."""

import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, BinaryIO, Literal
from uuid import uuid4

import pytest

from formant_archive.errors import ObjectMissing, StoreError, StoreRefused, StoreUnavailable
from formant_archive.stores import Care, Lock, Store
from formant_archive.stores.directory import DirectoryStore
from formant_archive.stores.s3 import S3Store
from tests.stores.memory import MemoryStore
from tests.stores.servers import Server, asked
from tests.stores.wire import on_request, reply

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BODY = bytes(range(256)) * 1200  # 300 kB, a minute of speech at 5 kB/s
# Of the real servers, by name and whether the bucket has Object Lock; `tests/stores/README.md` says what the others do.
KEEPS_CONTRACT = {("ceph-20", False), ("ceph-20", True), ("ceph-18", False), ("swift", False)}
LOSES_RACES = {"swift", "ceph-20-locked"}
ODD_KEYS = [
    "a/b c/d e.json",
    "a/%C3%A9%2F/conversation.json",
    "a/é/ü.json",
    "a/+&=;,@!$'()*~/x",
    f"{'n' * 200}/{'m' * 200}",
    ".hidden/..double/...",
    "a/.tmp-is-a-folder/x",
]


@dataclass
class Rig:
    """A store, and how to break the next stream of an object of it."""

    store: Store
    break_stream: Callable[[str], None]


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def keys(store: Store, prefix: str = "") -> list[str]:
    return sorted(found.key for found in store.list(prefix))


def put(store: Store, key: str, body: bytes = BODY) -> bool:
    return store.put(key, body, sha256=sha(body))


def no_links(source: Path, target: Path) -> None:
    raise PermissionError(1, "Operation not permitted")


def memory(request: pytest.FixtureRequest) -> Rig:
    store = MemoryStore()
    return Rig(store, lambda key: store.fail_next("read", StoreUnavailable("cut"), key_contains=key))


def directory(request: pytest.FixtureRequest, link: Callable[[Path, Path], None] = os.link) -> Rig:
    folder: Path = request.getfixturevalue("tmp_path") / "archive"

    def break_stream(key: str) -> None:
        # A file that opens and whose first byte cannot be read (EIO), for root too.
        (folder / key).unlink()
        (folder / key).symlink_to("/proc/self/mem")

    return Rig(DirectoryStore(folder, link=link), break_stream)


def directory_without_links(request: pytest.FixtureRequest) -> Rig:
    return directory(request, no_links)


def s3(request: pytest.FixtureRequest) -> Rig:
    client: S3Client = request.getfixturevalue("client")

    def break_stream(key: str) -> None:
        on_request(client, "GetObject", lambda _: reply(200, BODY[:1000], length=len(BODY)))

    return Rig(S3Store(request.getfixturevalue("bucket"), "a/prefix", client), break_stream)


def real_s3(name: str, *, locked: bool) -> Callable[[pytest.FixtureRequest], Rig]:
    """A bucket of a real server; one with Object Lock keeps versions, too."""

    def make(request: pytest.FixtureRequest) -> Rig:
        server: Server = request.getfixturevalue("real")(name)
        client, bucket = server.client(), f"test-{uuid4().hex}"
        client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=locked)

        def break_stream(key: str) -> None:
            on_request(client, "GetObject", lambda _: reply(200, BODY[:1000], length=len(BODY)))

        return Rig(S3Store(bucket, "a/prefix", client), break_stream)

    make.__name__ = f"{name}-locked" if locked else name
    return make


REAL = [
    real_s3(name, locked=locked) for name in asked() for locked in (False, True) if (name, locked) in KEEPS_CONTRACT
]


@pytest.fixture(params=[memory, directory, directory_without_links, s3, *REAL], ids=lambda make: make.__name__)
def rig(request: pytest.FixtureRequest) -> Rig:
    made: Rig = request.param(request)
    return made


@pytest.fixture
def store(rig: Rig) -> Store:
    return rig.store


def test_the_first_put_creates_the_object_and_says_so(store: Store) -> None:
    assert put(store, "a/b") is True
    assert store.get("a/b") == BODY


def test_the_second_put_says_that_the_key_is_taken_and_changes_nothing(store: Store) -> None:
    put(store, "a/b")
    assert put(store, "a/b", b"other") is False
    assert put(store, "a/b") is False
    assert store.get("a/b") == BODY
    assert keys(store) == ["a/b"]


@pytest.mark.parametrize("body", [BODY, io.BytesIO(BODY)], ids=["bytes", "file"])
def test_a_body_with_another_hash_is_refused_and_nothing_is_left(store: Store, body: bytes | BinaryIO) -> None:
    with pytest.raises(StoreRefused):
        store.put("a/b", body, sha256=sha(b"other"))
    assert keys(store) == []
    assert put(store, "a/b")


def test_an_empty_body_is_an_object(store: Store) -> None:
    assert put(store, "a/b", b"")
    assert store.get("a/b") == b""


def test_what_is_not_there_is_missing(store: Store) -> None:
    put(store, "a/b")
    with pytest.raises(ObjectMissing):
        store.get("a/other")
    with pytest.raises(ObjectMissing), store.open("other/b"):
        pass
    assert store.stat("a/other") is None
    assert list(store.list("other/")) == []


def test_a_folder_is_not_an_object(store: Store) -> None:
    put(store, "a/b/c")
    with pytest.raises(ObjectMissing):
        store.get("a/b")
    assert store.stat("a/b") is None


def test_an_empty_archive_answers_like_any_other(store: Store) -> None:
    assert store.stat("a") is None
    assert list(store.list("")) == []
    with pytest.raises(ObjectMissing):
        store.get("a")


def test_stat_tells_key_and_size_and_no_wrong_hash(store: Store) -> None:
    put(store, "a/b")
    found = store.stat("a/b")
    assert found is not None
    assert (found.key, found.size) == ("a/b", len(BODY))
    assert found.sha256 in (sha(BODY), None)


def test_a_stream_yields_the_whole_object_from_its_start(store: Store) -> None:
    put(store, "a/b")
    with store.open("a/b") as file:
        assert file.read(4) == BODY[:4]
        assert file.read() == BODY[4:]
        assert file.read(1) == b""


def test_a_stream_may_be_left_early(store: Store) -> None:
    put(store, "a/b")
    for _ in range(3):
        with store.open("a/b") as file:
            assert file.read(4) == BODY[:4]
    assert store.get("a/b") == BODY


def test_an_error_of_the_reader_passes_through_a_stream_unchanged(store: Store) -> None:
    put(store, "a/b")
    with pytest.raises(OSError, match="the reader's own"), store.open("a/b"):
        raise OSError("the reader's own")


def test_a_broken_stream_is_an_error_of_the_store(rig: Rig) -> None:
    put(rig.store, "a/b")
    rig.break_stream("a/b")
    with rig.store.open("a/b") as file, pytest.raises(StoreUnavailable):
        file.read()


def test_list_yields_exactly_what_is_under_the_prefix(store: Store) -> None:
    for key in ("ab/1", "ab/c/2", "abc/3", "ab.4", "z"):
        put(store, key, b"x")
    assert keys(store, "ab/") == ["ab/1", "ab/c/2"]
    assert keys(store, "ab/c/") == ["ab/c/2"]
    assert keys(store) == ["ab.4", "ab/1", "ab/c/2", "abc/3", "z"]
    assert {(found.size, found.sha256) for found in store.list("")} == {(1, None)}


def test_list_goes_on_after_a_thousand_keys(store: Store) -> None:
    expected = [f"a/{number:04}" for number in range(1, 1102)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: put(store, key, b"x"), expected))
    assert keys(store, "a/") == expected


@pytest.mark.parametrize("open_body", [io.BytesIO, tempfile.SpooledTemporaryFile], ids=["memory", "spooled"])
def test_a_file_is_read_from_its_start_and_left_open(store: Store, open_body: Callable[[], BinaryIO]) -> None:
    with open_body() as body:
        body.write(BODY)
        assert store.put("a/b", body, sha256=sha(BODY))
        assert not body.closed
        body.seek(7)
        assert store.put("a/c", body, sha256=sha(BODY))
    assert store.get("a/b") == store.get("a/c") == BODY


class BreaksOff(io.BytesIO):
    """A file that cannot be read to its end."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError("the body's own")
        return super().read(1000)


def test_a_body_that_breaks_off_leaves_nothing_and_its_error_is_its_owners(store: Store) -> None:
    with pytest.raises(OSError, match="the body's own") as caught:
        store.put("a/b", BreaksOff(BODY), sha256=sha(BODY))
    assert not isinstance(caught.value, StoreError)
    assert keys(store) == []
    assert put(store, "a/b")


@pytest.mark.parametrize("key", ODD_KEYS)
def test_an_odd_key_comes_back_as_it_was(store: Store, key: str) -> None:
    assert put(store, key, b"x")
    assert store.get(key) == b"x"
    assert keys(store) == [key]
    assert keys(store, key.rpartition("/")[0] + "/") == [key]


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\0b", ".."])
def test_what_is_no_key_is_our_own_mistake(store: Store, key: str) -> None:
    for call in (lambda: put(store, key), lambda: store.get(key), lambda: store.stat(key)):
        with pytest.raises(ValueError, match="not a key"):
            call()
    with pytest.raises(ValueError, match="not a key"), store.open(key):
        pass


@pytest.mark.parametrize("prefix", ["a", "/", "../", "a//"])
def test_what_is_no_prefix_is_our_own_mistake(store: Store, prefix: str) -> None:
    with pytest.raises(ValueError, match=r"not a (key|prefix)"):
        store.list(prefix)


# moto, Swift, and Ceph 20 where it keeps versions, are left out: they look and then write, so several writers can win.
RACES = [make for make in REAL if make.__name__ not in LOSES_RACES]


@pytest.mark.parametrize(
    "rig", [memory, directory, directory_without_links, *RACES], indirect=True, ids=lambda make: make.__name__
)
def test_of_sixteen_racing_writers_one_wins_and_its_object_is_whole(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        for number in range(20):
            race(store, f"race/{number}/x", pool)


def race(store: Store, key: str, pool: ThreadPoolExecutor) -> None:
    barrier = Barrier(16)

    def writer(mark: int) -> bool:
        body = bytes([mark]) * 10_000
        barrier.wait()
        return put(store, key, body)

    won = list(pool.map(writer, range(16)))
    assert won.count(True) == 1
    assert store.get(key) == bytes([won.index(True)]) * 10_000


def test_an_address_names_the_store_and_no_secret(store: Store) -> None:
    assert "secret" not in store.url
    assert ":" in store.url


def test_every_store_is_a_store(store: Store) -> None:
    stream: AbstractContextManager[BinaryIO] = store.open("a")
    listed: Iterator[object] = store.list("")
    assert stream
    assert list(listed) == []


# Locks

UNTIL = datetime(2100, 1, 1, tzinfo=UTC)
LOCK = Lock(mode="GOVERNANCE", until=UNTIL)


def locking_s3(request: pytest.FixtureRequest) -> Store:
    client: S3Client = request.getfixturevalue("client")
    client.create_bucket(Bucket=(name := f"locked-{uuid4().hex}"), ObjectLockEnabledForBucket=True)
    return S3Store(name, "pre/fix", client)


LOCKED = [make for make in REAL if make.__name__.endswith("-locked")]


@pytest.fixture(
    params=[lambda _: MemoryStore(), locking_s3, *(lambda request, make=make: make(request).store for make in LOCKED)],
    ids=["memory", "s3", *(make.__name__ for make in LOCKED)],
)
def locking(request: pytest.FixtureRequest) -> Store:
    made: Store = request.param(request)
    return made


def lock_of(store: Store, key: str = "a/b") -> Lock | None:
    stat = store.stat(key)
    assert stat is not None
    return stat.lock


def test_what_is_put_with_a_lock_has_it(locking: Store) -> None:
    assert locking.put("a/b", BODY, sha256=sha(BODY), care=Care(lock=LOCK))
    assert lock_of(locking) == LOCK


def test_a_put_of_a_taken_key_changes_no_lock(locking: Store) -> None:
    put(locking, "a/b")
    assert not locking.put("a/b", BODY, sha256=sha(BODY), care=Care(lock=LOCK))
    assert lock_of(locking) is None


@pytest.mark.parametrize("before", [None, LOCK], ids=["unlocked", "locked"])
@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
@pytest.mark.parametrize("days", [-1, 0, 1])
def test_a_lock_is_lengthened_and_never_becomes_weaker(
    locking: Store,
    before: Lock | None,
    mode: Literal["GOVERNANCE", "COMPLIANCE"],
    days: int,
    request: pytest.FixtureRequest,
) -> None:
    locking.put("a/b", BODY, sha256=sha(BODY), care=Care(lock=before))
    wanted = Lock(mode=mode, until=UNTIL + timedelta(days=days))
    if "ceph" in request.node.name and before is not None and before.mode != mode:
        # Ceph asks for s3:BypassGovernanceRetention, and for saying so, also where a lock becomes harder.
        with pytest.raises(StoreRefused, match="403"):
            locking.lengthen("a/b", wanted)
        assert lock_of(locking) == before
        return
    locking.lengthen("a/b", wanted)

    found = lock_of(locking)
    assert found is not None
    assert found.covers(wanted)
    assert before is None or found.covers(before)


# What real servers do without Object Lock differs: Ceph refuses in other words, Swift stores and does not lock.
@pytest.mark.parametrize("rig", [directory, directory_without_links, s3], indirect=True, ids=lambda make: make.__name__)
def test_a_store_that_cannot_lock_says_so_and_stores_nothing(store: Store) -> None:
    with pytest.raises(StoreRefused, match="ARCHIVE_LOCK_MODE"):
        store.put("a/b", BODY, sha256=sha(BODY), care=Care(lock=LOCK))
    assert keys(store) == []
    put(store, "a/b")
    with pytest.raises(StoreRefused, match="ARCHIVE_LOCK_MODE"):
        store.lengthen("a/b", LOCK)


# Holds


def held(store: Store, key: str = "a/b") -> bool | None:
    stat = store.stat(key)
    assert stat is not None
    return stat.held


def test_what_is_put_under_a_hold_is_held(locking: Store) -> None:
    assert locking.put("a/b", BODY, sha256=sha(BODY), care=Care(held=True))
    assert held(locking) is True
    assert put(locking, "a/c")
    assert held(locking, "a/c") is False


def test_an_object_comes_under_a_hold_as_often_as_one_likes(locking: Store) -> None:
    put(locking, "a/b")
    assert locking.hold("a/b")
    assert locking.hold("a/b")
    assert held(locking) is True


def test_nothing_cannot_be_held() -> None:
    # moto fails where nothing is: `test_s3.py` has a store's own words.
    with pytest.raises(ObjectMissing):
        MemoryStore().hold("a/b")


def test_a_folder_says_that_it_keeps_no_holds(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    assert store.put("a/b", BODY, sha256=sha(BODY), care=Care(held=True))
    assert held(store) is None
    assert store.hold("a/b") is False

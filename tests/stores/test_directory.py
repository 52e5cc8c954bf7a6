"""What a folder promises beyond the contract: durability, crashes, and sentences for what a disk does."""

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from formant_archive.errors import ObjectMissing, StoreError, StoreRefused, StoreUnavailable
from formant_archive.stores.directory import DirectoryStore

BODY = b"RIFF" * 1000
SHA = hashlib.sha256(BODY).hexdigest()


def no_links(source: Path, target: Path) -> None:
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


both = pytest.mark.parametrize("link", [os.link, no_links], ids=["links", "no-links"])
Link = Callable[[Path, Path], None]


class Disk:
    """A disk that notes what was flushed and named, in order, relative to the archive."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[str] = []

    def fsync(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        name = "temporary" if path.name.startswith(".tmp-") else os.path.relpath(path, self.root)
        self.events.append(f"fsync {name}")
        os.fsync(descriptor)

    def link(self, source: Path, target: Path) -> None:
        self.events.append(f"link {os.path.relpath(target, self.root)}")
        os.link(source, target)

    def take(self) -> list[str]:
        taken, self.events = self.events, []
        return taken


def put(store: DirectoryStore, key: str = "a/b") -> bool:
    return store.put(key, BODY, sha256=SHA)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_file_is_flushed_before_it_is_named_and_its_folder_after(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    put(DirectoryStore(tmp_path, link=disk.link, fsync=disk.fsync), "a")
    assert disk.take() == ["fsync temporary", "link a", "fsync ."]


def test_new_folders_are_flushed_through_their_parents_once(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "x/archive")
    store = DirectoryStore(tmp_path / "x/archive", link=disk.link, fsync=disk.fsync)
    put(store, "a/b/1")
    assert disk.take() == [
        "fsync ..",
        "fsync ../..",
        "fsync .",
        "fsync a",
        "fsync temporary",
        "link a/b/1",
        "fsync a/b",
    ]
    put(store, "a/b/2")
    assert disk.take() == ["fsync temporary", "link a/b/2", "fsync a/b"]


def test_folders_that_another_process_made_are_flushed_too(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    disk = Disk(tmp_path)
    put(DirectoryStore(tmp_path, link=disk.link, fsync=disk.fsync), "a/b/1")
    assert disk.take()[:2] == ["fsync .", "fsync a"]


def test_taken_is_said_only_of_what_outlasts_a_power_cut(tmp_path: Path) -> None:
    put(DirectoryStore(tmp_path))
    disk = Disk(tmp_path)
    assert put(DirectoryStore(tmp_path, link=disk.link, fsync=disk.fsync)) is False
    steps = disk.take()
    assert steps[0] == "fsync ."
    assert steps[-1] == "fsync a"


def test_nothing_is_made_before_the_first_put(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "archive")
    assert list(store.list("")) == []
    assert store.stat("a") is None
    assert not (tmp_path / "archive").exists()


def test_an_object_cannot_be_written_to_by_mistake(tmp_path: Path) -> None:
    put(DirectoryStore(tmp_path))
    assert (tmp_path / "a/b").stat().st_mode & 0o777 & ~0o444 == 0


@both
def test_a_put_leaves_no_temporary_file(tmp_path: Path, link: Link) -> None:
    store = DirectoryStore(tmp_path, link=link)
    put(store)
    put(store)
    with pytest.raises(StoreRefused):
        store.put("a/c", b"other", sha256=SHA)
    assert [name for name in files(tmp_path) if name != ".tmp-lock"] == ["a/b"]


@both
def test_a_name_that_is_taken_in_the_last_moment_is_not_replaced(tmp_path: Path, link: Link) -> None:
    def other_first(source: Path, target: Path) -> None:
        target.write_bytes(b"the other's")
        link(source, target)

    store = DirectoryStore(tmp_path, link=other_first)
    assert put(store) is False
    assert store.get("a/b") == b"the other's"


CRASH = """
import errno, hashlib, os, sys
from formant_archive.stores.directory import DirectoryStore

def die(*_):
    os._exit(9)

def no_links(*_):
    raise OSError(errno.ENOTSUP, "")

class DiesHalfway:
    def seek(self, _):
        self.rest = [b"half", None]
    def read(self, _):
        return self.rest.pop(0) or die()

body = b"RIFF" * 1000
faults = {
    "in the body": (DiesHalfway(), {}),
    "before the name": (body, {"link": die}),
    "after the name": (body, {"link": lambda *paths: (os.link(*paths), die())}),
}
body_given, seams = faults[sys.argv[2]]
DirectoryStore(sys.argv[1], **seams).put("a/b", body_given, sha256=hashlib.sha256(body).hexdigest())
"""


@pytest.mark.parametrize(
    ("moment", "stored"), [("in the body", False), ("before the name", False), ("after the name", True)]
)
def test_a_crash_leaves_the_whole_object_or_none(tmp_path: Path, moment: str, stored: bool) -> None:
    died = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path), moment], check=False)
    assert died.returncode == 9
    assert [name for name in files(tmp_path) if ".tmp-" in name]
    store = DirectoryStore(tmp_path)
    assert [found.key for found in store.list("")] == (["a/b"] if stored else [])
    assert put(store) is not stored
    assert store.get("a/b") == BODY


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    holder = "import fcntl, os, sys; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); os._exit(9)"
    subprocess.run([sys.executable, "-c", holder, str(tmp_path / ".tmp-lock")], check=False)
    assert put(DirectoryStore(tmp_path, link=no_links))


def test_a_temporary_name_is_no_key(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    with pytest.raises(ValueError, match="no key"):
        put(store, "a/.tmp-0")
    (tmp_path / ".tmp-0").write_bytes(b"left")
    assert list(store.list("")) == []


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.ENOSPC, StoreUnavailable, "disk or its quota is full"),
        (errno.EDQUOT, StoreUnavailable, "disk or its quota is full"),
        (errno.EIO, StoreUnavailable, "look at the disk"),
        (errno.ESTALE, StoreUnavailable, "try again"),
        (errno.EACCES, StoreRefused, "give this user the right"),
        (errno.EROFS, StoreRefused, "mounted read-only"),
        (errno.ENAMETOOLONG, StoreRefused, "too long"),
    ],
)
@pytest.mark.parametrize("step", ["link", "fsync"])
def test_what_a_disk_does_is_said_in_a_line(
    tmp_path: Path, number: int, kind: type[StoreError], said: str, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    store = DirectoryStore(tmp_path, link=fail) if step == "link" else DirectoryStore(tmp_path, fsync=fail)
    with pytest.raises(kind, match=said) as caught:
        put(store, "a")
    assert type(caught.value) is kind
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_flushed_is_no_error(tmp_path: Path) -> None:
    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    assert put(DirectoryStore(tmp_path, fsync=fsync))


def test_a_full_disk_is_tried_again_with_success_once_there_is_room(tmp_path: Path) -> None:
    full = iter([True])

    def link(source: Path, target: Path) -> None:
        if next(full, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.link(source, target)

    store = DirectoryStore(tmp_path, link=link)
    with pytest.raises(StoreUnavailable):
        put(store)
    assert put(store)


def test_a_file_in_place_of_the_archive_is_refused_by_every_verb(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(b"x")
    store = DirectoryStore(tmp_path / "archive")
    with pytest.raises(StoreRefused, match="a file stands where"):
        put(store)
    with pytest.raises(StoreRefused, match="a file stands where"):
        store.get("a/b")
    with pytest.raises(StoreRefused, match="a file stands where"):
        list(store.list(""))


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(StoreRefused, match="a file stands where"):
        put(DirectoryStore(tmp_path))


def test_a_folder_that_is_gone_is_made_again_by_the_next_put(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    put(store, "a/1")
    (tmp_path / "a/1").unlink()
    (tmp_path / "a").rmdir()
    with pytest.raises(StoreUnavailable, match="try again"):
        put(store, "a/2")
    assert put(store, "a/2")


def test_a_symlinked_folder_belongs_to_the_archive(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/a").symlink_to(tmp_path / "big")
    store = DirectoryStore(tmp_path / "archive")
    put(store)
    assert [found.key for found in store.list("")] == ["a/b"]


def test_a_dangling_link_and_a_name_that_is_not_text_do_not_break_a_list(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")).write_bytes(b"x")
    store = DirectoryStore(tmp_path)
    assert [found.key for found in store.list("")] == ["\\xff.wav"]
    with pytest.raises(ObjectMissing):
        store.get("dangling")


def test_another_working_directory_does_not_move_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = DirectoryStore("archive")
    monkeypatch.chdir("/")
    put(store)
    assert (tmp_path / "archive/a/b").read_bytes() == BODY
    assert store.url == (tmp_path / "archive").as_uri()


FILE_LIMIT = """
import hashlib, resource, sys
from formant_archive.errors import StoreRefused
from formant_archive.stores.directory import DirectoryStore

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
body = bytes(5000)
try:
    DirectoryStore(sys.argv[1]).put("a", body, sha256=hashlib.sha256(body).hexdigest())
except StoreRefused as error:
    print(error)
"""


def test_a_write_that_the_system_breaks_off_is_an_error_of_the_store_and_leaves_nothing(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", FILE_LIMIT, str(tmp_path)], check=True, capture_output=True, text=True)
    assert "larger than this file system allows" in run.stdout
    assert files(tmp_path) == []

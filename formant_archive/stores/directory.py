"""An archive in a folder of this machine, under the rules of `formant_archive.stores`.

- An object is written beside its place under a temporary name, flushed to the disk and only then given its
  own name, by a hard link: that fails where the name is taken, and a crash leaves the whole object or none.
- A file system without hard links (exFAT, some network and FUSE mounts) gets a rename instead, which would
  replace what is there: so it is done under a lock of the whole archive, which the kernel drops when its
  holder dies. To create the file under its own name would be simpler, but a crash would leave half a recording
  there, which nobody may overwrite.
- What `put` answers, `True` or `False`, outlasts a power cut, as far as the file system's fsync does.
- Temporary names are never listed, and no key can be one. What a crash leaves of them may be deleted by hand
  while nothing runs.
"""

import errno
import fcntl
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from itertools import count
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, BinaryIO
from uuid import uuid4

from formant_archive.errors import ObjectMissing, StoreError, StoreRefused, StoreUnavailable
from formant_archive.stores.contract import PLAIN, Care, Lock, Stat, Trace, check_key, check_prefix, chunks

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_TEMPORARY = ".tmp-"
_LOCK = ".tmp-lock"
_BUFFER = 256 * 1024
_FOLDERS_REMEMBERED = 4096
# Calls are nobody's business outside the archive's user and group.
_FOLDER_MODE = 0o750

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}

_FULL = "the disk or its quota is full: make room, nothing was stored"
_NO_LOCKS = "a folder cannot lock what is in it: use a bucket with Object Lock, or leave ARCHIVE_LOCK_MODE out"
_DENIED = "access is denied: give this user the right to read and write the archive's folder"
_NOT_A_FOLDER = "a file stands where the archive needs a folder: move it away or correct ARCHIVE_URL"
_REFUSED = {
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: "it is mounted read-only: mount it writable or correct ARCHIVE_URL",
    errno.ENOTDIR: _NOT_A_FOLDER,
    errno.EEXIST: _NOT_A_FOLDER,
    errno.EISDIR: "a folder stands where the archive keeps a file: move it away",
    errno.ELOOP: "its symbolic links lead in a circle: mend them",
    errno.ENAMETOOLONG: "a path is too long for this file system: put the archive nearer to the root",
    errno.EFBIG: "the object is larger than this file system allows: use another one",
    errno.ENOLCK: "the file system has neither hard links nor locks: use another one",
}
_UNAVAILABLE = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EIO: "reading or writing failed: look at the disk",
}


class DirectoryStore:
    """The archive in one folder, which is made by the first `put`.

    Args:
        path: The folder.
        link: Gives a file a second name, as `os.link` does; a test passes one of a file system without links.
        fsync: Flushes a descriptor, as `os.fsync` does; a test passes one that notes what was flushed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        link: Callable[[Path, Path], None] = os.link,
        fsync: Callable[[int], None] = os.fsync,
    ) -> None:
        # Absolute from the start: a later chdir must not move the archive.
        self._root = Path(path).absolute()
        self._link = link
        self._fsync = fsync
        self._writer, self._numbers = uuid4().hex, count()
        self._secure_folder = lru_cache(_FOLDERS_REMEMBERED)(self._make_folder)

    @property
    def url(self) -> str:
        """The folder as `file:///path`."""
        return self._root.as_uri()

    def put(self, key: str, body: bytes | BinaryIO, *, sha256: str, care: Care = PLAIN) -> bool:
        """Store `body` under `key` unless the key is taken; see `Store.put`.

        Raises:
            StoreRefused: Also where a lock is asked for.
        """
        if care.lock is not None:
            raise StoreRefused(_NO_LOCKS)
        target = self._path(key)
        temporary = target.with_name(f"{_TEMPORARY}{self._writer}-{next(self._numbers)}")
        try:
            self._write(temporary, body, sha256)
            created = self._publish(temporary, target)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        with _plainly(target):
            # Also where the key was taken: its writer may have died before it flushed the folder.
            self._sync_folder(target.parent)
        return created

    def get(self, key: str) -> bytes:
        """Read a whole object; see `Store.get`."""
        path = self._address(key)
        with _plainly(path), self._opened(path) as file:
            return file.readall()

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """Read an object as a stream, not seekable, as a bucket's are not; see `Store.open`."""
        path = self._address(key)
        with _plainly(path):
            raw = self._opened(path)
        with closing(io.BufferedReader(_Reader(raw, path), _BUFFER)) as file:
            yield file

    def stat(self, key: str) -> Stat | None:
        """Say what is stored under the key, or None; a folder keeps no hashes."""
        path = self._address(key)
        with _plainly(path):
            try:
                found = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return Stat(key=key, size=found.st_size) if S_ISREG(found.st_mode) else None

    def lengthen(self, key: str, lock: Lock) -> None:
        """Refuse; see `Store.lengthen`."""
        raise StoreRefused(_NO_LOCKS)

    def hold(self, key: str) -> bool:
        """Do nothing, and say so: a folder keeps no holds; see `Store.hold`."""
        check_key(key)
        return False

    def list(self, prefix: str) -> Iterator[Stat]:
        """Yield the objects whose key starts with `prefix`; see `Store.list`."""
        check_prefix(prefix)
        return self._listed(self._root / prefix, prefix)

    def traces(self, prefix: str) -> Iterator[Trace]:
        """Yield nothing: a folder keeps no versions; see `Store.traces`."""
        check_prefix(prefix)
        return iter(())

    def _path(self, key: str) -> Path:
        return Path(self._address(key))

    def _address(self, key: str) -> str:
        """Spell an object's path: as text, because a verification asks for hundreds of thousands."""
        check_key(key)
        if key.rpartition("/")[2].startswith(_TEMPORARY):
            raise ValueError(f"a temporary file's name is no key: {key!r}")
        return f"{self._root}/{key}"

    @staticmethod
    def _opened(path: str) -> io.FileIO:
        try:
            return io.FileIO(path)
        except (FileNotFoundError, IsADirectoryError):
            raise ObjectMissing(f"nothing is stored under {path}") from None

    def _write(self, path: Path, body: bytes | BinaryIO, sha256: str) -> None:
        digest = hashlib.sha256()
        with self._created(path) as file:
            # The body is read outside of `_plainly`: its own errors are its owner's, not the store's.
            for chunk in chunks(body):
                digest.update(chunk)
                with _plainly(path):
                    _write_all(file, chunk)
            if digest.hexdigest() != sha256:
                raise StoreRefused("the body is not the one that was hashed: nothing was stored")
            with _plainly(path):
                self._fsync(file.fileno())

    @contextmanager
    def _created(self, path: Path) -> Iterator[io.FileIO]:
        with _plainly(path):
            self._secure_folder(path.parent)
            try:
                file = io.FileIO(path, "xb", opener=_read_only_afterwards)
            except FileNotFoundError:
                # A folder that was made or seen is gone again: the next put must look anew.
                self._secure_folder.cache_clear()
                raise
        try:
            yield file
        finally:
            with _plainly(path):
                file.close()

    def _publish(self, temporary: Path, target: Path) -> bool:
        with _plainly(target):
            try:
                self._link(temporary, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return self._rename_alone(temporary, target)
            return True

    def _rename_alone(self, temporary: Path, target: Path) -> bool:
        with (self._root / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.lexists(target):
                return False
            temporary.rename(target)
            return True

    def _make_folder(self, folder: Path) -> None:
        """Make a folder such that a power cut takes neither it nor what is put into it.

        A folder of the archive that is there already is flushed too, once in a process: another thread or a
        dead process may have made it a moment ago. Above the archive, only what is made here is flushed.
        """
        if folder != self._root:
            self._secure_folder(folder.parent)
            folder.mkdir(_FOLDER_MODE, exist_ok=True)
            self._sync_folder(folder.parent)
        elif not folder.is_dir():
            self._make_root()

    def _make_root(self) -> None:
        made = [folder for folder in (self._root, *self._root.parents) if not folder.exists()]
        self._root.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
        for folder in made:
            self._sync_folder(folder.parent)

    def _sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._fsync(descriptor)
        except OSError as error:
            # Some network and FUSE mounts cannot flush a folder: there is nothing better to be had there.
            if error.errno not in _NO_FOLDER_SYNC:
                raise
        finally:
            os.close(descriptor)

    def _listed(self, folder: Path, prefix: str) -> Iterator[Stat]:
        with _plainly(folder):
            yield from _walk(folder, prefix)


class _Reader(io.RawIOBase):
    """A file whose reading fails with this project's errors, at whatever byte."""

    def __init__(self, raw: io.FileIO, path: str) -> None:
        self._raw = raw
        self._path = path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        with _plainly(self._path):
            return self._raw.readinto(buffer) or 0

    def close(self) -> None:
        self._raw.close()
        super().close()


def _walk(folder: Path | str, prefix: str) -> Iterator[Stat]:
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            # A name that is not UTF-8 is not one of ours; it must be possible to say so.
            key = prefix + os.fsencode(entry.name).decode("utf-8", "backslashreplace")
            if entry.is_dir():
                yield from _walk(entry.path, f"{key}/")
            elif entry.is_file() and not entry.name.startswith(_TEMPORARY):
                yield Stat(key=key, size=entry.stat().st_size)


def _read_only_afterwards(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o440)


def _write_all(file: io.FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def _plainly(path: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _told(error, path) from error


def _told(error: OSError, path: Path | str) -> StoreError:
    if sentence := _REFUSED.get(error.errno or 0):
        return StoreRefused(f"{path}: {sentence}")
    sentence = _UNAVAILABLE.get(error.errno or 0, f"{error.strerror or 'it failed'}: try again")
    return StoreUnavailable(f"{path}: {sentence}")

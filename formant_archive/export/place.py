"""Where an export is built: a folder beside its place, which gets its name when all is done, or is removed."""

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from formant_archive.errors import UsageError

# Calls are nobody's business outside the user and the group, as in an archive in a folder.
_FOLDER_MODE, _FILE_MODE = 0o750, 0o640
#: The folder that is built, inside of the temporary one.
_NAME = "export"
#: Audio in PCM hardly shrinks.
_STORED = {".wav", ".gz"}


def zip_name(target: Path) -> Path:
    """Name the file that `--zip` makes."""
    return target if target.suffix == ".zip" else target.with_name(f"{target.name}.zip")


def check_place(target: Path) -> None:
    """Refuse a place that is taken.

    Raises:
        UsageError: It is a file, or a folder that is not empty.
    """
    with _plainly(target):
        if target.is_symlink() or target.exists():
            if not target.is_dir() or target.is_symlink():
                raise UsageError(f"{target} exists: name another place with --to")
            if any(target.iterdir()):
                raise UsageError(f"{target} is not empty: name another place with --to")


@contextmanager
def building(target: Path, *, as_zip: bool = False) -> Iterator[Path]:
    """Give a folder to build in; it becomes `target` when all is done, and is removed when not.

    Args:
        target: A folder that is empty or not there; with `as_zip`, the file.
        as_zip: Make one .zip of the folder, with all in it under the target's name.

    Raises:
        UsageError: The place is taken, or cannot be written.
    """
    check_place(target)
    with _plainly(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}-", dir=target.parent))
        try:
            yield _inside(work)
            ready = _zipped(work, target.stem) if as_zip else work / _NAME
            check_place(target)
            ready.rename(target)
        finally:
            _remove(work)


def _inside(work: Path) -> Path:
    folder = work / _NAME
    folder.mkdir(_FOLDER_MODE)
    return folder


def _remove(work: Path) -> None:
    # Under another name first: a thread that Ctrl-C has cut loose finds no folder to go on in.
    with suppress(FileNotFoundError):
        (work / _NAME).rename(work / "removed")
    shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _plainly(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise UsageError(f"{target} cannot be written: {fault.strerror or fault}; nothing was left there") from fault


def _zipped(work: Path, top: str) -> Path:
    """Make one file of a folder, in the order of the names."""
    made, folder = work / "zip", work / _NAME
    made.touch(_FILE_MODE)
    with zipfile.ZipFile(made, "w") as file:
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            kind = zipfile.ZIP_STORED if path.suffix in _STORED else zipfile.ZIP_DEFLATED
            file.write(path, f"{top}/{path.relative_to(folder).as_posix()}", kind)
    return made

"""Where an export is built: whole under its name, or not at all."""

import zipfile
from pathlib import Path

import pytest

from formant_archive.errors import UsageError
from formant_archive.export.payload import copy
from formant_archive.export.place import building, check_place, zip_name
from formant_archive.records import Link
from tests.export import calls
from tests.stores.memory import MemoryStore


def fill(folder: Path) -> None:
    for name in ("b.txt", "a/z.wav", "a/c.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name * 100)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_has_its_name_only_when_it_is_whole(tmp_path: Path, is_there: bool) -> None:
    if is_there:
        (tmp_path / "case").mkdir()
    with building(tmp_path / "case") as folder:
        fill(folder)
        assert not is_there or names(tmp_path / "case") == []
        assert is_there or not (tmp_path / "case").exists()

    assert names(tmp_path) == ["case", "case/a", "case/a/c.json", "case/a/z.wav", "case/b.txt"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("as_zip", [True, False])
def test_an_error_or_ctrl_c_leaves_nothing(tmp_path: Path, fault: type[BaseException], as_zip: bool) -> None:
    def fail() -> None:
        with building(tmp_path / "case", as_zip=as_zip) as folder:
            fill(folder)
            raise fault

    with pytest.raises(fault):
        fail()

    assert names(tmp_path) == []


def test_a_place_that_is_taken_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")

    for name in ("folder", "file", "link"):
        with pytest.raises(UsageError, match=name), building(tmp_path / name):
            raise AssertionError("it must not be begun")

    assert names(tmp_path) == ["file", "folder", "folder/mine", "link"]


def test_a_place_that_was_taken_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    def build() -> None:
        with building(tmp_path / "case.zip", as_zip=True) as folder:
            fill(folder)
            (tmp_path / "case.zip").write_text("mine")

    with pytest.raises(UsageError, match="exists"):
        build()

    assert (tmp_path / "case.zip").read_text() == "mine"
    assert names(tmp_path) == ["case.zip"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match="cannot be written"), building(tmp_path / "file/case"):
        pass


def test_a_zip_holds_the_folder_under_its_name_in_the_order_of_names_and_audio_as_it_is(tmp_path: Path) -> None:
    with building(tmp_path / "case.zip", as_zip=True) as folder:
        fill(folder)

    with zipfile.ZipFile(tmp_path / "case.zip") as file:
        kinds = {one.filename: one.compress_type for one in file.infolist()}
        assert file.testzip() is None
    deflated, stored = zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED
    assert list(kinds.items()) == [("case/a/c.json", deflated), ("case/a/z.wav", stored), ("case/b.txt", deflated)]
    assert (tmp_path / "case.zip").stat().st_mode & 0o007 == 0, "calls are nobody's business"


@pytest.mark.parametrize(("given", "made"), [("case", "case.zip"), ("case.zip", "case.zip"), ("a.b", "a.b.zip")])
def test_a_zip_is_named_after_the_folder(given: str, made: str) -> None:
    assert zip_name(Path("x") / given) == Path("x") / made


def test_looking_at_a_place_makes_nothing(tmp_path: Path) -> None:
    check_place(tmp_path / "new/case")

    assert names(tmp_path) == []


def test_a_thread_that_was_cut_loose_finds_no_folder_to_go_on_in(tmp_path: Path) -> None:
    store = MemoryStore()
    store.put("manifests/1.json", b"{}", sha256=calls.sha256(b"{}"))

    def fail() -> None:
        with building(tmp_path / "case") as folder:
            folders.append(folder)
            raise KeyboardInterrupt

    folders: list[Path] = []
    with pytest.raises(KeyboardInterrupt):
        fail()

    with pytest.raises(FileNotFoundError):
        copy(store, Link(key="manifests/1.json", sha256=calls.sha256(b"{}")), folders[0])
    assert names(tmp_path) == []

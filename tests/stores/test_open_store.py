"""How `ARCHIVE_URL` is read."""

import subprocess
import sys
from pathlib import Path

import pytest

from formant_archive.errors import UsageError
from formant_archive.stores import open_store
from formant_archive.stores.directory import DirectoryStore
from formant_archive.stores.s3 import S3Store


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("S3://Old_Bucket.eu/a", "s3://Old_Bucket.eu/a"),
    ],
)
def test_a_bucket_is_opened(url: str, opened: str) -> None:
    store = open_store(url)
    assert isinstance(store, S3Store)
    assert store.url == opened


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("file:///srv/archive", "file:///srv/archive"),
        ("file:///srv/my%20archive", "file:///srv/my%20archive"),
        ("FILE:///srv/archive", "file:///srv/archive"),
        ("/srv/my archive/", "file:///srv/my%20archive"),
    ],
)
def test_a_folder_is_opened(url: str, opened: str) -> None:
    store = open_store(url)
    assert isinstance(store, DirectoryStore)
    assert store.url == opened


def test_a_relative_path_is_one_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("archive").url == (tmp_path / "archive").as_uri()


@pytest.mark.parametrize("url", ["s3://bucket/a/b", "file:///srv/my%20archive?#", "/srv/100%"])
def test_a_stores_own_address_opens_the_same_store(url: str) -> None:
    address = open_store(url).url
    assert open_store(address).url == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "s3://",
        "s3:///prefix",
        "s3:bucket",
        "s3:/bucket",
        "s3://bucket//prefix",
        "s3://bucket/../prefix",
        "file://",
        "file://srv/archive",
        "file:/srv/archive",
        "gs://bucket/prefix",
        "https://minio.example.com/bucket",
        "a\0b",
    ],
)
def test_any_other_address_is_a_usage_error_of_one_line(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert "ARCHIVE_URL" in str(caught.value)
    assert "file:///path" in str(caught.value) or "s3://bucket/prefix" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("url", ["s3://key:hunter2@bucket/a", "https://key:hunter2@host/bucket"])
def test_a_secret_in_an_address_is_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert "hunter2" not in str(caught.value)


def test_opening_makes_nothing(tmp_path: Path) -> None:
    open_store(str(tmp_path / "archive"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_needs_no_boto3() -> None:
    code = "import sys; from formant_archive.stores import open_store; open_store('/x'); print('boto3' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown == "False\n"

"""The commands that read an archive, over a bucket as over a folder: the same answers."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from formant_archive import cli
from formant_archive.manifest import digest
from formant_archive.stores.directory import DirectoryStore
from formant_archive.stores.s3 import S3Store
from tests import plain
from tests.export import calls
from tests.stores.memory import MemoryStore

BUCKET = "s3://calls/a/b"


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """One archive in a folder and in a bucket; their addresses."""
    for name in os.environ:
        if name.upper().startswith(("ARCHIVE_", "FORMANT_", "AWS_")):
            monkeypatch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.chdir(tmp_path)
    clock, memory = plain.Clock(), MemoryStore()
    calls.archive(calls.workspace(clock), memory, clock)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="calls")
        for store in (DirectoryStore(tmp_path / "archive"), S3Store("calls", "a/b", client)):
            for key, body in memory.objects.items():
                store.put(key, io.BytesIO(body), sha256=digest(body))
        yield str(tmp_path / "archive"), BUCKET


def run(*arguments: str) -> int:
    try:
        return cli.exit_code(lambda: cli.app(arguments, exit_on_error=False, print_error=False))
    except SystemExit as end:
        return int(end.code or 0)


def test_list_says_the_same_of_a_bucket(places: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for place in places:
        assert run("list", place, "--json") == 0
        said.append(capsys.readouterr().out)

    assert said[0] == said[1]
    assert len(said[0].splitlines()) > 10


def test_show_finds_the_recording_in_the_bucket(places: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    run("list", BUCKET, "--json", "--outcome", "archived", "--limit", "1")
    conversation_id = json.loads(capsys.readouterr().out)["conversation_id"]

    assert run("show", conversation_id, BUCKET) == 0
    said = capsys.readouterr().out

    assert f"{BUCKET}/conversations/" in said
    assert "recording.wav" in said


def test_verify_finds_a_bucket_valid(places: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", BUCKET, "--deep") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "VALID"


@pytest.mark.parametrize("form", ["bag", "vcon"])
def test_an_export_of_a_bucket_has_the_same_bytes(
    places: tuple[str, str], tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for number, place in enumerate(places):
        to = tmp_path / f"export-{number}"
        assert run("export", "--everything", "--format", form, "--to", str(to), "--archive-url", place) == 0, (
            capsys.readouterr().err
        )
        inside = to / "data" if form == "bag" else to
        files = (path for path in inside.rglob("*") if path.is_file())
        found.append({path.relative_to(inside).as_posix(): path.read_bytes() for path in files})

    assert found[0] == found[1]
    assert len(found[0]) > 10

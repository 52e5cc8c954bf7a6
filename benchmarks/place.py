"""Where a contender archives to: an empty folder, or an empty bucket of an S3 server in a process of its own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

BUCKET = "archive"


@dataclass(frozen=True)
class Place:
    """A place, empty.

    Attributes:
        environment: What a contender finds of it in its environment.
        sizes: Gives the names of all that lies there, with their bytes.
    """

    environment: dict[str, str]
    sizes: Callable[[], dict[str, int]]


#: Makes a place, with the help of a temporary folder; it is gone in the end.
Opened = Callable[[Path], AbstractContextManager[Place]]


@contextmanager
def directory(folder: Path) -> Iterator[Place]:
    """Have a folder."""
    archive = folder / "archive"

    def sizes() -> dict[str, int]:
        return {str(one.relative_to(archive)): one.stat().st_size for one in archive.rglob("*") if one.is_file()}

    try:
        yield Place({"ARCHIVE_URL": str(archive)}, sizes)
    finally:
        shutil.rmtree(archive, ignore_errors=True)


@contextmanager
def bucket(folder: Path) -> Iterator[Place]:
    """Have a bucket, on a server of its own, so that none has to hold what others stored."""
    command = [sys.executable, "-m", "benchmarks.s3", BUCKET]
    with (
        (folder / "s3.log").open("wb") as log,
        # Leaving the block closes its standard input, which ends it.
        subprocess.Popen(
            command, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        ) as server,
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        say, hear = server.stdin, server.stdout
        url = hear.readline().strip()
        if not url:
            sys.exit(f"{(folder / 's3.log').read_text()}\nthe S3 server did not start, see above")

        def sizes() -> dict[str, int]:
            say.write(f"{BUCKET}\n")
            say.flush()
            found: dict[str, int] = json.loads(hear.readline())
            return found

        credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
        yield Place({"ARCHIVE_URL": f"s3://{BUCKET}", "AWS_ENDPOINT_URL_S3": url, **credentials}, sizes)

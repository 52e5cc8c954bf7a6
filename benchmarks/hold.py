"""How long a legal hold on many objects takes, and how much memory: `python -m benchmarks.hold --conversations 33334`.

Three objects a conversation, in moto's S3 server on this machine, which answers some hundred requests a second: what is
measured is the command, and that it can be killed. `formant-archive hold place` runs in a process of its own, is killed
(SIGKILL) once half of the objects are held, and is typed again; then `verify` says whether all are held.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import boto3
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from benchmarks.verify import make
from formant_archive.manifest import digest
from tests.stores.memory import MemoryStore

BUCKET, ACCOUNT = "held", "123456789012"
WORDS = ("hold", "place", "--case", "case-1", "--by", "bench", "--everything")


class Ended(NamedTuple):
    """What a command came to: seconds, peak memory in MB, its last line; the code is negative where it was killed."""

    code: int
    seconds: float
    peak_mb: int
    said: str


def main() -> None:
    """Make an archive, hold it in two goes, verify it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=33_334)
    given = parser.parse_args()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "ARCHIVE_URL": f"s3://{BUCKET}/calls",
        }
        objects = fill(environment["AWS_ENDPOINT_URL_S3"], given.conversations)
        print(f"{objects:,} objects of conversations are there", flush=True)
        killed = run(environment, WORDS, kill_at=objects // 2)
        print(f"killed:    {killed}; {held():,} are held", flush=True)
        print(f"again:     {run(environment, WORDS)}; {held():,} are held", flush=True)
        # With a time, so that moto is not asked for versions: a page of its list takes it longer, the more there are.
        print(f"verify:    {run(environment, ('verify', '--since', '2000-01-01', '--json'))}", flush=True)
    finally:
        server.stop()


def fill(url: str, conversations: int) -> int:
    """Lay an archive into a bucket with Object Lock, past the server's own doors; say how many objects may be held."""
    store = MemoryStore()
    make(store, conversations)
    client = boto3.client("s3", "us-east-1", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b")
    client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    backend = s3_backends[ACCOUNT]["aws"]
    for key, body in store.objects.items():
        made = backend.put_object(BUCKET, f"calls/{key}", body, disable_notification=True)
        made.set_metadata({"x-amz-meta-sha256": digest(body)})
    return sum(key.startswith("conversations/") for key in store.objects)


def held() -> int:
    """Count the objects under a legal hold, in the server's own memory."""
    stored = s3_backends[ACCOUNT]["aws"].buckets[BUCKET].keys.values()
    return sum(one.lock_legal_status == "ON" for one in stored)


def run(environment: dict[str, str], words: tuple[str, ...], *, kill_at: int | None = None) -> Ended:
    """Run a command; kill it once so many objects are held."""
    began, peak = time.perf_counter(), 0
    command = [str(Path(sys.executable).with_name("formant-archive")), *words]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while process.poll() is None:
            # Not `ru_maxrss`, which on Linux begins with that of the process that started it: this one is large.
            peak = max(peak, peak_of(process.pid))
            if kill_at is not None and held() >= kill_at:
                process.kill()
            time.sleep(0.5)
        said = (process.stdout.read() if process.stdout else b"").decode().splitlines()
    return Ended(process.returncode, round(time.perf_counter() - began, 1), peak, said[-1] if said else "")


def peak_of(pid: int) -> int:
    """Say how much memory a process has had at most, in MB."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    main()

"""Processes of a server: started in sessions of their own, and stopped by their ids with all that they started."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Seconds that a server may take until its first put.
PATIENCE = 60.0
LAST_WORDS = 3.0
INSTALLS = 600.0


class Unavailable(Exception):
    """A server cannot be had on this machine."""


@dataclass(frozen=True)
class Server:
    """A running store.

    Attributes:
        endpoint: Where it listens, on loopback.
        access_key: Of a user who owns its buckets.
        secret_key: Its secret.
        version: What the server says that it is.
        second: Access key and secret of a user who owns nothing, and the name that a bucket's policy gives it;
            None where the server enforces no policies.
    """

    endpoint: str
    access_key: str
    secret_key: str
    version: str
    second: tuple[str, str, str] | None = None

    def client(self, *, second: bool = False) -> "S3Client":
        """Connect as the user who owns the buckets, or as the other one."""
        access, secret = self.second[:2] if second and self.second else (self.access_key, self.secret_key)
        return boto3.session.Session(access, secret, region_name="us-east-1").client(
            "s3",
            endpoint_url=self.endpoint,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 3},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                max_pool_connections=32,
                s3={"addressing_style": "path", "payload_signing_enabled": True},
            ),
        )


def free_port(*, low: bool = False) -> int:
    """Find a port that nothing on loopback listens on.

    Args:
        low: Not one of those that the kernel gives to outgoing connections.
    """
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(20_000, 30_000) if low else 0))
            found: int = probe.getsockname()[1]
            return found


def run(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run a command to its end.

    Raises:
        Unavailable: It fails; the text holds the last line that it said.
    """
    with log.open("ab") as out:
        try:
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                timeout=INSTALLS,
                env=environment,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise Unavailable(f"{command[0]}: {type(fault).__name__}") from None
    if ended.returncode:
        said = log.read_text(errors="replace").strip().splitlines()
        raise Unavailable(f"{command[0]} failed: {said[-1] if said else ended.returncode}")


@contextmanager
def daemons() -> Iterator[Callable[[Sequence[str], Path], subprocess.Popen[bytes]]]:
    """Give a function that starts a process; all are stopped in the end, the last one first."""
    started: list[subprocess.Popen[bytes]] = []

    def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in reversed(started):
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        # The session is its own: the group holds it and what it has forked, and nothing else.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(LAST_WORDS)


def first_put(server: Server, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until an object can be stored: a port that is open says little.

    Raises:
        Unavailable: A process of the server has ended, or it takes longer than `PATIENCE`.
    """
    client, deadline = server.client(), time.monotonic() + PATIENCE
    while True:
        try:
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
        except (BotoCoreError, ClientError) as fault:
            if any(process.poll() is not None for process in processes):
                raise Unavailable("a process of the server ended at its start") from None
            if time.monotonic() > deadline:
                raise Unavailable(f"no object could be stored in {PATIENCE:g} s: {fault}") from None
            time.sleep(0.2)
        else:
            return

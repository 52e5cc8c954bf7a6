"""S3 on loopback: moto's server, and the real ones that were asked for; one bucket for each test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from tests.stores.servers import Server, Unavailable, serving

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def connected() -> Callable[[str], "S3Client"]:
    session = boto3.session.Session("test-key", "test-secret", region_name="us-east-1")

    def connect(url: str, attempts: int = 1) -> "S3Client":
        return session.client(
            "s3",
            endpoint_url=url,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": attempts},
                request_checksum_calculation="when_required",
                max_pool_connections=32,
                s3={"addressing_style": "path", "payload_signing_enabled": True},
            ),
        )

    return connect


@pytest.fixture
def client(endpoint: str, connected: Callable[[str], "S3Client"]) -> "S3Client":
    return connected(endpoint)


@pytest.fixture
def bucket(client: "S3Client") -> str:
    name = f"test-{uuid4().hex}"
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Gives a real server by its name, started where it is first asked for; skips where it cannot be had."""
    with ExitStack() as running:

        @cache
        def start(name: str) -> Server | str:
            try:
                return running.enter_context(serving(name, tmp_path_factory.mktemp(name) / "data"))
            except Unavailable as fault:
                return f"{name} cannot be had here: {fault}"

        def given(name: str) -> Server:
            found = start(name)
            if isinstance(found, str):
                pytest.skip(found)
            return found

        yield given

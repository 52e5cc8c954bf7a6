"""Two to eight processes over one archive at the same moment, some of one agent alone, some killed on the way."""

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING
from wsgiref.types import StartResponse, WSGIEnvironment

import boto3
import pytest
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from formant_archive.simulator import Simulator
from tests.torture.auditor import audit, files_of
from tests.torture.siege import PREFIXES, ROOT

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MOST = 8
AGENTS = (101, 102, 103)
#: Requests that a process of a round makes, or fewer where others have settled something before.
REQUESTS = 20
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret", "AWS_REGION": "us-east-1"}

Read = Callable[[], dict[str, bytes]]
Deed = Callable[[], object]


class Racer:
    """A process of `tests.torture.racer`."""

    def __init__(self, endpoint: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith((*PREFIXES, "AWS_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.racer"],
            cwd=ROOT,
            env={**clean, **CREDENTIALS, "AWS_ENDPOINT_URL_S3": endpoint},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, line: str) -> None:
        pipe(self.process.stdin).write(f"{line}\n")
        pipe(self.process.stdin).flush()

    def hear(self) -> str:
        return pipe(self.process.stdout).readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def pipe(end: IO[str] | None) -> IO[str]:
    assert end is not None
    return end


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """S3 on loopback, one request at a time: moto looks and then writes without a lock, so two writers could win."""
    app, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with lock:
            answer: Iterable[bytes] = app(environ, start_response)
            return answer

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()


@pytest.fixture(scope="module")
def s3(endpoint: str) -> "S3Client":
    session = boto3.session.Session("test-key", "test-secret", region_name="us-east-1")
    return session.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}))


@pytest.fixture(scope="module")
def racers(endpoint: str) -> Iterator[list[Racer]]:
    made = [Racer(endpoint) for _ in range(MOST)]
    yield made
    for racer in made:
        racer.end()


def objects_of(client: "S3Client", prefix: str) -> dict[str, bytes]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="races", Prefix=prefix)
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    return {key.removeprefix(prefix): client.get_object(Bucket="races", Key=key)["Body"].read() for key in keys}


@pytest.mark.timeout(300)
def test_processes_over_one_directory_leave_one_chain_and_each_conversation_once(
    racers: list[Racer], endpoint: str, tmp_path: Path
) -> None:
    overtaken = 0
    for number in range(20):
        folder = tmp_path / str(number)
        overtaken += play_round(number, racers, endpoint, str(folder), partial(files_of, folder))

    assert overtaken > 20


@pytest.mark.timeout(300)
def test_processes_over_one_bucket_leave_one_chain_and_each_conversation_once(
    racers: list[Racer], endpoint: str, s3: "S3Client"
) -> None:
    s3.create_bucket(Bucket="races")
    overtaken = 0
    for number in range(20):
        prefix = f"{number}/"
        overtaken += play_round(number, racers, endpoint, f"s3://races/{number}", partial(objects_of, s3, prefix))

    assert overtaken > 20


def play_round(number: int, racers: list[Racer], endpoint: str, address: str, read: Read) -> int:
    """Race over an archive of its own; say how often a run that had begun was overtaken by another's commit."""
    dice = random.Random(number)
    sim = Simulator(number, 12, AGENTS, completed=0.9, in_progress=1, late_recordings=0.2, audio_seconds=(0.1, 1))
    with sim.serve() as url:
        commits = race(racers, dice, sim, url, address, endpoint)
        raced = read()
        assert audit(raced, sim.conversations, is_settled=False) == [], f"round {number}"
        runs = runs_of(raced)
        assert len(runs) in commits, f"round {number}"
        sim.release()
        run(racers[:1], url, address, [None])
        settled = read()
        assert settled.items() >= raced.items(), f"round {number}"
        assert audit(settled, sim.conversations, is_settled=True) == [], f"round {number}"
    return sum(later["started_at"] < earlier["committed_at"] for earlier, later in pairwise(runs))


def runs_of(files: dict[str, bytes]) -> list[dict[str, str]]:
    return [json.loads(body)["run"] for key, body in sorted(files.items()) if key.startswith("manifests/0")]


def race(racers: list[Racer], dice: random.Random, sim: Simulator, url: str, address: str, endpoint: str) -> range:
    """Let some processes archive at once; in some rounds one of them is killed. Say how many may have committed."""
    count = dice.randint(2, MOST)
    # The first lists everything, and nobody kills it.
    agents = [None, *(dice.choice((None, None, *AGENTS)) for _ in range(count - 1))]
    victim = dice.randrange(1, count) if dice.random() < 0.4 else None
    deeds: dict[int, Deed] = {dice.randrange(REQUESTS * count): sim.release}
    if victim is not None:
        deeds[dice.randrange(REQUESTS * count)] = racers[victim].process.kill
    with doing(sim, deeds):
        run(racers[:count], url, address, agents, victim)
    if victim is None:
        return range(count, count + 1)
    racers[victim].end()
    racers[victim] = Racer(endpoint)
    return range(count - 1, count + 1)


@contextmanager
def doing(sim: Simulator, deeds: dict[int, Deed]) -> Iterator[None]:
    """Meanwhile do something when the simulator has had so many requests: what some find missing, others find there."""
    over = threading.Event()

    def watch() -> None:
        left = dict(deeds)
        while left and not over.wait(0.005):
            for requests in [requests for requests in left if sim.count() > requests]:
                left.pop(requests)()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def run(racers: list[Racer], url: str, address: str, agents: list[int | None], victim: int | None = None) -> None:
    """Let each archive once, all from the same moment on."""
    for racer, agent_id in zip(racers, agents, strict=True):
        racer.tell(json.dumps({"api": url, "archive": address, "agent_id": agent_id}))
    assert [racer.hear() for racer in racers] == ["ready"] * len(racers)
    for racer in racers:
        racer.tell("go")
    for number, racer in enumerate(racers):
        assert racer.hear() == "done" or number == victim

"""What `docs/operations.md` tells to type is typed here, in a damaged archive, and prints what stands there.

Each section with commands has a scene: what has happened before they are typed. Each of its console blocks is run, all
in one shell, unless the page says right above it that it is not run, and why.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, NamedTuple

import boto3
import httpx
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from benchmarks.stage import free_port
from formant_archive import keys
from formant_archive.manifest import digest
from formant_archive.simulator import Simulator
from tests.damage import Files
from tests.plain import Clock, archive, client_of, entries, manifests
from tests.stores.memory import MemoryStore
from tests.test_archive_format import is_as_shown

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "operations.md"
NOT_RUN = re.compile(r"Not run by a test: \S.{10,}", re.DOTALL)
TOOLS = ("aws", "curl", "jq", "sha256sum")
#: Where the tests' programs are: `aws` among them.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
MARK = "--- the next command ---"
RUNS = 4

pytestmark = pytest.mark.skipif(
    "CI" not in os.environ and not all(shutil.which(tool, path=PATH) for tool in TOOLS),
    reason="aws, curl, jq and sha256sum are not all here: make install; apt-get install curl jq coreutils",
)


class Command(NamedTuple):
    """What is typed, and what the page says that it prints."""

    typed: str
    printed: list[str]


class Block(NamedTuple):
    """A console block: the section that it stands in, the paragraph above it, its commands."""

    section: str
    above: str
    commands: list[Command]

    @property
    def is_run(self) -> bool:
        return NOT_RUN.match(self.above) is None


def blocks_of(page: str) -> list[Block]:
    """Read the console blocks: `$ ` begins a command, four spaces go on with it, all else is printed."""
    found: list[Block] = []
    section, above, indent, is_inside, is_console = "", "", 0, False, False
    for line in page.splitlines():
        text = line[indent:] if is_inside else line.strip()
        if line.strip().startswith("```"):
            is_console = not is_inside and text == "```console"
            is_inside = not is_inside
            indent = len(line) - len(line.lstrip())
            if is_console:
                found.append(Block(section, above, []))
        elif is_console and is_inside:
            _add(found[-1].commands, text)
        elif not is_inside and text.startswith("#"):
            section, above = text.lstrip("# "), ""
        elif not is_inside:
            above = _paragraph(above, text)
    return found


def _paragraph(above: str, text: str) -> str:
    """The paragraph that a line belongs to: an empty line ends it, and the first line after that begins another."""
    if not text:
        return above if above.endswith("\n") else f"{above}\n"
    return text if above.endswith("\n") else f"{above} {text}".strip()


def _add(commands: list[Command], text: str) -> None:
    if text.startswith("$ "):
        commands.append(Command(text[2:], []))
    elif text.startswith("    "):
        commands[-1] = commands[-1]._replace(typed=f"{commands[-1].typed}\n{text}")
    else:
        commands[-1].printed.append(text)


@dataclass
class Stage:
    """A workspace, its archive in a bucket, and a shell between them.

    Attributes:
        sim: The workspace.
        clock: Its time, and that of the archive's runs: days before now.
        files: The archive as it was when all was well.
        bucket: What is in the bucket now.
        s3: The bucket's server.
        folder: Where commands are typed.
        settings: The environment.
    """

    sim: Simulator
    clock: Clock
    files: Files
    bucket: "Bucket"
    s3: "S3Client"
    folder: Path
    settings: dict[str, str]

    def type(self, commands: list[Command]) -> list[list[str]]:
        """Type commands in one shell; give what each prints."""
        script = "exec 2>&1 < /dev/null\n" + "".join(f"echo '{MARK}'\n{one.typed}\n" for one in commands)
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-c", script],
            cwd=self.folder,
            env=self.settings,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return [one.splitlines() for one in done.stdout.split(f"{MARK}\n")[1:]]

    def key_of(self, ending: str, number: int = 0) -> str:
        """A settled conversation's object."""
        return sorted(key for key in self.files if key.endswith(ending))[number]


class Bucket:
    """The objects below a prefix of a bucket, as an operator's accidents and an intruder see them: no rules."""

    def __init__(self, s3: "S3Client", name: str) -> None:
        self._s3, self._name = s3, name
        s3.create_bucket(Bucket=name)

    def keep_versions(self) -> None:
        self._s3.put_bucket_versioning(Bucket=self._name, VersioningConfiguration={"Status": "Enabled"})

    def keep_locks(self) -> None:
        """Begin again with Object Lock, which is for buckets that are made with it."""
        self._s3.delete_bucket(Bucket=self._name)
        self._s3.create_bucket(Bucket=self._name, ObjectLockEnabledForBucket=True)

    def fill(self, files: Files) -> None:
        for key, body in files.items():
            self._s3.put_object(Bucket=self._name, Key=f"calls/{key}", Body=body, Metadata={"sha256": digest(body)})

    def put(self, key: str, body: bytes) -> None:
        self._s3.put_object(Bucket=self._name, Key=f"calls/{key}", Body=body)

    def delete(self, *keys: str) -> None:
        for key in keys:
            self._s3.delete_object(Bucket=self._name, Key=f"calls/{key}")


# The scenes: what has happened before the commands of a section are typed


def nothing(stage: Stage) -> None:
    stage.bucket.fill(stage.files)


def a_new_bucket(stage: Stage) -> None:
    nothing(stage)
    Bucket(stage.s3, "new-bucket")


def lost_and_flipped(stage: Stage) -> tuple[list[str], str, bytes]:
    """Choose a manifest, a part, a body and a record to lose, and a recording to change by a bit."""
    part = manifests(_store(stage.files))[2].entries[0].key
    lost = [keys.manifest(2), part, stage.key_of("/conversation.json"), stage.key_of("/record.json", 2)]
    wav = stage.key_of("/recording.wav", 4)
    body = stage.files[wav]
    return lost, wav, body[:-1] + bytes([body[-1] ^ 1])


def several_losses(stage: Stage) -> None:
    nothing(stage)
    lost, wav, body = lost_and_flipped(stage)
    stage.bucket.delete(*lost)
    stage.bucket.put(wav, body)


def several_losses_and_a_replica(stage: Stage) -> None:
    """The same in a bucket and in a folder."""
    several_losses(stage)
    Bucket(stage.s3, "my-replica").fill(stage.files)
    for place in ("calls", "replica"):
        for key, body in stage.files.items():
            (stage.folder / place / key).parent.mkdir(parents=True, exist_ok=True)
            (stage.folder / place / key).write_bytes(body)
    lost, wav, body = lost_and_flipped(stage)
    for key in lost:
        (stage.folder / "calls" / key).unlink()
    (stage.folder / "calls" / wav).write_bytes(body)


def a_locking_bucket(stage: Stage) -> None:
    """Two files of two ids each: those of a case, and those of a request, of which the last comes under a hold."""
    stage.bucket.keep_locks()
    nothing(stage)
    both = [one for one in entries(_store(stage.files)) if one.outcome == "archived"]
    for name, chosen in (("case.txt", both[:2]), ("request.txt", both[2:4])):
        (stage.folder / name).write_text("".join(f"{one.conversation_id}\n" for one in chosen))


def deletions(stage: Stage) -> None:
    stage.bucket.keep_versions()
    nothing(stage)
    stage.bucket.delete(stage.key_of("/recording.wav"), stage.key_of("/record.json"))


def an_overwriting(stage: Stage) -> None:
    stage.bucket.keep_versions()
    nothing(stage)
    stage.bucket.put(stage.key_of("/recording.wav"), b"something else")


def a_run_in_the_hole(stage: Stage) -> None:
    files = dict(stage.files)
    lost = files.pop(keys.manifest(3))
    store = _store(files)
    stage.sim.add(2, status="completed")
    with client_of(stage.sim, stage.clock) as client:
        archive(client, store, stage.clock, source=stage.settings["FORMANT_BASE_URL"])
    assert store.objects[keys.manifest(3)] != lost
    stage.bucket.fill(store.objects)
    Bucket(stage.s3, "my-replica").fill(stage.files)


def a_lost_recording(stage: Stage) -> None:
    nothing(stage)
    stage.bucket.delete(stage.key_of("/recording.wav"))


def a_chain_lost(stage: Stage) -> None:
    """No copy of two manifests and a record; two other conversations that FormantAI has deleted."""
    nothing(stage)
    lost = stage.key_of("/record.json")
    stage.bucket.delete(keys.manifest(2), keys.manifest(3), lost)
    settled = [entry for entry in entries(_store(stage.files)) if entry.record_key != lost]
    for entry in settled[:2]:
        stage.sim.delete(entry.conversation_id)


SCENES: dict[str, Callable[[Stage], None]] = {
    "The first week": nothing,
    "Move the archive": a_new_bucket,
    "Place a hold, and end it": a_locking_bucket,
    "Keep longer": a_locking_bucket,
    "Erase a call": a_locking_bucket,
    "Show who did what": a_locking_bucket,
    "Restore what was lost from the bucket": several_losses,
    "Deleted, in a bucket that keeps versions": deletions,
    "Overwritten, in a bucket that keeps versions": an_overwriting,
    "From a replica": several_losses_and_a_replica,
    "After a run went on": a_run_in_the_hole,
    "A payload, from the API": a_lost_recording,
    "Without a copy: a new chain": a_chain_lost,
    "Two writers": nothing,
}


def _store(files: Files) -> MemoryStore:
    store = MemoryStore()
    store.objects = files
    return store


# The servers


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_url: str) -> "S3Client":
    """An S3 server with nothing in it."""
    httpx.post(f"{s3_url}/moto-api/reset", trust_env=False).raise_for_status()
    config = Config(request_checksum_calculation="when_required", s3={"addressing_style": "path"})
    session = boto3.session.Session("test", "test", region_name="us-east-1")
    return session.client("s3", endpoint_url=s3_url, config=config)


@pytest.fixture(scope="module")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prefect's server, so that not each run starts one of its own."""
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        cwd=home,
        env=_environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not _answers(f"http://127.0.0.1:{port}/api/health"):
            assert process.poll() is None, "Prefect's server did not start"
            sleep(0.2)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _environment(home: Path) -> dict[str, str]:
    """Nothing of the user's settings."""
    return {
        "PATH": PATH,
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


@contextmanager
def staged(s3: "S3Client", folder: Path) -> Iterator[Stage]:
    """Serve a workspace whose calls were archived in four runs, the last a day ago."""
    clock = Clock(datetime.now(UTC) - timedelta(days=5))
    sim = Simulator(5, 12, (101, 102), now=lambda: clock.ms, completed=0.9, audio_seconds=(0.05, 0.2))
    store = MemoryStore()
    with sim.serve() as url:
        for number in range(RUNS):
            sim.add(2 if number else 0, status="completed")
            with client_of(sim, clock) as client:
                archive(client, store, clock, source=url)
            clock.go(hours=24)
        settings = {
            **_environment(folder),
            **CREDENTIALS,
            "AWS_ENDPOINT_URL_S3": str(s3.meta.endpoint_url),
            "ARCHIVE_URL": "s3://my-bucket/calls",
            "FORMANT_BASE_URL": url,
            "FORMANT_API_KEY": "simulated-key",
        }
        (folder / "tools").symlink_to(ROOT / "tools")
        yield Stage(sim, clock, dict(store.objects), Bucket(s3, "my-bucket"), s3, folder, settings)


# The facts


def test_every_block_is_run_or_says_why_it_is_not() -> None:
    blocks = blocks_of(PAGE.read_text())

    assert {block.section for block in blocks if block.is_run} == SCENES.keys()
    assert all(block.commands for block in blocks)
    assert sum(not block.is_run for block in blocks) <= len(blocks) // 2


# Dozens of commands, each a process: on a busy machine that takes minutes.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("section", SCENES)
def test_what_the_page_says_happens(
    section: str, s3: "S3Client", tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    commands = [
        command
        for block in blocks_of(PAGE.read_text())
        if block.section == section and block.is_run
        for command in block.commands
    ]
    with staged(s3, tmp_path) as stage:
        if any("-m flows." in command.typed for command in commands):
            stage.settings["PREFECT_API_URL"] = request.getfixturevalue("prefect_url")
        SCENES[section](stage)
        printed = stage.type(commands)

    wrong = {
        command.typed: said
        for command, said in zip(commands, printed, strict=True)
        if not is_as_shown(said, command.printed)
    }
    assert not wrong

"""Processes of one test, and all that these start: found by a mark in their environment, stopped by their ids."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.torture.siege import PREFIXES, ROOT

MARK = "STACK_TEST"
#: Seconds that anything here may take.
PATIENCE = 120.0
NOTHING: Mapping[str, str] = {}


def wait_until(is_so: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Look twice a second."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {what}"
        time.sleep(0.5)


def environment_of(pid: int) -> dict[str, str]:
    """Read what a process was started with; nothing where it is gone, or not ours to look at."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in raw.decode(errors="replace").split("\0") if "=" in line)


def is_zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(") ")[2].startswith("Z")


class Processes:
    """The test's processes.

    Args:
        folder: Each process starts in it, and writes a log there.
        environment: Of each of them, in place of the user's own settings.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        clean = {name: value for name, value in os.environ.items() if not name.startswith((*PREFIXES, "AWS_"))}
        self.environment = {**clean, "PYTHONPATH": str(ROOT), **environment}
        self._mark = uuid4().hex
        self._started: list[subprocess.Popen[str]] = []

    @property
    def logs(self) -> dict[str, str]:
        return {path.name: path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log"))}

    def start(
        self, name: str, *command: str, cwd: Path | None = None, more: Mapping[str, str] = NOTHING
    ) -> subprocess.Popen[str]:
        """Start a process in a session of its own, with more in its environment; what it says is in its log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            return self._begin(name, command, cwd, more, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def python(
        self, name: str, *arguments: str, cwd: Path | None = None, more: Mapping[str, str] = NOTHING
    ) -> subprocess.Popen[str]:
        """Start `python -m …`."""
        return self.start(name, sys.executable, "-m", *arguments, cwd=cwd, more=more)

    def partner(self, name: str, *arguments: str) -> "Partner":
        """Start `python -m …` to talk with it."""
        command = (sys.executable, "-m", *arguments)
        with (self.folder / f"{name}.log").open("ab") as log:
            return Partner(
                self._begin(name, command, None, {}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
            )

    def _begin(
        self, name: str, command: Sequence[str], cwd: Path | None, more: Mapping[str, str], **channels: Any
    ) -> subprocess.Popen[str]:
        environment = {**self.environment, MARK: f"{self._mark}/{name}", **more}
        process = subprocess.Popen(
            command, cwd=cwd or self.folder, env=environment, text=True, start_new_session=True, **channels
        )
        self._started.append(process)
        return process

    def run(self, name: str, *arguments: str, cwd: Path | None = None, more: Mapping[str, str] = NOTHING) -> None:
        """Run `python -m …` to its end, which must be a good one."""
        process = self.python(name, *arguments, cwd=cwd, more=more)
        assert process.wait(PATIENCE) == 0, self.logs[f"{name}.log"]

    def of(self, name: str = "") -> list[int]:
        """Name what runs of a process and all that it started; or of all of them."""
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        mark = f"{self._mark}/{name}"
        marks = {pid: environment_of(pid).get(MARK, "") for pid in pids}
        marked = [pid for pid, found in marks.items() if found == mark or (not name and found.startswith(mark))]
        return [pid for pid in marked if not is_zombie(pid)]

    def kill(self, name: str = "") -> None:
        """Kill a process and all that it started, or all of them, until none is left."""
        while pids := self.of(name):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        for process in self._started:
            process.poll()

    def end(self) -> None:
        """Kill all that is left."""
        self.kill()
        for process in self._started:
            process.kill()
            process.communicate()


class Partner:
    """A process that answers each line with one of its own; the first it says by itself."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._hear()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "it has ended"
        return line

    def end(self) -> None:
        """Close its standard input, which ends it."""
        self._process.communicate(timeout=PATIENCE)

    def tell(self, **order: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(order)}\n")
        self._process.stdin.flush()
        self._hear()


def stop(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> int:
    """Tell a process to stop, and give its exit code."""
    process.send_signal(number)
    return process.wait(PATIENCE)

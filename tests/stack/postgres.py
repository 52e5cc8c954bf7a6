"""PostgreSQL's own server on loopback: a database of the test's, in a folder of its own, gone with it."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.stage import free_port
from tests.stack.processes import PATIENCE, Processes, stop, wait_until

USER = "prefect"
#: A database that is thrown away need not survive a power cut.
SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "listen_addresses": "127.0.0.1"}


def binaries() -> Path | None:
    """Find where the server's programs are: Debian does not put them on the path."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    return max(found, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0, default=None)


class Postgres:
    """A running server."""

    def __init__(self, bin_folder: Path, port: int) -> None:
        self._bin = bin_folder
        self._address = ["-h", "127.0.0.1", "-p", str(port), "-U", USER]
        self.url = f"postgresql+asyncpg://{USER}@127.0.0.1:{port}/postgres"

    def is_ready(self) -> bool:
        answer = subprocess.run([str(self._bin / "pg_isready"), *self._address], capture_output=True, check=False)
        return answer.returncode == 0

    def dump(self) -> str:
        """Give everything that is in the database, as text."""
        command = [str(self._bin / "pg_dump"), *self._address, "postgres"]
        return subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE).stdout.decode()


@contextmanager
def serving(bin_folder: Path, processes: Processes) -> Iterator[Postgres]:
    """Make a database and serve it."""
    # Not in pytest's own folder, which nobody but root may enter: the server refuses to run as root.
    folder = Path(mkdtemp(prefix="formant-archive-postgres-"))
    data, port = folder / "data", free_port()
    as_user: list[str] = []
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", pwd.getpwnam("postgres").pw_gid)
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
    make = [str(bin_folder / "initdb"), "-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
    try:
        made = processes.start("initdb", *as_user, *make, cwd=folder)
        assert made.wait(PATIENCE) == 0, processes.logs["initdb.log"]
        options = [f"-c{name}={value}" for name, value in {**SETTINGS, "unix_socket_directories": str(folder)}.items()]
        command = [str(bin_folder / "postgres"), "-D", str(data), "-p", str(port), *options]
        server = processes.start("postgres", *as_user, *command, cwd=folder)
        try:
            postgres = Postgres(bin_folder, port)
            wait_until(postgres.is_ready, "PostgreSQL answers")
            yield postgres
        finally:
            # Fast: it does not wait for who is connected.
            stop(server, signal.SIGINT)
    finally:
        shutil.rmtree(folder)

"""Real S3 servers on loopback, for the tests of `make store-test`: installed once, stopped by their ids.

    python -m tests.stores.servers ceph-20 swift      installs them, or says why one cannot be had here

Nothing is installed into the system: Ceph goes into a folder that `mmdebstrap` fills with Debian's packages (root only,
0.7 GB, a minute), Swift into a virtual environment of its own. Both stay in `STORE_SERVERS_HOME`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stores.servers import ceph, swift
from tests.stores.servers.daemon import Server, Unavailable

__all__ = ["NAMES", "Server", "Unavailable", "asked", "install", "serving"]

_SUITES = {"ceph-20": "forky", "ceph-18": "trixie"}
NAMES = (*_SUITES, "swift")


def home() -> Path:
    """Name the folder where what was installed stays."""
    return Path(os.environ.get("STORE_SERVERS_HOME", "/var/tmp/formant-archive-servers"))


def asked() -> list[str]:
    """Name the servers that this run of the tests is to meet: `STORE_SERVERS`, with commas between."""
    names = [name for name in os.environ.get("STORE_SERVERS", "").split(",") if name]
    assert set(names) <= set(NAMES), f"STORE_SERVERS: known are {', '.join(NAMES)}"
    return names


def install(name: str) -> None:
    """Install a server unless it is here.

    Raises:
        Unavailable: It cannot be had on this machine; the text says why.
    """
    if name == "swift":
        swift.install(home() / name)
    else:
        ceph.install(home() / name, _SUITES[name])


@contextmanager
def serving(name: str, folder: Path) -> Iterator[Server]:
    """Serve an empty store, its data in a folder.

    Raises:
        Unavailable: As in `install`.
    """
    install(name)
    start: Callable[[Path, Path], Iterator[Server]] = swift.serving if name == "swift" else ceph.serving
    with contextmanager(start)(home() / name, folder) as server:
        yield server

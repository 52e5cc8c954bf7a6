"""OpenStack Swift with its S3 middleware, from PyPI: a real store that honours a condition, and loses races.

One node without replicas; needs no root.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.stores.servers.daemon import Server, Unavailable, daemons, first_put, free_port, run

ACCESS, SECRET = "archive:writer", "archive-secret"
_COMMON = "bind_ip = 127.0.0.1\nswift_dir = {etc}\nuser = {user}\nlog_level = WARNING\nworkers = {workers}\n"
_SWIFT = "[swift-hash]\nswift_hash_path_suffix = archive\nswift_hash_path_prefix = archive\n"
_SWIFT += "[storage-policy:0]\nname = one\ndefault = yes\n"
_PIPELINE = (
    "catch_errors gatekeeper healthcheck listing_formats bulk s3api tempauth copy slo dlo versioned_writes symlink"
)
_OPTIONS = {
    "s3api": "location = us-east-1\n",
    "tempauth": f"user_{ACCESS.replace(':', '_')} = {SECRET} .admin\n",
    "versioned_writes": "allow_versioned_writes = true\nallow_object_versioning = true\n",
}


def install(home: Path) -> None:
    """Install it into a virtual environment of its own; see the package."""
    if (home / "complete").exists():
        return
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    run([sys.executable, "-m", "venv", str(home / "venv")], home / "log")
    run([str(home / "venv/bin/pip"), "install", "--quiet", "swift==2.38.3"], home / "log")
    (home / "complete").touch()


def serving(home: Path, folder: Path) -> Iterator[Server]:
    """Serve an empty store; see the package."""
    etc, python = folder / "etc", home / "venv/bin/python"
    for name in ("etc", "devices/d1", "cache"):
        (folder / name).mkdir(parents=True)
    ports = {name: free_port() for name in ("account", "container", "object", "proxy")}
    _configure(home, folder, ports)
    with daemons() as start:
        processes = [
            start(
                [str(python), str(home / f"venv/bin/swift-{name}-server"), str(etc / f"{name}.conf"), "-v"],
                folder / f"{name}.log",
            )
            for name in ports
        ]
        server = Server(f"http://127.0.0.1:{ports['proxy']}", ACCESS, SECRET, f"Swift {_version(python)}")
        first_put(server, processes)
        yield server


def _version(python: Path) -> str:
    asked = [str(python), "-c", "from importlib.metadata import version; print(version('swift'))"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def _configure(home: Path, folder: Path, ports: dict[str, int]) -> None:
    etc = folder / "etc"
    common = {"etc": etc, "user": _user()}
    (etc / "swift.conf").write_text(_SWIFT)
    filters = "".join(
        f"[filter:{name}]\nuse = egg:swift#{name}\n{_OPTIONS.get(name, '')}" for name in _PIPELINE.split()
    )
    (etc / "proxy.conf").write_text(
        f"[DEFAULT]\nbind_port = {ports['proxy']}\n{_COMMON.format(workers=2, **common)}"
        f"[pipeline:main]\npipeline = {_PIPELINE} proxy-server\n"
        f"[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n{filters}"
    )
    for name in ("account", "container", "object"):
        (etc / f"{name}.conf").write_text(
            f"[DEFAULT]\nbind_port = {ports[name]}\n{_COMMON.format(workers=2 if name == 'object' else 1, **common)}"
            f"devices = {folder / 'devices'}\nmount_check = false\nrecon_cache_path = {folder / 'cache'}\n"
            f"fallocate_reserve = 0\n[pipeline:main]\npipeline = {name}-server\n"
            f"[app:{name}-server]\nuse = egg:swift#{name}\n"
        )
        ring = [str(home / "venv/bin/swift-ring-builder"), str(etc / f"{name}.builder")]
        for words in (["create", "6", "1", "0"], ["add", f"r1z1-127.0.0.1:{ports[name]}/d1", "1"], ["rebalance"]):
            run([*ring, *words], folder / "ring.log")


def _user() -> str:
    try:
        return os.environ.get("USER") or Path.home().owner()
    except KeyError:
        raise Unavailable("this user has no name, and Swift asks for one") from None

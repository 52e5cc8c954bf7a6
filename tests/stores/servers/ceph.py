"""Ceph with its S3 gateway, from Debian's packages in a folder of their own: one monitor, one store, in memory.

Needs root, `mmdebstrap`, and the right to mount (`unshare -m`). Debian forky has Ceph 20, trixie Ceph 18. What this
small cluster's configuration says was found out by trying; a word is said where it is not obvious.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

from tests.stores.servers.daemon import Server, Unavailable, daemons, first_put, free_port, run

ACCESS, SECRET = "ARCHIVEOWNER00000001", "owner-secret-of-a-test"
WRITER_ACCESS, WRITER_SECRET = "ARCHIVEWRITER0000001", "writer-secret-of-a-test"
#: What `SSEKMSKeyId` may name.
KMS_KEY = "testkey-1"
_PACKAGES = "ceph-mon,ceph-osd,radosgw,ceph-common"
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon_initial_members = a
mon_host = v2:127.0.0.1:{mon_port}/0
ms_bind_msgr1 = false
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
run_dir = {folder}
admin_socket = {folder}/$type.$id.asok
log_file = {folder}/$type.$id.log
crash_dir = {folder}/crash
log_to_stderr = false
err_to_stderr = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 2000
mon_data_avail_warn = 1
mon_data_avail_crit = 0
client_mount_timeout = 60
# One monitor: a change of its map, of which each pool makes several, need not wait for others.
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
[mon]
mon_data = {folder}/mon
[osd]
osd_data = {folder}/osd
osd_objectstore = memstore
osd_op_queue = wpq
osd_class_update_on_start = false
osd_memory_target = 1073741824
memstore_device_bytes = 4294967296
[client.rgw.a]
rgw_data = {folder}/rgw
# Without tcp_nodelay each small answer waits 40 ms.
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw_enable_usage_log = false
# Without cephx, which the gateway asks for by default, it would wait for ever.
ms_mon_client_mode = crc secure
rgw_crypt_require_ssl = false
rgw_crypt_s3_kms_backend = testing
rgw_crypt_s3_kms_encryption_keys = testkey-1=YmluCmJvb3N0CmJvb3N0LWJ1aWxkCmNlcGguY29uZgo=
"""
# The mounts are in a namespace of the process's own, and vanish with it. Each step is an exec: the id is the daemon's.
_ENTER = (
    'root=$1 folder=$2; shift 2; mkdir -p "$root$folder" && mount -t proc proc "$root/proc" && '
    'mount --rbind /dev "$root/dev" && mount --rbind /sys "$root/sys" && mount --bind "$folder" "$root$folder" && '
    'exec chroot "$root" "$@"'
)


def install(home: Path, suite: str) -> None:
    """Fill a folder with a Debian that has Ceph; see the package."""
    if os.getuid() or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        raise Unavailable("it needs root and the right to mount (unshare -m)")
    if (home / ".complete").exists():
        return
    if not shutil.which("mmdebstrap"):
        raise Unavailable("it needs mmdebstrap: apt-get install mmdebstrap")
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    options = ['Acquire::Check-Valid-Until "false"', 'Apt::Install-Recommends "false"']
    run(
        [
            *("mmdebstrap", "--variant=apt", f"--include={_PACKAGES}"),
            # A suite in the making says until when its index is valid; signatures are checked all the same.
            *(f"--aptopt={option}" for option in options),
            *(suite, str(home), f"deb {_mirror()} {suite} main"),
        ],
        home.with_suffix(".log"),
    )
    (home / ".complete").touch()


def _mirror() -> str:
    """Name the mirror of Debian that this machine uses already."""
    form = "$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)"
    try:
        said = subprocess.run(
            ["apt-get", "indextargets", "--format", form], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        raise Unavailable("it comes from Debian's packages, and apt-get is not here") from None
    rows = [line.split() for line in said.splitlines()]
    found = [row[3] for row in rows if len(row) == 4 and (row[0], row[2]) == ("Debian", "main") and "-" not in row[1]]
    if not found:
        raise Unavailable("apt's sources name no mirror of Debian: apt-get update")
    return found[0]


def serving(home: Path, folder: Path) -> Iterator[Server]:
    """Serve an empty store; see the package."""
    port, mon_port = free_port(), free_port(low=True)
    for name in ("mon", "osd", "rgw", "crash"):
        (folder / name).mkdir(parents=True)
    config = folder / "ceph.conf"
    config.write_text(_CONFIGURATION.format(fsid=uuid4(), folder=folder, port=port, mon_port=mon_port))
    enter = ["unshare", "-m", "--propagation", "private", "bash", "-c", _ENTER, "in", str(home), str(folder)]

    def told(name: str, *words: str) -> list[str]:
        return [*enter, name, "-c", str(config), *words]

    def do(name: str, *words: str) -> None:
        run(["timeout", "60", *told(name, *words)], folder / "setup.log")

    monmap = str(folder / "monmap")
    address = ["--addv", "a", f"v2:127.0.0.1:{mon_port}/0", monmap]
    do("monmaptool", "--create", "--clobber", "--fsid", _fsid(config), *address)
    do("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
    with daemons() as start:
        processes = [start(told("ceph-mon", "-i", "a", "-f"), folder / "mon.out")]
        osd = str(uuid4())
        do("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        do("ceph", "--connect-timeout", "20", "osd", "new", osd, "0")
        processes.append(start(told("ceph-osd", "-i", "0", "-f"), folder / "osd.out"))
        for user, access, secret in (("owner", ACCESS, SECRET), ("writer", WRITER_ACCESS, WRITER_SECRET)):
            keys = ["--access-key", access, "--secret-key", secret]
            do("radosgw-admin", "-n", "client.rgw.a", "user", "create", "--uid", user, "--display-name", user, *keys)
        gateway = told("radosgw", "-n", "client.rgw.a", "-f")
        processes.append(start(gateway, folder / "rgw.out"))
        second = (WRITER_ACCESS, WRITER_SECRET, "arn:aws:iam:::user/writer")
        server = Server(f"http://127.0.0.1:{port}", ACCESS, SECRET, _version(told("ceph", "--version")), second)
        first_put(server, processes)
        yield server


def _fsid(config: Path) -> str:
    return config.read_text().splitlines()[1].partition(" = ")[2]


def _version(command: Sequence[str]) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return f"Ceph {said[2]}"

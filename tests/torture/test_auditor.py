"""The auditor finds what is wrong: each test damages a sound archive in one way."""

import gzip
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from formant_archive.simulator import Simulator
from formant_archive.stores import open_store
from tests.plain import Clock, archive, client_of
from tests.torture.auditor import audit, files_of

Files = dict[str, bytes]
Damage = Callable[[Files], object]
FIRST, SECOND = (f"manifests/{number:020d}.json" for number in (1, 2))


@pytest.fixture(scope="module")
def sim() -> Simulator:
    return Simulator(conversations=12, late_recordings=0.3, in_progress=1, spread_hours=4, audio_seconds=(0.1, 0.2))


@pytest.fixture(scope="module")
def sound(sim: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Two runs' archive, everything settled."""
    folder = tmp_path_factory.mktemp("sound")
    clock = Clock(datetime.now(UTC))
    for _ in range(2):
        with client_of(sim, clock) as client:
            archive(client, open_store(str(folder)), clock)
        sim.release()
        clock.go(minutes=1)
    return files_of(folder)


def canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def rewrite(files: Files, key: str, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(files[key])
    change(value)
    files[key] = canonical(value)


def one(files: Files, name: str) -> str:
    """Name the first key that ends so."""
    return next(key for key in sorted(files) if key.endswith(name))


def of_head(files: Files, kind: str) -> str:
    return str(json.loads(files[SECOND])[kind][0]["key"])


def lose(name: str) -> Damage:
    return lambda files: files.pop(one(files, name))


def change_bytes(name: str) -> Damage:
    def damage(files: Files) -> None:
        files[one(files, name)] = files[one(files, name)][:-1] + b"!"

    return damage


def change_head(change: Callable[[dict[str, Any]], object]) -> Damage:
    return lambda files: rewrite(files, SECOND, change)


def repeat_commit(files: Files) -> None:
    rewrite(files, SECOND, lambda head: head.update(run=json.loads(files[FIRST])["run"]))


def put_a_part(files: Files, lines: list[bytes]) -> dict[str, object]:
    body = gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0)
    sha256 = hashlib.sha256(body).hexdigest()
    key = f"manifests/parts/{sha256}.jsonl.gz"
    files[key] = body
    return {"key": key, "sha256": sha256, "count": len(lines)}


def keep_pending(files: Files) -> None:
    """Let the head wait for what it has settled."""
    pending = json.loads(files[FIRST])["pending"]
    rewrite(files, SECOND, lambda head: head.update(pending=pending))


def forget_pending(files: Files) -> None:
    """Cut the archive to its first manifest, which forgets what it waits for."""
    del files[SECOND]
    rewrite(files, FIRST, lambda head: head.update(pending=None))


def lose_an_entry(files: Files) -> None:
    lines = gzip.decompress(files[of_head(files, "entries")]).splitlines()[1:]
    rewrite(files, SECOND, lambda head: head.update(entries=[put_a_part(files, lines)]))


def seal_twice(files: Files) -> None:
    """Let an entry name a second record."""
    lines = gzip.decompress(files[of_head(files, "entries")]).splitlines()
    other = {**json.loads(lines[0]), "record_key": "elsewhere"}
    rewrite(files, SECOND, lambda head: head.update(entries=[put_a_part(files, [*lines, canonical(other)])]))


def test_sound_archive_has_no_fault(sound: Files, sim: Simulator) -> None:
    assert audit(sound, sim.conversations, is_settled=True) == []


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        pytest.param(lose("recording.wav"), "which is not there", id="a recording lost"),
        pytest.param(lose("conversation.json"), "which is not there", id="a body lost"),
        pytest.param(lose("record.json"), "which is not there", id="a record lost"),
        pytest.param(lose(FIRST), "manifest 1 is missing", id="a manifest lost"),
        pytest.param(lambda files: files.pop(of_head(files, "entries")), "which is not there", id="a part lost"),
        pytest.param(change_bytes("recording.wav"), "is not what was served", id="a recording changed"),
        pytest.param(change_bytes("conversation.json"), "another size or hash", id="a body changed"),
        pytest.param(change_head(lambda head: head.update(previous=None)), "does not follow", id="a fork"),
        pytest.param(change_head(lambda head: head.update(archive_id="x")), "several archives", id="two archives"),
        pytest.param(change_head(lambda head: head["counts"].update(listed=999)), "do not add up", id="counts"),
        pytest.param(change_head(lambda head: head["listing"].update(complete=False)), "not complete", id="listing"),
        pytest.param(change_head(lambda head: head.update(entries=[])), "other entries", id="entries not named"),
        pytest.param(repeat_commit, "the same part twice", id="a commit twice"),
        pytest.param(keep_pending, "pending though settled", id="settled and pending"),
        pytest.param(forget_pending, "is forgotten", id="forgotten"),
        pytest.param(lose_an_entry, "no manifest names these records", id="a record without an entry"),
        pytest.param(seal_twice, "has several records", id="two records"),
        pytest.param(lambda files: files.update({"conversations/x": b""}), "nothing that the archive", id="a stray"),
    ],
)
def test_damage_is_found(sound: Files, sim: Simulator, damage: Damage, fault: str) -> None:
    files = dict(sound)
    damage(files)

    found = audit(files, sim.conversations, is_settled=True)

    assert any(fault in sentence for sentence in found), found

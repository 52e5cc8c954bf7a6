"""Legal holds and longer retention: chained, handed on, obeyed by every run, and found where they are not."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto import mock_aws

from formant_archive import cli, keys
from formant_archive.catalogue import EVERYTHING, Selection, read_catalogue
from formant_archive.custody import Custodian
from formant_archive.erasure import Eraser, Erasure
from formant_archive.errors import ArchiveError, StoreUnavailable
from formant_archive.ledger import read_head
from formant_archive.simulator import Simulator
from formant_archive.stores import Store
from formant_archive.stores.custody import S3Custody
from formant_archive.stores.directory import DirectoryStore
from formant_archive.verify import Verification
from tests.plain import Between, Clock, Crash, archive, client_of, entries, manifests, pending
from tests.stores.memory import MemoryCustody
from tools import verify_archive

_numbers = count(1)


def simulator(clock: Clock, **options: Any) -> Simulator:
    return Simulator(7, 20, now=lambda: clock.ms, agents=(101, 102), audio_seconds=(0.1, 0.2), **options)


def officer(store: Store, clock: Clock, **options: Any) -> Custodian:
    return Custodian(
        store,
        read_catalogue(store),
        by="ben",
        run_id=f"act-{next(_numbers)}",
        version="test",
        now=clock(),
        **options,
    )


def these(*ids: str) -> Selection:
    return Selection(ids=frozenset(ids))


def objects_of(store: Store, name: str) -> set[str]:
    found = [one for one in entries(store) if one.conversation_id == name]
    return {one.record_key for one in found} | {each.key for one in found for each in one.objects}


def objects_of_all(store: Store) -> set[str]:
    return {key for one in entries(store) for key in objects_of(store, one.conversation_id)}


def codes(store: Store) -> list[str]:
    return [one.code for one in Verification(store).findings() if one.severity != "note"]


@pytest.fixture
def endpoint_client() -> Iterator[Any]:
    with mock_aws():
        yield boto3.client("s3", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryCustody:
    made = MemoryCustody()
    archive(client_of(simulator(clock), clock), made, clock)
    return made


def test_a_hold_is_on_all_objects_and_in_the_chain(store: MemoryCustody, clock: Clock) -> None:
    name = entries(store)[0].conversation_id
    done = officer(store, clock).place("case-1", these(name))

    assert store.held == objects_of(store, name)
    assert (done.conversations, done.objects, done.manifest) == (1, len(store.held), 2)
    manifest = manifests(store)[-1]
    assert manifest.kind == "hold"
    assert manifest.custody is not None
    assert (manifest.custody.act, manifest.custody.by, manifest.custody.case) == ("place", "ben", "case-1")
    assert read_head(store).state.holds[name].cases == ("case-1",)
    assert codes(store) == []


def test_the_same_hold_again_changes_nothing(store: MemoryCustody, clock: Clock) -> None:
    officer(store, clock).place("case-1", Selection(agent_id=101))
    before, held = dict(store.objects), set(store.held)
    done = officer(store, clock).place("case-1", Selection(agent_id=101))

    assert done.manifest is None
    assert (store.objects, store.held) == (before, held)


def test_a_killed_command_is_found_and_made_good_by_the_same_command(store: MemoryCustody, clock: Clock) -> None:
    store.fail_next("hold", StoreUnavailable("gone"), key_contains=entries(store)[9].record_key)
    with pytest.raises(StoreUnavailable):
        officer(store, clock).place("case-1", EVERYTHING)

    assert set(codes(store)) == {"L002"}
    officer(store, clock).place("case-1", EVERYTHING)
    assert codes(store) == []
    assert len(manifests(store)) == 2


def test_what_two_cases_hold_stays_held_until_both_are_over(store: MemoryCustody, clock: Clock) -> None:
    one, two = (entry.conversation_id for entry in entries(store)[:2])
    officer(store, clock).place("case-1", these(one, two))
    officer(store, clock).place("case-2", these(one))
    officer(store, clock).release("case-1", these(one, two), store)

    assert store.held == objects_of(store, one)
    assert read_head(store).state.holds.keys() == {one}
    officer(store, clock).release("case-2", these(one), store)
    assert store.held == set()
    assert read_head(store).state.holds == {}
    assert manifests(store)[-1].holds is None
    assert codes(store) == []


def test_a_release_that_is_killed_is_made_good_by_the_same_command(store: MemoryCustody, clock: Clock) -> None:
    name = entries(store)[0].conversation_id
    officer(store, clock).place("case-1", these(name))
    store.fail_next("put", StoreUnavailable("gone"), key_contains="manifests/0")
    with pytest.raises(StoreUnavailable):
        officer(store, clock).release("case-1", these(name), store)

    assert set(codes(store)) == {"L002"}
    officer(store, clock).release("case-1", these(name), store)
    assert codes(store) == []


def test_every_later_manifest_hands_the_holds_on(store: MemoryCustody, clock: Clock) -> None:
    officer(store, clock).place("case-1", EVERYTHING)
    sim = simulator(clock)
    sim.add(3)
    clock.go(hours=1)
    archive(client_of(sim, clock), store, clock)

    first, second = manifests(store)[-2:]
    assert first.holds is not None
    assert second.holds == first.holds
    assert codes(store) == []


def late(clock: Clock) -> tuple[Simulator, MemoryCustody, str]:
    """An archive that waits for the recording of a conversation, which is served from now on."""
    sim, store = simulator(clock, late_recordings=1), MemoryCustody()
    archive(client_of(sim, clock), store, clock)
    name = next(name for name, one in pending(store).items() if one.reason == "recording_not_found")
    for one in sim.conversations:
        if one.recording_comes == "later":
            one.release()
    clock.go(hours=1)
    return sim, store, name


def test_what_a_held_conversation_gets_later_comes_under_the_hold(clock: Clock) -> None:
    sim, store, name = late(clock)
    officer(store, clock).place("case-1", these(name))
    archive(client_of(sim, clock), store, clock)

    assert any(key.endswith(keys.RECORDING) for key in objects_of(store, name))
    assert store.held == objects_of(store, name)
    assert codes(store) == []


@pytest.mark.parametrize("step", ["recording", "seal", "commit"])
def test_a_run_that_began_before_the_hold_brings_its_own_under_it(clock: Clock, step: str) -> None:
    sim, store, name = late(clock)
    acted: list[str] = []

    def overtake(at: str) -> None:
        if at == step and not acted:
            acted.append(at)
            officer(store, clock).place("case-1", these(name))

    archive(client_of(sim, clock), store, clock, between=overtake)

    assert acted
    assert store.held == objects_of(store, name)
    assert codes(store) == []


def crash_at(step: str) -> Between:
    def stop(at: str) -> None:
        if at == step:
            raise Crash

    return stop


def test_what_a_killed_run_had_sealed_before_the_hold_comes_under_it_when_it_is_adopted(clock: Clock) -> None:
    sim, store, name = late(clock)
    with pytest.raises(Crash):
        archive(client_of(sim, clock), store, clock, between=crash_at("commit"))
    officer(store, clock).place("case-1", these(name))
    archive(client_of(sim, clock), store, clock)

    assert [one.outcome for one in entries(store) if one.conversation_id == name] == ["adopted"]
    assert store.held == objects_of(store, name)
    assert codes(store) == []


def test_what_a_killed_run_had_stored_before_the_hold_comes_under_it_while_the_rest_is_waited_for(clock: Clock) -> None:
    sim, store = simulator(clock, in_progress=1), MemoryCustody()
    archive(client_of(sim, clock), store, clock)
    name = next(name for name, one in pending(store).items() if one.reason == "open")
    clock.go(minutes=10)
    sim.find(name).release()
    sim.change(name, recording_comes="never")
    with pytest.raises(Crash):
        archive(client_of(sim, clock), store, clock, between=crash_at("commit"))
    officer(store, clock).place("case-1", these(name))
    archive(client_of(sim, clock), store, clock)

    waiting = pending(store)[name]
    assert waiting.conversation
    assert store.held == {waiting.conversation.key}
    assert codes(store) == []


def test_an_adopted_conversation_whose_payload_is_lost_stops_no_run(clock: Clock) -> None:
    sim, store, name = late(clock)
    with pytest.raises(Crash):
        archive(client_of(sim, clock), store, clock, between=crash_at("commit"))
    officer(store, clock).place("case-1", these(name))
    known = objects_of_all(store)
    del store.objects[next(key for key in store.objects if key.endswith(keys.RECORDING) and key not in known)]
    archive(client_of(sim, clock), store, clock)

    assert codes(store) == ["P001"]


def test_what_a_run_commits_while_the_officer_looks_comes_under_the_hold_too(clock: Clock) -> None:
    sim, store, name = late(clock)
    looking = officer(store, clock)
    archive(client_of(sim, clock), store, clock)
    looking.place("case-1", these(name))

    assert any(key.endswith(keys.RECORDING) for key in objects_of(store, name))
    assert store.held == objects_of(store, name)
    assert codes(store) == []


def test_what_a_run_settles_after_the_catalogue_was_read_is_not_lost_to_the_officer(clock: Clock) -> None:
    sim, store, name = late(clock)
    catalogue = read_catalogue(store)
    archive(client_of(sim, clock), store, clock)
    late_officer = Custodian(store, catalogue, by="ben", run_id="act-late", version="test", now=clock())
    done = late_officer.place("case-1", these(name))

    assert done.unknown == ()
    assert store.held == objects_of(store, name)
    assert codes(store) == []


def test_what_a_run_adds_while_the_officer_works_is_not_held_behind_the_chains_back(clock: Clock) -> None:
    sim, store, _ = late(clock)
    looking = officer(store, clock)
    before = {one.conversation_id for one in entries(store)} | pending(store).keys()
    sim.add(3, recording_comes="never", status="completed")
    archive(client_of(sim, clock), store, clock)
    looking.place("case-1", EVERYTHING)

    assert pending(store).keys() - before
    assert read_head(store).state.holds.keys() == before
    assert {keys.folder_of(key) for key in store.held} == {
        keys.folder_of(one.record_key) for one in entries(store) if one.conversation_id in before
    }


@pytest.mark.parametrize("place", range(6))
def test_an_object_that_is_not_held_any_more_is_damage(store: MemoryCustody, clock: Clock, place: int) -> None:
    officer(store, clock).place("case-1", EVERYTHING)
    named = sorted({key for one in entries(store) for key in objects_of(store, one.conversation_id)})
    key = named[place * 7 % len(named)]
    store.held.discard(key)

    assert [(one.code, one.key) for one in Verification(store).findings() if one.severity != "note"] == [("L002", key)]


def test_an_extension_is_on_the_objects_on_their_proof_and_in_the_chain(store: MemoryCustody, clock: Clock) -> None:
    name = entries(store)[0].conversation_id
    until = clock() + timedelta(days=900)
    officer(store, clock).extend(until, "GOVERNANCE", these(name))

    named = manifests(store)
    proof = {keys.manifest(one.sequence) for one in named} | {part.key for part in named[0].entries}
    for key in objects_of(store, name) | proof:
        assert store.locks[key].until >= until, key
    assert named[-1].custody is not None
    assert (named[-1].custody.act, named[-1].custody.until) == ("extend", until)
    assert codes(store) == []


def test_an_unknown_id_is_said_and_the_others_are_held(store: MemoryCustody, clock: Clock) -> None:
    name = entries(store)[0].conversation_id
    done = officer(store, clock).place("case-1", these(name, "nobody"))

    assert (done.conversations, done.unknown) == (1, ("nobody",))


# The command


def run(*words: str) -> int:
    try:
        return cli.exit_code(lambda: cli.app(words, exit_on_error=False, print_error=False))
    except SystemExit as end:
        return int(end.code or 0)


@pytest.fixture
def folder(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    archive(client_of(simulator(clock), clock), DirectoryStore(tmp_path / "calls"), clock)
    return tmp_path / "calls"


def test_a_hold_on_a_folder_is_chained_and_says_that_nothing_else_keeps_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = entries(DirectoryStore(folder))[0].conversation_id
    at = ("--archive-url", str(folder))

    assert run("hold", "place", name, "--case", "c-7", "--by", "Ben", *at) == 0
    said = capsys.readouterr()
    assert "held for c-7: 1 conversations" in said.out
    assert "only `formant-archive erase` obeys" in " ".join(said.err.split())
    assert run("hold", "list", *at) == 0
    assert capsys.readouterr().out == f"{name}  c-7\n"
    assert run("verify", str(folder)) == 0
    assert run("hold", "release", "--case", "c-7", *at) == 0
    capsys.readouterr()
    assert run("hold", "list", *at) == 0
    assert capsys.readouterr().out == "nothing is held\n"


def test_the_status_tells_what_is_held_and_erased_from_the_newest_manifest_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = (entry.conversation_id for entry in entries(DirectoryStore(folder))[:3])
    at = ("--archive-url", str(folder))
    assert run("status", str(folder), "--head-only") == 0
    assert not re.search("^(held|erased) ", capsys.readouterr().out, re.MULTILINE)
    run("hold", "place", one, two, "--case", "c-1", *at)
    run("hold", "place", two, "--case", "c-2", *at)
    run("erase", three, "--reason", "asked to", "--legal-basis", "none", *at)
    capsys.readouterr()

    assert run("status", str(folder), "--head-only") == 0
    said = capsys.readouterr().out
    assert re.search("^held +2 by 2 cases: ", said, re.MULTILINE)
    assert re.search("^erased +1: ", said, re.MULTILINE)
    assert re.search("^last run +.*, an erasure$", said, re.MULTILINE)
    assert run("status", str(folder), "--head-only", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["held"] == {"conversations": 2, "cases": {"c-1": 2, "c-2": 1}}
    assert told["erased"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("hold", "place", "--everything"), "--case is needed"),
        (("hold", "place", "--case", "a b", "--everything"), "--case is 1 to 64 signs"),
        (("hold", "place", "--case", "a"), "nothing is selected"),
        (("hold", "release", "--case", "a"), "nothing is held for a"),
        (("hold", "place", "--case", "a", "--everything", "--by", "a\nb"), "--by is one line"),
        (("retain", "--everything", "--extend-to", "2020-01-01"), "is over already"),
        (("retain", "--everything", "--extend-to", "2126-01-01"), "beyond the cap of 3,653 days"),
        (("retain", "--everything", "--extend-to", "2028-01-01"), "say --mode governance or"),
        (("retain", "--everything", "--extend-to", "2028-01-01", "--mode", "compliance"), "a folder cannot lock"),
        (("retain", "--extend-to", "2028-01-01"), "nothing is selected"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert run(*words, "--archive-url", str(folder)) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert len(manifests(DirectoryStore(folder))) == 1


# Erasure


def eraser(store: Any, clock: Clock, **options: Any) -> Eraser:
    return Eraser(
        store, read_catalogue(store), by="cleo", run_id=f"act-{next(_numbers)}", version="test", now=clock(), **options
    )


def erase(store: Any, clock: Clock, selection: Selection, **options: Any) -> Erasure:
    return eraser(store, clock, **options).erase(selection, reason="asked to", legal_basis="GDPR 17(1)(b)")


def payloads_of(store: Store, name: str) -> set[str]:
    return {key for key in objects_of(store, name) if not key.endswith(keys.RECORDS)}


def test_what_is_erased_is_gone_and_written_down_and_no_damage(store: MemoryCustody, clock: Clock) -> None:
    name = entries(store)[0].conversation_id
    gone = payloads_of(store, name)
    done = erase(store, clock, these(name))

    assert (done.conversations, done.objects, done.refused) == (1, len(gone), ())
    assert not gone & store.objects.keys()
    assert objects_of(store, name) - gone <= store.objects.keys()
    note = manifests(store)[-1].custody
    assert note is not None
    assert (note.act, note.by, note.reason, note.legal_basis) == ("erase", "cleo", "asked to", "GDPR 17(1)(b)")
    verification = Verification(store)
    assert [(one.code, one.key) for one in verification.findings()] == [("E001", key) for key in sorted(gone)]
    assert verification.report.verdict == "VALID"


def test_what_was_erased_is_never_archived_again(clock: Clock) -> None:
    store, sim = MemoryCustody(), simulator(clock)
    archive(client_of(sim, clock), store, clock)
    names = frozenset(one.conversation_id for one in entries(store))
    erase(store, clock, EVERYTHING)
    for full in (False, True):
        clock.go(hours=1)
        sim.add(2)
        archive(client_of(sim, clock), store, clock, full=full)
        archive(client_of(sim, clock), store, clock, full=full, agent_id=101)

    left = {keys.folder_of(key) for key in store.objects if key.endswith(keys.PAYLOADS)}
    assert not left & {keys.folder_of(one.record_key) for one in entries(store) if one.conversation_id in names}
    assert codes(store) == []
    assert read_head(store).state.erased.keys() == names


def test_a_killed_erasure_leaves_a_warning_and_the_same_command_ends_it(store: MemoryCustody, clock: Clock) -> None:
    store.fail_next("erase", StoreUnavailable("gone"), key_contains=entries(store)[5].record_key.rpartition("/")[0])
    with pytest.raises(StoreUnavailable):
        erase(store, clock, EVERYTHING)

    assert set(codes(store)) == {"E002"}
    done = erase(store, clock, EVERYTHING)
    assert done.manifest is None
    assert codes(store) == []


def test_what_is_held_or_locked_stays_and_no_manifest_calls_it_erased(store: MemoryCustody, clock: Clock) -> None:
    one, two, three = (entry.conversation_id for entry in entries(store)[:3])
    officer(store, clock).place("case-1", these(one))
    officer(store, clock).extend(clock() + timedelta(days=1), "GOVERNANCE", these(two))
    done = erase(store, clock, these(one, two, three))

    assert {refusal.conversation_id for refusal in done.refused} == {one, two}
    assert read_head(store).state.erased.keys() == {three}
    assert codes(store) == []
    assert erase(store, clock, these(two), bypass=True).refused == ()


def test_a_hold_that_is_placed_meanwhile_stops_an_erasure(store: MemoryCustody, clock: Clock) -> None:
    name = entries(store)[0].conversation_id
    late = eraser(store, clock)
    officer(store, clock).place("case-1", these(name))
    for key in list(store.held):
        store.held.discard(key)
    with pytest.raises(ArchiveError, match="legal hold"):
        late.erase(these(name), reason="asked to", legal_basis="none")

    assert payloads_of(store, name) <= store.objects.keys()
    assert read_head(store).state.erased == {}


def test_a_pending_or_unknown_conversation_is_not_erased(clock: Clock) -> None:
    _, store, name = late(clock)
    done = erase(store, clock, these(name, "nobody"))

    assert [one.why for one in done.refused] == [
        "not settled yet: erase it once it is",
        "the archive knows no such conversation",
    ]
    assert done.manifest is None


def test_on_a_folder_every_command_says_erased(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = entries(DirectoryStore(folder))[0].conversation_id
    at = ("--archive-url", str(folder))
    words = ("erase", name, "--reason", "asked to", "--legal-basis", "DPDP 12(3)")

    assert run(*words, "--by", "Cleo", *at) == 0
    assert "erased: 1 conversations" in capsys.readouterr().out
    assert run("verify", str(folder), "--deep") == 0
    assert "E001" in capsys.readouterr().out
    assert run("list", str(folder)) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if name in line and "erased" in line]
    assert run("list", str(folder), "--outcome", "erased") == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == [name]
    assert run("list", str(folder), "--outcome", "archived") == 0
    assert name not in capsys.readouterr().out
    assert run("show", name, *at) == 0
    assert "erased" in capsys.readouterr().out
    assert run("export", name, "--to", str(tmp_path / "bag"), *at) == 0
    assert "erased" in (tmp_path / "bag" / "data" / "index.csv").read_text()


def test_a_bucket_loses_every_version_and_nothing_else(endpoint_client: Any, clock: Clock) -> None:
    client = endpoint_client
    client.create_bucket(Bucket=(bucket := f"erased-{uuid4().hex}"), ObjectLockEnabledForBucket=True)
    store = S3Custody(bucket, "calls", client)
    archive(client_of(simulator(clock), clock), store, clock)
    one, two = (entry.conversation_id for entry in entries(store)[:2])
    twice = sorted(payloads_of(store, one))[0]
    client.put_object(Bucket=bucket, Key=f"calls/{twice}", Body=b"another version")
    store.hold(sorted(payloads_of(store, two))[0])
    before = {stat.key for stat in store.list("")}
    done = erase(store, clock, these(one, two))

    assert done.objects == len(payloads_of(store, one)) + 1
    assert [refusal.conversation_id for refusal in done.refused] == [two]
    assert before - {stat.key for stat in store.list("")} == payloads_of(store, one)
    assert not list(store.traces("conversations/"))


def outsider(store: MemoryCustody, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """What the outsider's verifier says of a copy in a folder."""
    for key, body in store.objects.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(body)
    return verify_archive.main([str(folder)]), capsys.readouterr().out


def test_the_outsiders_verifier_knows_what_is_held_and_what_is_erased(
    store: MemoryCustody, clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = (entry.conversation_id for entry in entries(store)[:3])
    officer(store, clock).place("case-1", these(one))
    erase(store, clock, these(two))
    assert outsider(store, tmp_path / "sound", capsys)[0] == 0

    lost = sorted(payloads_of(store, three))[0]
    del store.objects[lost]
    code, said = outsider(store, tmp_path / "lost", capsys)
    assert code == 1
    assert [line for line in said.splitlines() if line.startswith("P001")] == [
        f"P001 damage {lost}: expected a file that can be read, found none"
    ]


@pytest.mark.parametrize("field", ["holds", "erased", "which"])
@pytest.mark.parametrize(("harm", "code"), [("missing", "C007"), ("altered", "C008")])
def test_a_part_of_custody_that_is_not_what_was_named_is_damage(
    store: MemoryCustody,
    clock: Clock,
    field: str,
    harm: str,
    code: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, two = (entry.conversation_id for entry in entries(store)[:2])
    officer(store, clock).place("case-1", these(one))
    erase(store, clock, these(two))
    manifest = manifests(store)[-1]
    link = manifest.custody.which if field == "which" and manifest.custody else getattr(manifest, field)
    if harm == "missing":
        del store.objects[link.key]
    else:
        store.objects[link.key] += b"\0"

    assert code in codes(store)
    assert f"{code} damage {link.key}" in outsider(store, tmp_path / "copy", capsys)[1]

"""Verification: damage of every kind is found and named, and what is sound is called sound."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from moto import mock_aws

from formant_archive import keys
from formant_archive.catalogue import Selection
from formant_archive.crew import abreast
from formant_archive.errors import StoreRefused, StoreUnavailable, UsageError
from formant_archive.findings import CODES, EXIT_CODES, Finding, Tally
from formant_archive.manifest import digest
from formant_archive.records import Entry, canonical
from formant_archive.simulator import SPOKEN, Simulator
from formant_archive.stores import Lock, Stat, Trace
from formant_archive.stores.s3 import S3Store
from formant_archive.verify import Depth, Expected, Verification, depth_of
from formant_archive.verify.reading import PATIENCE
from tests import damage, plain
from tests.damage import DAMAGES, LEGAL, Damage, Files, NoPlace
from tests.simulation.world import World
from tests.stores.memory import MemoryStore, Verb

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectLockRetentionTypeDef

    from formant_archive.stores import Store

Found = list[Finding]


def filled(seed: int = 1, *, conversations: int = 30) -> MemoryStore:
    """Make an archive of three runs: with late and absent recordings, and pending ones of which a body is stored."""
    clock, store = plain.Clock(), MemoryStore()
    sim = Simulator(
        seed,
        conversations,
        late_recordings=0.2,
        never_recordings=0.2,
        in_progress=2,
        now=lambda: clock.ms,
        completed=0.9,
    )
    for hours in (1, 80, 1):
        plain.archive(plain.client_of(sim, clock), store, clock, part_size=10)
        clock.go(hours=hours)
        sim.add(3, recording_comes="later")
    plain.archive(plain.client_of(sim, clock), store, clock)
    return store


def verified(store: "Store", **how: Any) -> tuple[Found, Verification]:
    verification = Verification(store, **how)
    return list(verification.findings()), verification


def codes(findings: Found) -> list[str]:
    return sorted({finding.code for finding in findings})


def key_of(store: MemoryStore, ending: str, dice: Random | None = None) -> str:
    found = sorted(key for key in store.objects if key.endswith(ending))
    return (dice or Random(0)).choice(found)


# What is sound


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_what_killed_and_racing_runs_leave_is_no_damage(first: int) -> None:
    for seed in range(first, first + 20):
        world = World(seed)
        world.storm()
        after_storm, verification = verified(world.store, depth=Depth())
        assert verification.report.tally.of("damage") == 0, after_storm
        world.calm()
        in_the_end, verification = verified(world.store, depth=Depth())
        assert verification.report.verdict == "VALID", in_the_end
        assert set(codes(in_the_end)) <= {"X001", "X002", "T001"}


def test_a_sound_archive_is_valid_and_all_of_it_was_looked_at() -> None:
    store = filled()
    findings, verification = verified(store, depth=Depth())
    report = verification.report

    assert (findings, report.verdict) == ([], "VALID")
    named = [key for key in store.objects if key.startswith("conversations/")]
    waited_for = [one for one in verification.catalogue.pending() if one.conversation or one.recording]
    assert report.records == report.conversations == len([key for key in named if key.endswith("record.json")])
    assert waited_for
    assert report.payloads == len(named) - report.records
    assert report.bytes_read == sum(len(store.objects[key]) for key in named if not key.endswith("record.json"))
    assert report.manifests == len([key for key in store.objects if keys.sequence_of(key)])


def test_many_threads_find_what_one_finds() -> None:
    store = filled()
    for ending in ("recording.wav", "record.json", "conversation.json"):
        del store.objects[key_of(store, ending)]

    alone, _ = verified(store, depth=Depth())
    together, _ = verified(store, depth=Depth(), each=abreast)

    assert len(alone) >= 3
    assert sorted(map(repr, alone)) == sorted(map(repr, together))


def test_nothing_is_written_and_nothing_private_is_said() -> None:
    store = filled()
    before, puts = dict(store.objects), list(store.puts)
    for ending in ("recording.wav", "record.json", "conversation.json"):
        key = key_of(store, ending)
        store.objects[key] = b"+919811122233 " + SPOKEN.encode()
        before[key] = store.objects[key]

    findings, verification = verified(store, depth=Depth())

    assert store.objects == before
    assert store.puts == puts
    said = "".join(map(repr, findings)) + json.dumps(verification.report.as_json())
    assert "+9198" not in said
    assert SPOKEN not in said


def test_without_a_manifest_nothing_is_verified() -> None:
    findings, verification = verified(MemoryStore())

    assert codes(findings) == ["U002"]
    assert verification.report.verdict == "UNVERIFIED"
    assert verification.report.pinned_head is None


# How deep


def test_a_changed_byte_is_found_only_where_bytes_are_read() -> None:
    store = filled()
    key = key_of(store, "recording.wav")
    store.objects[key] = store.objects[key][:-1] + b"~"

    # This store notes each object's hash as it is now, as a bucket would after an overwrite.
    assert codes(verified(store)[0]) == ["P004"]
    bare = Hashless()
    bare.objects = store.objects
    assert codes(verified(bare)[0]) == []
    assert codes(verified(bare, depth=Depth())[0]) == ["P002"]


class Hashless(MemoryStore):
    """Notes no hashes, as a folder does not."""

    def stat(self, key: str) -> Stat | None:
        found = super().stat(key)
        return found and found.model_copy(update={"sha256": None})


def test_a_thirtieth_a_day_is_all_of_it_in_thirty_days() -> None:
    names = [f"conversation-{number}" for number in range(3000)]
    days = [date(2026, 3, 1) + timedelta(days=number) for number in range(30)]
    read = [
        {name for name in names if depth.reaches(name)}
        for day in days
        if (depth := depth_of(deep=False, sample="1/30", day=day))
    ]

    assert set().union(*read) == set(names)
    assert sum(map(len, read)) == len(names)
    assert max(map(len, read)) < 3 * 100


@pytest.mark.parametrize("sample", ["", "1", "2/30", "1/0", "1/-3", "1/x", "30", "1/30/2", "1/10000", "1/٣", " 1/30"])
def test_a_sample_that_is_none_is_refused(sample: str) -> None:
    with pytest.raises(UsageError, match="1/30"):
        depth_of(deep=False, sample=sample, day=date(2026, 3, 1))


def test_deep_and_sample_together_are_refused() -> None:
    with pytest.raises(UsageError, match="one of the two"):
        depth_of(deep=True, sample="1/30", day=date(2026, 3, 1))


# Damage


@cache
def archives() -> tuple[Files, ...]:
    """Sound archives to damage: two of the simulator's, one of them with holds and erasures; one of crashed runs."""
    world = World(200)
    world.play()
    return damage.sound(1), damage.kept(3), dict(world.objects)


def of(files: Files) -> MemoryStore:
    store = MemoryStore()
    # A folder does not list what a crash leaves under a temporary name.
    store.objects = {key: body for key, body in files.items() if not key.rpartition("/")[2].startswith(".tmp-")}
    # Nor does it keep holds.
    store.held = set(store.objects)
    return store


@pytest.mark.parametrize("one", DAMAGES, ids=lambda one: one.name)
def test_a_damage_is_found_and_named_wherever_it_is(one: Damage) -> None:
    places = set[tuple[int, str]]()
    for seed in range(40):
        number = seed % len(archives())
        files = dict(archives()[number])
        noted = Expected.read(damage.head(files))
        try:
            place = (number, one.do(files, Random(seed)))
        except NoPlace:
            continue
        if place in places:
            continue
        places.add(place)
        if one.needs_head:
            assert verified(of(files), depth=Depth())[1].report.verdict == "VALID"
        is_about_the_head = one.needs_head or "C005" in one.codes
        findings, verification = verified(of(files), depth=Depth(), expected=noted if is_about_the_head else None)
        assert one.codes <= set(codes(findings)), place
        assert verification.report.verdict == one.verdict
        if len(places) >= 5:
            break

    assert len(places) >= (1 if one.one_place else 5)


@pytest.mark.parametrize("one", LEGAL, ids=lambda one: one.name)
def test_what_is_legal_is_not_called_damage(one: Damage) -> None:
    for seed in range(12):
        files = dict(archives()[seed % len(archives())])
        try:
            one.do(files, Random(seed))
        except NoPlace:
            continue
        findings, verification = verified(of(files), depth=Depth())
        assert verification.report.verdict == "VALID"
        assert all(finding.severity == "note" for finding in findings)


@pytest.mark.parametrize("number", range(3))
def test_no_bit_of_anything_named_changes_unseen(number: int) -> None:
    dice, sound = Random(number), archives()[number]
    head = Expected.read(damage.head(sound))
    _, verification = verified(of(sound))
    named = {key for claims in verification.catalogue.claims() for one in claims for key in keys_of(one.entry)}
    named |= {*damage.chain(sound), *(part for _, part in damage.parts(sound))}
    for _ in range(60):
        key = dice.choice(sorted(key for key in named if sound.get(key)))
        changed = {**sound, key: damage.flipped(dice, sound[key])}
        assert verified(of(changed), depth=Depth(), expected=head)[1].report.verdict == "DAMAGED", key


def keys_of(entry: Entry) -> set[str]:
    return {entry.record_key, *(one.key for one in entry.objects)}


def test_no_bytes_whatever_end_a_verification_with_an_exception() -> None:
    dice = Random(6)
    for number in range(60):
        files = dict(archives()[number % len(archives())])
        for _ in range(dice.randint(1, 6)):
            key, other = dice.choice(sorted(files)), dice.choice(sorted(files))
            half = dice.randrange(1 + len(files[key]))
            kinds = (files[other], files[key][:half], files[key][:half] + files[other], dice.randbytes(40), b"[" * 9000)
            files[key] = dice.choice(kinds)
        verified(of(files), depth=Depth())


# What is selected


def test_only_the_selected_conversations_are_looked_at_and_the_chain_as_a_whole() -> None:
    store = filled()
    agents: dict[str, str] = {}
    for key in sorted(store.objects):
        if key.endswith("recording.wav"):
            agents.setdefault(key.split("/")[1].removeprefix("agent_id="), key)
    ours, theirs = sorted(agents)[:2]
    del store.objects[agents[theirs]]
    part = key_of(store, ".jsonl.gz")
    store.objects["foreign.txt"] = b""

    findings, verification = verified(store, selection=Selection(agent_id=ours))
    assert findings == []
    assert 0 < verification.report.conversations < len(verification.catalogue)
    assert codes(verified(store, selection=Selection(agent_id=theirs))[0]) == ["P001"]
    assert codes(verified(store)[0]) == ["P001", "X003"]
    store.objects[part] = b"?"
    assert "C008" in codes(verified(store, selection=Selection(agent_id=ours))[0])


def test_a_selection_of_times_takes_what_started_since_and_not_what_started_until() -> None:
    store = filled()
    _, everything = verified(store)
    starts = [one.entry.start_timestamp or 0 for one in everything.catalogue.select()]
    middle = sorted(starts)[len(starts) // 2]

    _, later = verified(store, selection=Selection(since=middle))
    _, earlier = verified(store, selection=Selection(until=middle))

    assert later.report.conversations == sum(start >= middle for start in starts)
    assert earlier.report.conversations == sum(start < middle for start in starts)


# The head that was noted outside


def test_a_cut_off_tail_is_found_only_by_who_has_noted_the_head() -> None:
    store = filled()
    head = verified(store)[1].report.pinned_head
    assert head is not None
    number = int(head.partition(":")[0])
    for cut in range(1, 4):
        del store.objects[keys.manifest(number - cut + 1)]
        assert not {code for code in codes(verified(store)[0]) if CODES[code][0] == "damage"}
        [found] = [one for one in verified(store, expected=Expected.read(head))[0] if one.code == "C005"]
        assert (found.expected, found.found) == (head, f"the newest manifest is {number - cut}")


def test_an_earlier_head_is_still_in_a_chain_that_has_grown() -> None:
    store = filled()
    early = Expected(2, digest(store.objects[keys.manifest(2)]))

    assert verified(store, expected=early)[0] == []
    assert codes(verified(store, expected=Expected(2, "ab" * 32))[0]) == ["C005"]


@pytest.mark.parametrize("text", ["", "42", "42:", ":" + "ab" * 32, "0:" + "ab" * 32, "x:" + "ab" * 32, "42:abc"])
def test_what_is_no_head_is_refused_with_what_one_looks_like(text: str) -> None:
    with pytest.raises(UsageError, match="42:"):
        Expected.read(text)


def test_a_head_is_read_as_it_is_printed() -> None:
    assert Expected.read(f" 42:{'AB' * 32}\n") == Expected(42, "ab" * 32)


# What cannot be read


def test_what_cannot_be_read_is_unverified_and_not_fine() -> None:
    places: tuple[tuple[Verb, str], ...] = (
        ("get", "record.json"),
        ("stat", "recording.wav"),
        ("open", "conversation.json"),
    )
    for verb, ending in places:
        store = filled()
        store.fail_next(verb, StoreRefused("access is denied"), key_contains=key_of(store, ending))
        findings, verification = verified(store, depth=Depth())

        assert codes(findings) == ["U001"]
        assert verification.report.verdict == "UNVERIFIED"


def test_whatever_of_the_chain_cannot_be_read_is_unverified_and_accuses_nobody() -> None:
    sound = filled().objects
    for key in sorted(sound):
        if key.startswith("manifests/"):
            store = of(sound)
            store.fail_next("get", StoreRefused("access is denied"), key_contains=key)
            findings, verification = verified(store)

            severe = [one.code for one in findings if one.severity in ("damage", "unverified")]
            assert (severe, verification.report.verdict) == (["U001"], "UNVERIFIED"), key


def test_an_expected_head_that_cannot_be_read_is_unverified() -> None:
    store = filled()
    for _ in range(2):
        store.fail_next("get", StoreRefused("access is denied"), key_contains=keys.manifest(2))

    findings, verification = verified(store, expected=Expected(2, "ab" * 32))

    assert [one.code for one in findings if one.severity in ("damage", "unverified")] == ["U001", "U001"]
    assert verification.report.verdict == "UNVERIFIED"


def test_damage_that_was_seen_outweighs_what_could_not_be_seen() -> None:
    store = filled()
    del store.objects[key_of(store, "recording.wav")]
    store.fail_next("get", StoreRefused("access is denied"), key_contains="record.json")

    findings, verification = verified(store)

    assert codes(findings) == ["P001", "U001"]
    assert verification.report.verdict == "DAMAGED"


def test_a_store_that_is_gone_ends_the_verification() -> None:
    store = filled(conversations=120)
    for _ in range(PATIENCE + 1):
        store.fail_next("get", StoreUnavailable("out of reach"), key_contains="record.json")

    with pytest.raises(StoreUnavailable):
        verified(store)
    assert store.faults_left == 0


# Findings themselves


def test_verdicts_have_the_documented_exit_codes() -> None:
    assert EXIT_CODES == {"VALID": 0, "DAMAGED": 1, "UNVERIFIED": 3}


@pytest.mark.parametrize("code", CODES)
def test_each_code_alone_makes_the_verdict_of_its_severity(code: str) -> None:
    tally = Tally()
    tally.add([Finding(code=code, key="k")])

    expected = {"damage": "DAMAGED", "unverified": "UNVERIFIED"}.get(CODES[code][0], "VALID")
    assert tally.verdict == expected


# Clocks


@pytest.mark.parametrize("late", range(2, 7))
def test_a_manifest_that_was_committed_long_before_its_predecessor_is_a_warning(late: int) -> None:
    clock, store = plain.Clock(), MemoryStore()
    sim = Simulator(1, 5)
    for number in range(1, 8):
        # One clock is wrong by more than two machines' clocks may differ, another by less.
        clock.go(minutes={late: -6, late + 1: 10, late + 2: -4}.get(number, 1))
        plain.archive(plain.client_of(sim, clock), store, clock)

    findings, verification = verified(store)

    assert [(one.code, one.key) for one in findings] == [("T001", keys.manifest(late))]
    assert verification.report.verdict == "VALID"


# Buckets


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        import boto3

        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="calls", ObjectLockEnabledForBucket=True)
        yield client


def uploaded(client: "S3Client", store: MemoryStore) -> S3Store:
    found = S3Store("calls", "a/b", client)
    for key, body in store.objects.items():
        found.put(key, body, sha256=digest(body))
    return found


def test_a_sound_versioned_bucket_is_valid(bucket: "S3Client") -> None:
    findings, verification = verified(uploaded(bucket, filled()), depth=Depth(), each=abreast)

    assert (findings, verification.report.verdict) == ([], "VALID")


def test_a_delete_marker_is_found_besides_what_it_hides(bucket: "S3Client") -> None:
    memory = filled()
    store = uploaded(bucket, memory)
    hidden = [("recording.wav", "P001"), ("conversation.json", "P001"), ("record.json", "R001")]
    for ending, code in (*hidden, (".jsonl.gz", "C007"), ("0002.json", "C001")):
        key = key_of(memory, ending)
        marker = bucket.delete_object(Bucket="calls", Key=f"a/b/{key}")["VersionId"]

        findings, verification = verified(store)

        assert [one.key for one in findings if one.code == "V001"] == [key]
        assert code in codes(findings)
        assert verification.report.verdict == "DAMAGED"
        bucket.delete_object(Bucket="calls", Key=f"a/b/{key}", VersionId=marker)
    assert verified(store)[0] == []


def test_an_object_that_was_overwritten_is_found_also_with_the_same_bytes(bucket: "S3Client") -> None:
    memory = filled()
    store = uploaded(bucket, memory)
    for ending in ("recording.wav", "conversation.json", "record.json", ".jsonl.gz", "0001.json"):
        key = key_of(memory, ending)
        bucket.put_object(
            Bucket="calls", Key=f"a/b/{key}", Body=memory.objects[key], Metadata={"sha256": digest(memory.objects[key])}
        )

        findings, verification = verified(store, depth=Depth())

        assert [(one.code, one.key) for one in findings] == [("V002", key)]
        assert verification.report.verdict == "DAMAGED"
        newest = bucket.head_object(Bucket="calls", Key=f"a/b/{key}")["VersionId"]
        bucket.delete_object(Bucket="calls", Key=f"a/b/{key}", VersionId=newest)


def test_a_hash_that_the_bucket_notes_is_compared_without_reading_a_byte(bucket: "S3Client") -> None:
    memory = filled()
    changed = sorted(key for key in memory.objects if key.endswith(("recording.wav", "/conversation.json")))[::8]
    for key in changed:
        body = memory.objects[key]
        memory.objects[key] = body[:-1] + bytes([body[-1] ^ 1])

    findings, verification = verified(uploaded(bucket, memory))

    assert len(changed) >= 5
    assert sorted((one.code, one.key) for one in findings) == [("P004", key) for key in changed]
    assert verification.report.bytes_read == 0


class Blind(S3Store):
    """A bucket whose reader may not list versions: moto keeps no such policy."""

    def traces(self, prefix: str) -> Iterator[Trace]:
        raise StoreRefused("access is denied: the role needs s3:ListBucketVersions")


def test_versions_that_may_not_be_listed_are_a_warning(bucket: "S3Client") -> None:
    memory = filled()
    uploaded(bucket, memory)
    store = Blind("calls", "a/b", bucket)

    findings, verification = verified(store)

    assert codes(findings) == ["V003"]
    assert verification.report.verdict == "VALID"


UNTIL = datetime(2036, 3, 18, 20, 53, 21, 766000, tzinfo=UTC)


def retained(memory: MemoryStore, mode: str, place: int) -> str:
    """Let one record say how long its payloads are kept, and mend the chain above it; give its recording's key."""
    recording = key_of(memory, "recording.wav", Random(place))
    key = (keys.folder_of(recording) or "") + keys.RECORD
    retention = {"mode": mode, "until": "2036-03-18T20:53:21.766Z"}
    damage.forge_record(memory.objects, key, canonical({**json.loads(memory.objects[key]), "retention": retention}))
    return recording


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("name", [keys.RECORDING, keys.CONVERSATION, keys.RECORD])
@pytest.mark.parametrize(
    ("mode", "until", "is_weaker"),
    [
        ("COMPLIANCE", UNTIL, False),
        ("COMPLIANCE", UNTIL + timedelta(days=1), False),
        ("COMPLIANCE", UNTIL - timedelta(seconds=1), True),
        ("GOVERNANCE", UNTIL + timedelta(days=1), True),
        (None, UNTIL, True),
    ],
)
def test_a_lock_that_is_weaker_than_its_record_says_is_damage(
    bucket: "S3Client", mode: Any, until: datetime, is_weaker: bool, name: str, place: int
) -> None:
    memory = filled()
    recording = retained(memory, "COMPLIANCE", place)
    store = uploaded(bucket, memory)
    folder = recording.removesuffix(keys.RECORDING)
    for one in (keys.RECORDING, keys.CONVERSATION, keys.RECORD):
        how: Any = mode if one == name else "COMPLIANCE"
        at_least = until if one == name else UNTIL
        if how is not None:
            retention: ObjectLockRetentionTypeDef = {"Mode": how, "RetainUntilDate": at_least}
            bucket.put_object_retention(Bucket="calls", Key=f"a/b/{folder}{one}", Retention=retention)

    findings, _ = verified(store)

    assert [(one.code, one.key) for one in findings] == ([("L001", folder + name)] if is_weaker else [])


def test_what_two_records_name_is_locked_as_the_second_says(bucket: "S3Client") -> None:
    memory = MemoryStore()
    memory.objects = damage.sound(1)
    second = key_of(memory, keys.SECOND_RECORD)
    folder = second.removesuffix(keys.SECOND_RECORD)
    first = folder + keys.RECORD
    for key, year in ((first, 2040), (second, 2030)):
        value = json.loads(memory.objects[key])
        if key == second:
            value["supersedes"]["sha256"] = damage.digest(memory.objects[first])
        value["retention"] = {"mode": "GOVERNANCE", "until": f"{year}-03-18T20:53:21.766Z"}
        damage.forge_record(memory.objects, key, canonical(value))
    for key in memory.objects:
        memory.locks[key] = Lock(mode="GOVERNANCE", until=datetime(2035 if key != first else 2041, 1, 1, tzinfo=UTC))

    assert codes(verified(memory)[0]) == []


def test_a_superseded_record_that_is_not_held_is_damage() -> None:
    memory = MemoryStore()
    memory.objects = damage.sound(2)
    names = sorted({entry["conversation_id"] for *_, entry in damage.entries(memory.objects)})
    said = {"act": "place", "case": "case-1"}
    damage.act_on_top(memory.objects, "hold", names, said, holds=[damage.held(name, 1) for name in names])
    superseded = [key for key in damage.records(memory.objects) if damage.second_of(key) in memory.objects]

    assert superseded
    for key in superseded:
        memory.held = set(memory.objects) - {key}
        assert [(one.code, one.key) for one in verified(memory)[0]] == [("L002", key)]

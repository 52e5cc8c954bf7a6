"""How long objects are locked: from the end of the call, never beyond the cap, never for less than a record says."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from formant_archive import keys
from formant_archive.errors import UsageError
from formant_archive.ledger import read_head
from formant_archive.policy import Policy
from formant_archive.records import Retention, instant
from formant_archive.retention import PRESETS, Keeping, Rule, keeping_of_days, keeping_of_file
from formant_archive.settings import load_settings
from formant_archive.simulator import Simulator
from formant_archive.stores import Lock, open_store
from formant_archive.verify import Verification
from tests.plain import Clock, archive, client_of, entries, manifests
from tests.stores.memory import MemoryStore

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
YEAR = Keeping("COMPLIANCE", (Rule(365),))


def eager(keeping: Keeping | None) -> Policy:
    return Policy(probe_interval=timedelta(0), results_wait=timedelta(0), keeping=keeping)


def simulator(clock: Clock, **options: Any) -> Simulator:
    return Simulator(7, 20, now=lambda: clock.ms, audio_seconds=(0.1, 0.2), **options)


def records(store: MemoryStore) -> dict[str, dict[str, Any]]:
    return {entry.conversation_id: json.loads(store.get(entry.record_key)) for entry in entries(store)}


def codes(store: MemoryStore) -> list[str]:
    return [one.code for one in Verification(store).findings() if one.severity != "note"]


# The rule


def test_a_lock_begins_at_the_end_of_the_call_not_at_the_day_of_the_archiving() -> None:
    ended = NOW - timedelta(days=100)

    assert YEAR.of(1, "completed", ended, NOW) == Retention(mode="COMPLIANCE", until=ended + timedelta(days=365))
    assert YEAR.of(1, "completed", ended, NOW + timedelta(days=30)) == YEAR.of(1, "completed", ended, NOW)


def test_a_time_that_is_over_locks_nothing() -> None:
    assert YEAR.of(1, "completed", NOW - timedelta(days=365), NOW) is None


def test_a_call_that_would_end_in_the_future_locks_nothing_beyond_the_cap() -> None:
    retention = YEAR.of(1, "completed", datetime(9999, 12, 31, tzinfo=UTC), NOW)

    assert retention is not None
    assert retention.until == NOW + timedelta(days=365)


def test_a_lock_ends_on_a_whole_second_and_never_before_its_time() -> None:
    retention = YEAR.of(1, "completed", NOW - timedelta(milliseconds=1), NOW)

    assert retention is not None
    assert retention.until == NOW + timedelta(days=365)


@pytest.mark.parametrize(
    ("agent", "status", "days"), [(7, "completed", 10), ("7", "busy", 20), (8, "busy", 30), (None, "completed", 40)]
)
def test_the_first_rule_that_takes_a_conversation_counts(agent: int | str | None, status: str, days: int) -> None:
    rules = [
        {"agent_id": 7, "status": "completed", "days": 10},
        {"agent_id": "7", "days": 20},
        {"status": "busy", "days": 30},
    ]
    keeping = keeping_of_file("GOVERNANCE", {"rules": rules, "default": {"days": 40}}, cap_days=3653)
    retention = keeping.of(agent, status, NOW, NOW)

    assert retention is not None
    assert retention.until == NOW + timedelta(days=days)
    assert keeping.longest(NOW).until == NOW + timedelta(days=40)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "default: Field required"),
        ({"default": {}}, "default: give days or a preset"),
        ({"default": {"days": 1, "preset": "mifid-5y"}}, "default: give days or a preset"),
        ({"default": {"days": 0}}, "default.days"),
        ({"default": {"preset": "sec"}}, "no such preset: use one of sec-17a-4"),
        ({"default": {"days": 1, "agent_id": 1}}, "default.agent_id"),
        ({"default": {"days": 1}, "rules": [{"agent": 1, "days": 1}]}, "rules.0.agent"),
        ({"default": {"days": 4000}}, "4,000 days are beyond the cap of 3,653"),
        ({"default": {"days": 40}, "cap_days": 30}, "40 days are beyond the cap of 30"),
        ({"default": {"days": 40}, "rules": [{"days": 5000}]}, "5,000 days are beyond the cap"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(data: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        keeping_of_file("COMPLIANCE", data, cap_days=3653)

    assert said in str(caught.value)
    assert str(caught.value).startswith("ARCHIVE_RETENTION_POLICY: ")


def test_every_preset_is_within_the_cap_and_in_the_table_of_the_documentation() -> None:
    page = Path("docs/compliance.md").read_text()

    for name, preset in PRESETS.items():
        assert keeping_of_days("COMPLIANCE", preset.days, cap_days=3653)
        assert f"| `{name}` | {preset.days:,} | {preset.source} |" in page


# The settings


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_lock_mode_nothing_is_locked(nowhere: Path) -> None:
    assert load_settings(archive_url="a").policy.keeping is None


def test_a_policy_file_is_read_from_where_it_is(nowhere: Path) -> None:
    (nowhere / "keep.toml").write_text('[default]\npreset = "mifid-5y"\n[[rules]]\nagent_id = 7\ndays = 30\n')
    keeping = load_settings(
        archive_url="s3://b", archive_lock_mode="compliance", archive_retention_policy="keep.toml"
    ).keeping

    assert keeping == Keeping("COMPLIANCE", (Rule(30, "7"), Rule(1827)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"archive_retention_days": 30}, "ARCHIVE_LOCK_MODE is not set"),
        ({"archive_lock_mode": "compliance"}, "needs ARCHIVE_RETENTION_DAYS or ARCHIVE_RETENTION_POLICY"),
        ({"archive_lock_mode": "compliance", "archive_retention_days": 36500}, "ARCHIVE_RETENTION_DAYS: 36,500 days"),
        ({"archive_lock_mode": "governance", "archive_retention_policy": "no.toml"}, "no preset is called so"),
        (
            {
                "archive_lock_mode": "governance",
                "archive_retention_policy": "mifid-7y",
                "archive_retention_cap_days": 365,
            },
            "ARCHIVE_RETENTION_POLICY: 2,557 days are beyond the cap of 365",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(nowhere: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        _ = load_settings(archive_url="s3://b", **settings).policy

    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_to_lock_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a folder cannot lock"):
        open_store(str(tmp_path), locks=True)


# The archive


def test_everything_of_a_run_is_locked_as_its_record_says_or_longer() -> None:
    clock, store = Clock(), MemoryStore()
    archive(client_of(simulator(clock), clock), store, clock, policy=eager(YEAR))

    assert store.objects.keys() == store.locks.keys()
    for record in records(store).values():
        ended = datetime.fromtimestamp(record["end_timestamp"] / 1000, UTC)
        until = instant(record["retention"]["until"])
        assert timedelta() <= until - ended - timedelta(days=365) < timedelta(seconds=1)
        for kind in ("conversation", "recording"):
            if "key" in record[kind]:
                assert store.locks[record[kind]["key"]] == Lock(mode="COMPLIANCE", until=until)
    latest = max(lock.until for key, lock in store.locks.items() if key.startswith("conversations/"))
    assert all(lock.until >= latest for key, lock in store.locks.items() if key.startswith("manifests/"))
    assert codes(store) == []


def test_a_recording_that_comes_late_is_locked_until_its_call_is() -> None:
    clock, store = Clock(), MemoryStore()
    sim = simulator(clock, late_recordings=1)
    archive(client_of(sim, clock), store, clock, policy=eager(YEAR))
    clock.go(hours=48)
    for one in sim.conversations:
        if one.recording_comes == "later":
            one.release()
    archive(client_of(sim, clock), store, clock, policy=eager(YEAR))

    late = [entry for entry in entries(store) if entry.outcome == "archived"]
    assert late
    for entry in late:
        assert len({store.locks[one.key].until for one in entry.objects}) == 1


@pytest.mark.parametrize("before", [None, Keeping("GOVERNANCE", (Rule(30),))], ids=["no lock", "a shorter one"])
def test_what_an_earlier_run_stored_otherwise_is_locked_before_a_record_claims_it(before: Keeping | None) -> None:
    clock, store = Clock(), MemoryStore()
    sim = simulator(clock, late_recordings=1)
    archive(client_of(sim, clock), store, clock, policy=eager(before))
    for one in sim.conversations:
        if one.recording_comes == "later":
            one.release()
    clock.go(hours=1)
    archive(client_of(sim, clock), store, clock, policy=eager(YEAR))

    claimed = [record for record in records(store).values() if record.get("retention", {}).get("mode") == "COMPLIANCE"]
    assert claimed
    assert codes(store) == []


def test_a_part_that_two_manifests_name_is_locked_as_long_as_the_later_one() -> None:
    clock, store = Clock(), MemoryStore()
    sim = simulator(clock)
    archive(client_of(sim, clock), store, clock, policy=eager(YEAR))
    clock.go(days=200)
    archive(client_of(sim, clock), store, clock, policy=eager(YEAR), agent_id=101)

    manifest = read_head(store).manifest
    assert manifest is not None
    until = store.locks[keys.manifest(manifest.sequence)].until
    for scope in manifest.scopes.values():
        assert store.locks[scope.recent.key].until >= until
    assert len(manifests(store)) == 2

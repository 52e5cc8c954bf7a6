"""Manifests: one form and one hash, a chain, parts named by their bytes, and a state that two writers move on."""

import gzip
import hashlib
import json
import traceback
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formant_archive import ledger
from formant_archive.errors import ArchiveDamaged
from formant_archive.ledger import Draft, Head
from formant_archive.manifest import (
    OUTCOMES,
    Changes,
    ListingNote,
    Manifest,
    PartLink,
    RunNote,
    Scope,
    ScopeNote,
    State,
    digest,
    joined,
    pack,
    unpack,
)
from formant_archive.records import (
    ConversationReceipt,
    Entry,
    Link,
    Pending,
    Probe,
    Recent,
    RecordingReceipt,
)
from tests.stores.memory import MemoryStore

PHONE = "+4915112345678"
NOON = datetime(2026, 3, 18, 12, tzinfo=UTC)
HOUR = 3_600_000
OVERLAP = 6 * HOUR
SHA = "ab" * 32
RECEIPT = {"key": "k", "size": 3, "sha256": SHA, "fetched_at": NOON}
BODY = ConversationReceipt.model_validate(RECEIPT | {"has_transcript": True})
SOUND = RecordingReceipt.model_validate(RECEIPT | {"audio": None})


def link(name: str = "p") -> PartLink:
    return PartLink(key=f"manifests/parts/{name}.jsonl.gz", sha256=SHA, count=3)


def run_note(run_id: str = "r", part: int = 1) -> RunNote:
    return RunNote(id=run_id, part=part, flow="f", version="1", parameters={}, started_at=NOON, committed_at=NOON)


def listing_note(**fields: Any) -> ListingNote:
    seen: dict[str, Any] = {"pages": 1, "rows": 3, "unique": 3, "total_first": 3, "total_last": 3, "complete": True}
    return ListingNote(**{"scope": "all", "order": "newest_first", "full": True, "since": None, **seen, **fields})


def manifest(**fields: Any) -> Manifest:
    note = ScopeNote(
        watermark=5, total=3, order="newest_first", floor=None, statuses=("completed",), recent=link("recent")
    )
    defaults: dict[str, Any] = {
        "sequence": 2,
        "previous": Link(key="manifests/00000000000000000001.json", sha256=SHA),
        "archive_id": "a",
        "source": "https://api.example",
        "run": run_note(),
        "listing": listing_note(),
        "counts": {"listed": 3, "carried": 0, "archived": 3},
        "entries": (link("entries"),),
        "pending": link("pending"),
        "scopes": {"all": note},
    }
    return Manifest(**defaults | fields)


def pending(name: str = "c", **fields: Any) -> Pending:
    known = {"conversation_id": name, "status": "completed", "folder": f"conversations/{name}/", "first_seen_at": NOON}
    return Pending.model_validate(known | {"scopes": ("all",)} | fields)


def by_id(*some: Pending) -> dict[str, Pending]:
    return {one.conversation_id: one for one in some}


def recent(*names: str, time: int = 0, settled: bool = True) -> dict[str, Recent]:
    return {name: Recent(conversation_id=name, time=time, settled=settled) for name in names}


def probe(minutes: int, error_type: str = "not_found") -> Probe:
    return Probe(at=NOON + timedelta(minutes=minutes), http_status=404, error_type=error_type)


def changes(
    before: Scope, after: Scope, settled: Iterable[str] = (), waiting: Iterable[Pending] = (), scope: str = "all"
) -> Changes:
    return Changes(scope, before, after, frozenset(settled), by_id(*waiting))


def entry(name: str = "c") -> Entry:
    return Entry(
        conversation_id=name,
        agent_id=1,
        start_timestamp=None,
        status="completed",
        outcome="archived",
        record_key=f"conversations/{name}/record.json",
        record_sha256=SHA,
        objects=(),
    )


# Canonical bytes


def test_a_manifest_is_canonical_json() -> None:
    body = manifest().body()

    again = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert body == again.encode()


def test_a_manifest_that_is_read_has_the_same_bytes() -> None:
    body = manifest(source="https://né.example").body()

    assert Manifest.read(body) == manifest(source="https://né.example")
    assert Manifest.read(body).body() == body


def test_the_order_in_which_fields_were_filled_does_not_show() -> None:
    counts = {"listed": 1, "archived": 1, "carried": 0}

    assert manifest(counts=counts).body() == manifest(counts=dict(reversed(counts.items()))).body()


def test_only_an_unsafe_stores_manifest_says_so() -> None:
    assert "unsafe_store" not in json.loads(manifest().body())
    assert json.loads(manifest(unsafe_store=True).body())["unsafe_store"] is True


def test_a_manifest_holds_what_the_format_says_and_nothing_else() -> None:
    held = json.loads(manifest().body())

    assert (held["format"], held["kind"]) == ("formant-archive/manifest/1", "run")
    assert set(held) == {
        *("format", "kind", "sequence", "previous", "archive_id", "source", "run", "listing"),
        *("counts", "entries", "pending", "scopes"),
    }
    assert set(held["run"]) == {"id", "part", "flow", "version", "parameters", "started_at", "committed_at"}
    assert set(held["listing"]) == {
        *("scope", "order", "full", "since", "pages", "rows", "unique", "total_first", "total_last", "complete"),
    }
    assert set(held["scopes"]["all"]) == {"watermark", "total", "order", "floor", "statuses", "recent"}


# The chain


def draft(part: int = 1, run_id: str = "r", **fields: Any) -> Draft:
    counts = dict.fromkeys(("listed", "carried", *OUTCOMES), 0)
    defaults: dict[str, Any] = {
        "run": run_note(run_id, part),
        "source": "https://api.example",
        "listing": listing_note(),
        "counts": counts,
        "entries": [entry(f"{run_id}{part}").line()],
        "changes": changes(Scope(), Scope(watermark=part)),
        "overlap": OVERLAP,
    }
    return Draft(**defaults | fields)


def test_each_manifest_names_the_hash_of_the_one_before() -> None:
    store = MemoryStore()
    first = ledger.commit(store, Head(), draft(1))
    second = ledger.commit(store, first, draft(2, changes=changes(Scope(watermark=1), Scope(watermark=2))))

    bodies = [store.get(f"manifests/{number:020d}.json") for number in (1, 2)]
    one, two = map(Manifest.read, bodies)
    assert (one.sequence, one.previous) == (1, None)
    assert (two.sequence, two.archive_id) == (2, one.archive_id)
    assert two.previous == Link(key="manifests/00000000000000000001.json", sha256=hashlib.sha256(bodies[0]).hexdigest())
    assert second.link is not None
    assert second.link.sha256 == hashlib.sha256(bodies[1]).hexdigest()


def test_what_a_commit_leaves_in_memory_is_what_the_next_run_reads() -> None:
    store = MemoryStore()
    moved = changes(Scope(), Scope(watermark=9, total=2, recent=recent("b", time=9)), waiting=[pending("a")])

    head = ledger.commit(store, Head(), draft(changes=moved))

    assert ledger.read_head(store) == head


def test_a_writer_that_comes_second_links_to_the_first_ones_manifest() -> None:
    store = MemoryStore()
    ledger.commit(store, Head(), draft(run_id="theirs", changes=changes(Scope(), Scope(), waiting=[pending("a")])))

    ours = ledger.commit(store, Head(), draft(run_id="ours", changes=changes(Scope(), Scope(), waiting=[pending("b")])))

    assert ours.manifest is not None
    assert ours.manifest.previous is not None
    assert ours.manifest.previous.sha256 == digest(store.get("manifests/00000000000000000001.json"))
    assert ours.state.pending.keys() == {"a", "b"}
    assert ledger.read_head(store) == ours


# Parts


def test_the_same_lines_have_the_same_bytes() -> None:
    lines = [pending("a"), pending("b")]

    body, count = pack([one.line() for one in lines])

    assert (body, count) == pack([one.line() for one in lines])
    assert body[4:8] == b"\0\0\0\0", "no time of writing"
    assert gzip.decompress(body) == lines[0].line() + lines[1].line()
    assert count == 2


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=4))
def test_a_part_reads_back_whatever_ids_are_in_it(names: list[str]) -> None:
    lines = [Recent(conversation_id=name, time=-1, settled=False) for name in names]

    assert list(unpack(pack([one.line() for one in lines])[0], Recent)) == lines


def test_an_empty_part_has_no_lines() -> None:
    assert list(unpack(pack([])[0], Recent)) == []


def read_quietly(body: bytes) -> list[Recent] | None:
    """Read a part; None where it is called damaged, and then nothing of it may show."""
    try:
        return list(unpack(body, Recent))
    except ArchiveDamaged as fault:
        said, shown = str(fault), "".join(traceback.format_exception(fault))
    assert PHONE not in shown
    assert "\n" not in said
    return None


PART = pack([Recent(conversation_id=f"{PHONE}-{number}", time=number, settled=True).line() for number in range(20)])[0]


def test_a_part_with_a_broken_byte_is_damaged_or_the_same() -> None:
    whole = read_quietly(PART)

    for place in range(len(PART)):
        broken = bytearray(PART)
        broken[place] ^= 0xFF
        assert read_quietly(bytes(broken)) in (None, whole)


def test_a_part_that_is_cut_off_is_damaged() -> None:
    for length in range(1, len(PART)):
        assert read_quietly(PART[:length]) is None


@pytest.mark.parametrize(
    "content",
    [
        f'{{"conversation_id":"{PHONE}"}}\n',
        f'{{"conversation_id":"{PHONE}","time":"{PHONE}x","settled":true}}\n',
        f'{{"conversation_id":"{PHONE}","time":1,"settled":true\n',
        f'"{PHONE}"\n',
        "\n",
        "[[[[",
        "[" * 100_000,
        "\ufeff{}",
    ],
    ids=range(8),
)
def test_a_part_of_other_lines_is_damaged_and_nothing_of_it_shows(content: str) -> None:
    assert read_quietly(gzip.compress(content.encode())) is None


def test_a_part_that_is_no_text_or_no_gzip_is_damaged() -> None:
    assert read_quietly(gzip.compress(b"\xff\xfe\n")) is None
    assert read_quietly(b"not gzip") is None


def test_a_part_of_another_kind_is_damaged() -> None:
    with pytest.raises(ArchiveDamaged, match="entry"):
        list(unpack(pack([pending().line()])[0], Entry))


# Damaged manifests


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        f'"{PHONE}"'.encode(),
        manifest().body()[:-1],
        manifest().body().replace(b'"sequence":2', f'"sequence":"{PHONE}x"'.encode()),
        manifest().body().replace(b"formant-archive/manifest/1", PHONE.encode()),
        manifest().body().replace(b'"previous":{', f'"previous":"{PHONE}","x":{{'.encode()),
        manifest().body().replace(b"2026-03-18T12:00:00.000Z", f"{PHONE}x".encode()),
    ],
    ids=range(12),
)
def test_a_damaged_manifest_is_named_so_and_nothing_of_it_shows(damage: bytes) -> None:
    with pytest.raises(ArchiveDamaged) as caught:
        Manifest.read(damage)

    shown = "".join(traceback.format_exception(caught.value))
    assert PHONE not in shown
    assert "\n" not in str(caught.value)


def test_a_manifest_of_a_later_format_is_not_read_as_this_one() -> None:
    with pytest.raises(ArchiveDamaged, match="format"):
        Manifest.read(manifest().body().replace(b"manifest/1", b"manifest/2"))


def test_a_manifest_of_another_kind_hands_its_state_on() -> None:
    assert Manifest.read(manifest(kind="audit").body()).scopes == manifest().scopes


# A run's changes, laid on the head that it began from


def test_a_run_leaves_its_scope_as_it_says() -> None:
    before, after = Scope(watermark=1, total=9), Scope(watermark=2, total=3)

    state = changes(before, after).on(State(scopes={"all": before}), OVERLAP)

    assert state.scopes["all"] == after


def test_a_first_run_makes_its_scope() -> None:
    after = Scope(watermark=2, statuses=frozenset({"completed"}))

    assert changes(Scope(), after).on(State(), OVERLAP).scopes == {"all": after}


def test_what_is_settled_is_pending_no_more() -> None:
    state = State(by_id(pending("a"), pending("b")))

    assert changes(Scope(), Scope(), settled=["a"]).on(state, OVERLAP).pending == by_id(pending("b"))


def test_every_scope_that_waited_for_what_is_settled_now_remembers_it() -> None:
    """A scope that took it for new would not notice another conversation that appears late, deep in its list."""
    waited = pending("a", start_timestamp=7, scopes=("agent_id=7", "all"))
    state = State(by_id(waited), {"agent_id=7": Scope(watermark=9), "agent_id=8": Scope(watermark=9), "all": Scope()})

    found = changes(Scope(), Scope(), settled=["a"]).on(state, OVERLAP).scopes

    assert found["agent_id=7"].recent == recent("a", time=7)
    assert found["all"].recent == recent("a", time=7)
    assert found["agent_id=8"] is state.scopes["agent_id=8"]


def test_what_is_of_another_status_now_is_pending_no_more_and_remembered_as_not_settled() -> None:
    waited = pending("a", start_timestamp=7, scopes=("agent_id=7", "all"))
    state = State(by_id(waited, pending("b")), {"agent_id=7": Scope(watermark=9), "all": Scope()})

    found = Changes("all", Scope(), Scope(), frozenset(), {}, dropped=frozenset({"a"})).on(state, OVERLAP)

    assert found.pending == by_id(pending("b"))
    assert found.scopes["agent_id=7"].recent == recent("a", time=7, settled=False)
    assert found.scopes["all"].recent == recent("a", time=7, settled=False)


def test_another_scope_that_remembers_what_is_settled_keeps_the_rest_and_forgets_what_is_old() -> None:
    mark = 100 * HOUR
    state = State(
        by_id(
            pending("old", start_timestamp=mark - OVERLAP - 1, scopes=("agent_id=7",)),
            pending("a", start_timestamp=mark, scopes=("agent_id=7",)),
        ),
        {"agent_id=7": Scope(watermark=mark, recent=recent("x", time=mark) | recent("a", time=mark, settled=False))},
    )

    found = changes(Scope(), Scope(), settled=["old", "a"]).on(state, OVERLAP)

    assert found.scopes["agent_id=7"].recent == recent("a", "x", time=mark)


def test_what_another_run_remembers_is_kept() -> None:
    before, theirs = Scope(watermark=9), Scope(watermark=9, recent=recent("theirs", time=9))

    after = changes(before, Scope(watermark=9, recent=recent("ours", time=9))).on(State({}, {"all": theirs}), OVERLAP)

    assert after.scopes["all"] == Scope(watermark=9, recent=recent("theirs", "ours", time=9))


def test_what_a_run_has_not_touched_is_handed_on_as_it_was() -> None:
    others = Scope(watermark=7, floor=3, recent=recent("x", time=7))
    untouched = pending("a", scopes=("agent_id=7",), reason="not_found", failures=2)

    state = changes(Scope(), Scope(watermark=1), settled=["b"]).on(
        State(by_id(untouched), {"agent_id=7": others}), OVERLAP
    )

    assert state.scopes["agent_id=7"] is others
    assert state.pending == by_id(untouched)


def test_the_state_that_changes_are_laid_on_stays_as_it_is() -> None:
    state = State(by_id(pending("a")), {"all": Scope(recent=recent("x"))})

    changes(state.scopes["all"], Scope(watermark=HOUR * 99), ["a"], [pending("b")]).on(state, OVERLAP)

    assert state == State(by_id(pending("a")), {"all": Scope(recent=recent("x"))})


def test_the_latest_row_of_a_pending_conversation_counts_and_its_folder_stays() -> None:
    before = pending("a", folder="conversations/first/", status="in_progress", reason="open")
    after = pending("a", folder="conversations/second/", status="completed", reason="not_found")

    state = changes(Scope(), Scope(), waiting=[after]).on(State(by_id(before)), OVERLAP)

    assert state.pending["a"] == after.model_copy(update={"folder": "conversations/first/"})


def test_only_what_started_before_the_horizon_is_forgotten() -> None:
    mark = 100 * HOUR
    after = Scope(
        watermark=mark,
        recent=recent("old", time=mark - OVERLAP - 1) | recent("edge", time=mark - OVERLAP) | recent("new", time=mark),
    )

    state = changes(Scope(), after).on(State(), OVERLAP)

    assert state.scopes["all"].recent.keys() == {"edge", "new"}


def test_without_a_watermark_nothing_is_forgotten() -> None:
    after = Scope(recent=recent("old", time=-(10**15)))

    assert changes(Scope(), after).on(State(), OVERLAP).scopes["all"] == after


# … and on another writer's head

MARK = 1000 * HOUR
BEFORE = Scope(MARK, 10, "newest_first", 5, frozenset({"completed"}), recent("r", time=MARK))


def test_the_first_part_of_a_run_is_no_other_writer() -> None:
    theirs = replace(BEFORE, recent=recent("r", "first part", time=MARK))
    ours = replace(BEFORE, watermark=MARK + 1, total=12, order="other", recent=recent("r", "later", time=MARK))

    after = changes(BEFORE, ours).on(State({}, {"all": theirs}), OVERLAP).scopes["all"]

    assert after == replace(ours, recent=recent("r", "first part", "later", time=MARK))


def test_what_is_settled_now_is_remembered_so_and_what_is_pending_again_not_at_all() -> None:
    theirs = replace(BEFORE, recent=recent("settled", "pending", time=MARK, settled=False))
    ours = replace(BEFORE, recent=recent("settled", time=MARK))

    after = changes(BEFORE, ours, waiting=[pending("pending")]).on(State({}, {"all": theirs}), OVERLAP).scopes["all"]

    assert after.recent == recent("settled", time=MARK)


def test_two_writers_watermarks_give_the_later_one() -> None:
    theirs, ours = replace(BEFORE, watermark=MARK + 9), replace(BEFORE, watermark=MARK + 5)

    assert changes(BEFORE, ours).on(State(scopes={"all": theirs}), OVERLAP).scopes["all"].watermark == MARK + 9
    assert changes(BEFORE, theirs).on(State(scopes={"all": ours}), OVERLAP).scopes["all"].watermark == MARK + 9


def test_an_incomplete_listing_of_ours_moves_nothing_of_theirs() -> None:
    theirs = replace(BEFORE, watermark=MARK + 9, total=12)

    merged = changes(BEFORE, BEFORE).on(State(scopes={"all": theirs}), OVERLAP).scopes["all"]

    assert (merged.watermark, merged.order, merged.floor) == (MARK + 9, "newest_first", 5)


def test_what_either_writer_remembers_is_remembered() -> None:
    theirs = replace(BEFORE, recent=recent("t", "both", time=MARK))
    ours = replace(BEFORE, recent=recent("o", "both", time=MARK))

    merged = changes(BEFORE, ours).on(State(scopes={"all": theirs}), OVERLAP).scopes["all"]

    assert merged.recent.keys() == {"t", "o", "both"}


def test_what_either_writer_has_settled_is_settled() -> None:
    theirs = State(by_id(pending("x"), pending("t")))

    merged = changes(Scope(), Scope(), settled=["x"], waiting=[pending("o")]).on(theirs, OVERLAP)

    assert merged.pending.keys() == {"t", "o"}


def test_either_writers_receipts_and_probes_are_kept() -> None:
    theirs = pending("a", conversation=BODY, recording_probes=(probe(0), probe(30)), scopes=("all",))
    ours = pending("a", recording=SOUND, recording_probes=(probe(0), probe(15)), scopes=("agent_id=1",))

    merged = changes(Scope(), Scope(), waiting=[ours]).on(State(by_id(theirs)), OVERLAP).pending["a"]

    assert (merged.conversation, merged.recording) == (BODY, SOUND)
    assert merged.recording_probes == (probe(0), probe(15), probe(30))
    assert merged.scopes == ("agent_id=1", "all")


SCOPES = st.builds(
    Scope,
    watermark=st.none() | st.integers(MARK, MARK + 9),
    total=st.none() | st.integers(0, 9),
    order=st.sampled_from(["newest_first", "other", None]),
    floor=st.none() | st.integers(0, 9),
    statuses=st.frozensets(st.sampled_from(["completed", "failed"])),
    recent=st.sets(st.sampled_from("abcd")).map(lambda names: recent(*names, time=MARK)),
).map(lambda one: one if one.watermark is not None else replace(one, floor=None))


@settings(max_examples=50)
@given(SCOPES, SCOPES)
def test_it_does_not_matter_which_writer_comes_first(one: Scope, other: Scope) -> None:
    assert one.merged(other) == other.merged(one)


@settings(max_examples=50)
@given(SCOPES)
def test_a_scope_merged_with_itself_is_itself(one: Scope) -> None:
    assert one.merged(one) == one


# Scope.merged, field by field


@pytest.mark.parametrize(
    ("theirs", "ours", "merged"),
    [
        ({"watermark": 3}, {"watermark": 5}, {"watermark": 5}),
        ({"watermark": None}, {"watermark": 5}, {"watermark": 5}),
        ({"total": 3}, {"total": 5}, {"total": 3}),
        ({"total": 0}, {"total": 5}, {"total": 0}),
        ({"total": None}, {"total": 5}, {"total": 5}),
        ({"order": "newest_first"}, {"order": "newest_first"}, {"order": "newest_first"}),
        ({"order": "newest_first"}, {"order": "other"}, {"order": "other"}),
        ({"order": "newest_first"}, {"order": None}, {"order": "other"}),
        ({"statuses": {"completed"}}, {"statuses": {"completed", "failed"}}, {"statuses": {"completed"}}),
        ({"statuses": {"completed"}}, {"statuses": {"failed"}}, {"statuses": frozenset()}),
        ({"watermark": 9, "floor": 3}, {"watermark": 9, "floor": 5}, {"watermark": 9, "floor": 3}),
    ],
    ids=range(11),
)
def test_where_two_writers_differ_the_one_that_claims_less_counts(
    theirs: dict[str, Any], ours: dict[str, Any], merged: dict[str, Any]
) -> None:
    one, other, expected = (
        Scope(**fields | ({"statuses": frozenset(fields["statuses"])} if "statuses" in fields else {}))
        for fields in (theirs, ours, merged)
    )

    assert one.merged(other) == expected
    assert other.merged(one) == expected


def test_a_writer_that_claims_nothing_yet_does_not_widen_what_the_other_claims() -> None:
    # Two first runs at once: one of them since a day, and complete; the other one broken off. Before the day nobody
    # has listed anything: a merged scope without a floor would say that everything is there.
    complete = Scope(MARK, 10, "newest_first", floor=MARK - HOUR, statuses=frozenset({"completed"}))
    broken_off = Scope(recent=recent("a", time=MARK))

    assert complete.merged(broken_off).floor == MARK - HOUR
    assert broken_off.merged(complete).floor == MARK - HOUR


def test_settled_beats_seen_in_what_is_remembered() -> None:
    seen, settled = Scope(recent=recent("a", settled=False)), Scope(recent=recent("a", settled=True))

    assert seen.merged(settled).recent["a"].settled
    assert settled.merged(seen).recent["a"].settled


def test_the_horizon_is_the_watermark_less_the_overlap() -> None:
    assert Scope(watermark=MARK).horizon(OVERLAP) == MARK - OVERLAP
    assert Scope(watermark=0).horizon(OVERLAP) == -OVERLAP
    assert Scope().horizon(OVERLAP) is None


# Two runs' knowledge of one pending conversation


def test_the_folder_named_first_and_the_first_sight_stay() -> None:
    theirs = pending(folder="conversations/theirs/", first_seen_at=NOON)
    ours = pending(folder="conversations/ours/", first_seen_at=NOON - timedelta(hours=1))

    assert joined(theirs, ours).folder == "conversations/theirs/"
    assert joined(theirs, ours).first_seen_at == NOON - timedelta(hours=1)
    assert joined(ours, theirs).first_seen_at == NOON - timedelta(hours=1)


def test_a_probe_that_both_know_is_one_probe() -> None:
    theirs = pending(conversation_probes=(probe(0), probe(15)), recording_probes=(probe(1),))

    assert joined(theirs, theirs) == theirs


def test_a_probe_read_back_and_the_same_one_in_memory_are_one_probe() -> None:
    # One question must not become the two that an absence takes.
    asked = Probe(at=datetime(2026, 3, 18, 12, 0, 0, 123_456, tzinfo=UTC), http_status=404, error_type="not_found")
    in_memory = pending(recording_probes=(asked,))
    read_back = Pending.model_validate_json(in_memory.line())

    assert len(joined(read_back, in_memory).recording_probes) == 1


def test_probes_stand_in_the_order_in_which_they_were_asked() -> None:
    theirs = pending(recording_probes=(probe(0), probe(40), probe(60)))
    ours = pending(recording_probes=(probe(20), probe(50)))

    assert joined(theirs, ours).recording_probes == tuple(probe(minutes) for minutes in (0, 20, 40, 50, 60))


def test_the_receipt_of_whoever_stored_first_stays() -> None:
    other = BODY.model_copy(update={"sha256": "cd" * 32})

    assert joined(pending(conversation=BODY), pending(conversation=other)).conversation == BODY
    assert joined(pending(), pending(conversation=other)).conversation == other
    assert joined(pending(recording=SOUND), pending()).recording == SOUND


def test_only_a_receipt_with_a_transcript_replaces_one_and_only_one_without() -> None:
    first = BODY.model_copy(update={"has_transcript": False})
    second = BODY.model_copy(update={"key": "second", "has_transcript": False})
    fuller = BODY.model_copy(update={"key": "second"})

    assert joined(pending(conversation=first), pending(conversation=fuller)).conversation == fuller
    assert joined(pending(conversation=first), pending(conversation=second)).conversation == first
    assert joined(pending(conversation=BODY), pending(conversation=second)).conversation == BODY
    assert joined(pending(conversation=BODY), pending(conversation=fuller)).conversation == BODY
    assert joined(pending(conversation=first), pending()).conversation == first

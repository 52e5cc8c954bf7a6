"""The catalogue: every entry of every manifest, each conversation once, found by what is asked for."""

import threading
from contextlib import closing

import pytest

from formant_archive.catalogue import EVERYTHING, Catalogue, Outcome, Selection, read_catalogue
from formant_archive.crew import AHEAD, abreast
from formant_archive.records import Entry, StoredObject
from formant_archive.simulator import Simulator
from tests import plain
from tests.stores.memory import MemoryStore

SHA = "ab" * 32
PAYLOADS: dict[Outcome, tuple[str, ...]] = {
    "archived": ("conversation.json", "recording.wav"),
    "archived_without_recording": ("conversation.json",),
    "gone": (),
}


def entry(
    name: str,
    start: int | None = 1000,
    *,
    agent: int | str | None = 101,
    status: str = "completed",
    has: Outcome = "archived",
    record: str = "record.json",
) -> Entry:
    folder = f"conversations/agent_id={agent}/date=2026-03-18/{name}/"
    return Entry(
        conversation_id=name,
        agent_id=agent,
        start_timestamp=start,
        status=status,
        outcome="adopted",
        record_key=folder + record,
        record_sha256=SHA,
        objects=tuple(StoredObject(key=folder + one, size=1, sha256=SHA) for one in PAYLOADS[has]),
    )


def catalogue_of(*manifests: list[Entry]) -> Catalogue:
    catalogue = Catalogue()
    for number, entries in enumerate(manifests, 1):
        catalogue.add(number, [one.line() for one in entries])
    return catalogue


def ids(catalogue: Catalogue, selection: Selection = EVERYTHING) -> list[str]:
    return [one.entry.conversation_id for one in catalogue.select(selection)]


def test_conversations_come_newest_first_and_those_without_a_start_last() -> None:
    catalogue = catalogue_of([entry("b", 2), entry("z", None), entry("c", 3)], [entry("a", 1)])

    assert ids(catalogue) == ["c", "b", "a", "z"]


def test_a_conversation_with_several_entries_comes_once_with_the_manifest_that_named_it_first() -> None:
    catalogue = catalogue_of([entry("a")], [entry("a"), entry("b")], [entry("a")])

    assert [(one.entry.conversation_id, one.sequence) for one in catalogue.select()] == [("a", 1), ("b", 2)]
    assert len(catalogue) == 2


def test_an_adopted_entry_says_the_same_as_the_one_that_was_first() -> None:
    first = entry("a").model_copy(update={"outcome": "archived"})
    catalogue = Catalogue()
    # As a part has them, and as a program writes them.
    catalogue.add(1, [first.line().rstrip(b"\n")])
    catalogue.add(2, [entry("a").line(), first.line()])

    assert [len(claims) for claims in catalogue.claims()] == [1]


@pytest.mark.parametrize("second_first", [True, False])
def test_the_second_record_counts_whichever_was_named_first(second_first: bool) -> None:
    first, second = entry("a", has="archived_without_recording"), entry("a", record="record.2.json")
    catalogue = catalogue_of(*([[second], [first]] if second_first else [[first], [second]]))

    assert [(one.entry.record_key, one.entry.outcome) for one in catalogue.select()] == [
        (second.record_key, "archived")
    ]
    assert [len(claims) for claims in catalogue.claims()] == [2]
    assert len(catalogue.of_folder(first.record_key.removesuffix("record.json"))) == 2


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(agent_id=7), ["seven"]),
        (Selection(agent_id="7"), ["seven"]),
        (Selection(agent_id="unknown"), ["nobody"]),
        (Selection(since=20), ["late", "middle"]),
        (Selection(until=20), ["seven", "nobody"]),
        (Selection(since=20, until=30), ["middle"]),
        (Selection(status="busy"), ["middle"]),
        (Selection(outcome="gone"), ["nobody"]),
        (Selection(outcome="archived_without_recording"), ["seven"]),
        (Selection(ids=frozenset({"late", "seven", "stranger"})), ["late", "seven"]),
        (Selection(ids=frozenset({"late", "seven"}), agent_id=7), ["seven"]),
        (Selection(ids=frozenset()), []),
    ],
)
def test_a_selection_leaves_out_what_it_does_not_name(selection: Selection, expected: list[str]) -> None:
    catalogue = catalogue_of(
        [
            entry("late", 30),
            entry("middle", 20, status="busy"),
            entry("seven", 11, agent=7, has="archived_without_recording"),
            entry("nobody", 10, agent=None, has="gone"),
        ]
    )

    assert ids(catalogue, selection) == expected


def test_one_selection_does_not_see_the_ids_of_another() -> None:
    catalogue = catalogue_of([entry("a"), entry("b")])

    assert ids(catalogue, Selection(ids=frozenset({"a"}))) == ["a"]
    assert ids(catalogue, Selection(ids=frozenset({"b"}))) == ["b"]


@pytest.mark.parametrize("start", [1 << 63, -(1 << 70), 10**40])
def test_a_start_that_no_database_holds_is_kept_in_the_entry(start: int) -> None:
    [found] = catalogue_of([entry("a", start)]).select()

    assert found.entry.start_timestamp == start


def test_what_is_hostile_in_an_id_is_only_text() -> None:
    hostile = "x'); DROP TABLE entries; --"
    catalogue = catalogue_of([entry(hostile)])

    assert ids(catalogue, Selection(ids=frozenset({hostile}))) == [hostile]


def test_all_that_runs_have_settled_is_in_the_catalogue() -> None:
    sim, clock, store = Simulator(1, 250), plain.Clock(), MemoryStore()
    plain.archive(plain.client_of(sim, clock), store, clock, part_size=40)
    sim.add(5)
    plain.archive(plain.client_of(sim, clock), store, clock)

    with closing(read_catalogue(store, abreast)) as catalogue:
        assert set(ids(catalogue)) == {one.conversation_id for one in sim.conversations if one.status == "completed"}
        assert {one.sequence for one in catalogue.select()} == set(range(1, 1 + max_sequence(store)))


def max_sequence(store: MemoryStore) -> int:
    return len([key for key in store.objects if key.startswith("manifests/0")])


def test_several_threads_may_ask_one_catalogue() -> None:
    catalogue = catalogue_of([entry(f"{number:04}", number) for number in range(3000)])

    found = list(abreast(lambda since: len(ids(catalogue, Selection(since=since))), range(0, 3000, 100)))

    assert found == [3000 - since for since in range(0, 3000, 100)]


# The crew


def test_a_crew_gives_results_in_order_and_runs_only_so_far_ahead() -> None:
    begun: list[int] = []

    def note(number: int) -> int:
        begun.append(number)
        return number

    results = abreast(note, range(10_000))

    assert next(results) == 0
    assert len(begun) <= AHEAD + 2
    assert list(results) == list(range(1, 10_000))


def test_an_error_in_a_crew_is_raised_and_ends_its_threads() -> None:
    before = threading.active_count()

    with pytest.raises(ZeroDivisionError):
        list(abreast(lambda number: 1 // number, [1, 2, 0, 3]))

    assert threading.active_count() == before

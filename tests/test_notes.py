"""A small number for each of very many ids, in a few bytes each."""

import sys
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from formant_archive.listing import PASSES, STATUSES
from formant_archive.notes import LARGEST, PLACES, Notes


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, LARGEST)), max_size=60))
def test_it_remembers_what_a_dict_does(given_: list[tuple[str, int]]) -> None:
    notes, truth = Notes(), dict[str, int]()
    for name, number in given_:
        notes[name] = truth[name] = number
        assert len(notes) == len(truth)
    assert {name: notes[name] for name in truth} == truth


def test_it_grows_and_forgets_none() -> None:
    notes, many = Notes(), 10 * PLACES
    for number in range(many):
        notes[f"id-{number}"] = number % 7 + 1

    assert len(notes) == many
    assert all(notes[f"id-{number}"] == number % 7 + 1 for number in range(many))
    assert not any(notes[f"other-{number}"] for number in range(many))
    assert len(notes) == many


def test_an_id_takes_thirty_bytes_at_most_beside_a_moment_of_growth() -> None:
    tracemalloc.start()
    notes, many = Notes(), 50_000
    for number in range(many):
        notes[f"a-conversations-id-{number}"] = 1
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held / many < 30
    assert peak / many < 45
    assert sys.getsizeof(notes) < 1000


def test_any_text_is_an_id() -> None:
    notes = Notes()
    for name in ("", "\0", "\ud800", "é" * 5000):
        notes[name] = 3
        assert notes[name] == 3


def test_every_number_that_a_listing_notes_can_be_held() -> None:
    assert STATUSES * (PASSES + 1) + PASSES <= LARGEST

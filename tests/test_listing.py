"""Listings: against a list that lies, slides and shuffles, nothing is missed unsaid and little is asked."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formant_archive.listing import IDLE_PAGES, JITTER, PAGE_SIZE, PAGES_AT_ONCE, PASSES, Horizon, Listing, News, Sweep
from formant_archive.manifest import Scope
from formant_archive.records import Recent, Reference

HOUR = 3_600_000
OVERLAP = 6 * HOUR
NOW = 1_773_867_201_766
MARK = NOW - HOUR
START = MARK - OVERLAP


def row(name: str, time: int | None = None, status: str = "completed", **fields: int) -> Reference:
    return Reference(conversation_id=name, status=status, start_timestamp=time, **fields)


def rows(count: int, newest: int = MARK, step: int = HOUR, name: str = "c") -> list[Reference]:
    """Some rows, newest first."""
    return [row(f"{name}{number}", newest - number * step) for number in range(count)]


class Api:
    """A list that answers by offset, and changes between two pages as it is told.

    Attributes:
        rows: The list as it is now.
        page_size: Rows on a page, whatever was asked for.
        between: What happens before a page is answered, by the number of the request (from 1).
        total: What the list says of its length; the truth where it is None.
        asked: The offsets that were asked for.
    """

    def __init__(self, some: Sequence[Reference], page_size: int = PAGE_SIZE) -> None:
        self.rows = list(some)
        self.page_size = page_size
        self.between: dict[int, Callable[[list[Reference]], object]] = {}
        self.total: int | None = None
        self.asked: list[int] = []
        self.shown: set[str] = set()

    def page(self, offset: int) -> tuple[list[Reference], int]:
        self.asked.append(offset)
        self.between.get(len(self.asked), id)(self.rows)
        page = self.rows[offset : offset + self.page_size]
        self.shown |= {one.conversation_id for one in page}
        return page, len(self.rows) if self.total is None else self.total

    @property
    def pages(self) -> int:
        return len(self.asked)


def listing(before: Scope | None = None, **settings: Any) -> Listing:
    defaults: dict[str, Any] = {"known": frozenset(), "overlap": OVERLAP, "now": NOW, "full": False, "since": None}
    return Listing("all", before or Scope(), **defaults | settings)


def follow(one: Listing, api: Api) -> list[News]:
    """List to wherever the listing ends; a listing that does not end is a fault of its own."""
    news = []
    while (offset := one.offset) is not None:
        news.append(one.take(*api.page(offset)))
        assert api.pages < 1000
    return news


def listed(api: Api, before: Scope | None = None, **settings: Any) -> Listing:
    one = listing(before, **settings)
    follow(one, api)
    return one


def scope_after(some: Sequence[Reference], **fields: Any) -> Scope:
    """The scope that a complete listing of these rows leaves, all of them settled."""
    times = {one.conversation_id: NOW if one.time is None else one.time for one in some}
    mark = min(NOW, max(times.values()))
    recent = {
        name: Recent(conversation_id=name, time=time, settled=True)
        for name, time in times.items()
        if time >= mark - OVERLAP
    }
    return replace(Scope(mark, len(some), "newest_first", recent=recent), **fields)


# Where a scheduled listing may stop: the truth table

SWEEP: dict[str, Any] = {"totals": [1000], "first_page_newest": START, "page": [START - 1], "newest_first": True}
HORIZON: dict[str, Any] = {"start": START, "total": 1000, "newest_first": True}


def allows_stop(horizon: dict[str, Any], sweep: dict[str, Any], fresh: int) -> bool:
    return Horizon(**HORIZON | horizon).allows_stop(Sweep(**SWEEP | sweep), fresh)


@pytest.mark.parametrize(
    ("horizon", "sweep", "fresh"),
    [
        ({"start": None}, {}, 0),
        ({"newest_first": False}, {}, 0),
        ({}, {"newest_first": False}, 0),
        ({}, {"first_page_newest": None}, 0),
        ({}, {"first_page_newest": START - 1}, 0),
        ({}, {"page": [START]}, 0),
        ({}, {"page": [START - 1, START]}, 0),
        ({}, {"page": [START, START - 1]}, 0),
        ({}, {"page": []}, 0),
        ({"total": None}, {}, 0),
        ({}, {"totals": [1001]}, 0),
        ({}, {"totals": [1004]}, 3),
        ({}, {"totals": [1000, 1001]}, 0),
    ],
    ids=[
        "no watermark or a full listing",
        "the list was not newest first",
        "this pass was not newest first",
        "page 1 has no times",
        "page 1 does not reach the horizon",
        "the page reaches the horizon",
        "its end reaches the horizon",
        "its beginning reaches the horizon",
        "the page has no times",
        "no total is known",
        "a row appeared and was not seen",
        "four appeared and three were seen",
        "a row appeared meanwhile",
    ],
)
def test_each_condition_alone_forbids_to_stop(horizon: dict[str, Any], sweep: dict[str, Any], fresh: int) -> None:
    assert not allows_stop(horizon, sweep, fresh)


@pytest.mark.parametrize(
    ("sweep", "fresh"),
    [({}, 0), ({"first_page_newest": NOW}, 0), ({"totals": [1003]}, 3), ({"totals": [1003]}, 9), ({"totals": [9]}, 0)],
    ids=range(5),
)
def test_where_all_conditions_hold_a_listing_may_stop(sweep: dict[str, Any], fresh: int) -> None:
    assert allows_stop({}, sweep, fresh)


# To the end


def test_a_first_listing_goes_to_the_end() -> None:
    api = Api(rows(250))

    one = listed(api)

    assert api.asked == [0, 100, 200, 250]
    assert (one.complete, one.to_the_end, one.unique, one.missing) == (True, True, 250, 0)


def test_an_empty_list_is_complete() -> None:
    one = listed(Api([]))

    assert (one.complete, one.unique, one.newest, one.total) == (True, 0, None, 0)


def test_a_listing_that_has_not_begun_or_not_ended_is_not_complete() -> None:
    one = listing()
    assert not one.complete
    one.take(rows(100), 100)
    assert not one.complete


def test_a_server_with_smaller_pages_is_followed_by_what_it_gives() -> None:
    api = Api(rows(90), page_size=20)

    assert listed(api).complete
    assert api.asked == [0, 20, 40, 60, 80, 90]


def test_a_short_page_in_the_middle_ends_nothing() -> None:
    api = Api(rows(300))
    api.between = {2: lambda _: setattr(api, "page_size", 7), 3: lambda _: setattr(api, "page_size", 100)}

    one = listed(api)

    assert (one.complete, one.unique) == (True, 300)
    assert api.asked[:3] == [0, 100, 107]


def test_a_list_that_ignores_the_offset_ends() -> None:
    one, page = listing(), rows(100)
    for _ in range(2 * PASSES):
        one.take(page, 300)

    assert one.offset is None
    assert (one.complete, one.missing) == (False, 200)


def test_a_full_listing_goes_to_the_end_whatever_the_watermark_says() -> None:
    some = rows(500)

    assert listed(Api(some), scope_after(some), full=True).to_the_end


def test_what_a_listing_has_seen_is_noted() -> None:
    one = listed(Api(rows(250)), since=7)

    assert one.note().model_dump() == {
        "scope": "all",
        "order": "newest_first",
        "full": True,
        "since": 7,
        "pages": 4,
        "rows": 250,
        "unique": 250,
        "total_first": 250,
        "total_last": 250,
        "complete": True,
    }


@settings(max_examples=60, deadline=None)
@given(data=st.data(), page_size=st.integers(1, 20))
def test_a_list_that_stands_still_is_listed_completely_in_any_order_and_page_size(
    data: st.DataObject, page_size: int
) -> None:
    times = st.none() | st.integers(NOW - 100 * HOUR, NOW + HOUR)
    some = [row(str(number), time) for number, time in enumerate(data.draw(st.lists(times, max_size=60)))]
    api = Api(some, page_size)

    one = listed(api)

    assert one.complete
    assert api.shown == {reference.conversation_id for reference in some}
    assert one.unique == len(some)
    assert api.pages == -(-len(some) // page_size) + 1


# Totals that shrink, fall short and lie


def drop_first(some: list[Reference]) -> None:
    del some[0]


def test_a_row_that_slides_past_a_page_is_found_by_the_next_pass() -> None:
    api = Api(rows(250))
    everything = {one.conversation_id for one in api.rows}
    api.between = {2: drop_first}

    one = listed(api)

    assert api.shown == everything
    assert (one.complete, one.unique) == (True, 250)
    assert api.asked == [0, 100, 200, 249, 0, 100, 200, 249]


def test_a_list_that_shrinks_in_every_pass_is_listed_three_times_and_no_more() -> None:
    api = Api(rows(250))
    api.between = dict.fromkeys(range(2, 99, 4), drop_first)

    listed(api)

    assert api.asked.count(0) == PASSES == 3


def test_a_total_that_is_too_high_is_asked_three_times_and_then_said() -> None:
    api = Api(rows(50))
    api.total = 80

    one = listed(api)

    assert api.asked == [0, 50] * PASSES
    assert (one.complete, one.missing, one.unique) == (False, 30, 50)


def test_rows_while_the_total_says_none_are_all_listed() -> None:
    api = Api(rows(250))
    api.total = 0

    one = listed(api)

    assert (one.complete, one.unique, api.pages) == (True, 250, 4)


def test_an_empty_page_while_the_total_promises_rows_is_not_believed_at_once() -> None:
    api = Api([])
    api.total = 250
    api.between = {2: lambda some: some.extend(rows(250))}

    one = listed(api)

    assert (one.complete, one.unique) == (True, 250)


def test_the_passes_together_count() -> None:
    # Each pass fails to show another row, as a list does that sorts two equal rows now so, now so.
    some = rows(40)
    one = listing()
    for hidden in (3, 17, 33):
        one.take(some[:hidden] + some[hidden + 1 :], 40)
        one.take([], 40)

    assert one.offset is None
    assert (one.complete, one.missing, one.unique) == (True, 0, 40)


def test_a_row_that_went_does_not_stand_in_for_one_that_is_missed() -> None:
    some, one = rows(10), listing()
    without = [each for each in some if each.conversation_id != "c3"]
    for total, shown in ((10, without), (9, without[:-1]), (9, without[:-1])):
        one.take(shown, total)
        one.take([], total)

    assert one.offset is None
    assert (one.unique, one.complete, one.missing) == (9, False, 1)


def test_a_row_that_is_shown_twice_counts_once() -> None:
    one = listing()
    for total in (11, 10, 10):
        one.take(rows(9) + rows(1), total)
        one.take([], total)

    assert one.offset is None
    assert (one.complete, one.missing) == (False, 1)


def test_the_last_passes_first_total_is_what_must_be_seen() -> None:
    one = listing()
    one.take(rows(10), 30)
    one.take([], 30)
    one.take(rows(10), 10)
    one.take([], 12)

    assert one.offset is None
    assert (one.complete, one.note().total_first, one.note().total_last) == (True, 10, 12)


def test_an_unsorted_list_promises_its_highest_total() -> None:
    one = listing()
    for _ in range(PASSES):
        one.take(rows(2)[::-1], 2)
        one.take([], 3)

    assert one.offset is None
    assert (one.complete, one.missing) == (False, 1)


@pytest.mark.parametrize(("out_of_order", "passes"), [(JITTER, 1), (JITTER + 1, PASSES)], ids=["a minute", "more"])
def test_a_list_that_is_a_minute_out_of_order_is_still_sorted(out_of_order: int, passes: int) -> None:
    one, some = listing(), [row("a", MARK), row("b", MARK + out_of_order)]
    for _ in range(passes):
        one.take(some, 2)
        assert one.offset == 2
        one.take([], 3)

    assert one.offset is None
    assert one.complete is (passes == 1)


def test_the_lowest_total_of_a_pass_is_what_was_shown() -> None:
    one = listing()
    for _ in range(PASSES):
        one.take(rows(10), 10)
        one.take([], 9)

    assert one.complete
    assert one.total_shown == 9


def test_a_page_that_could_not_be_had_leaves_the_listing_incomplete() -> None:
    one = listing()
    one.take(rows(100), 250)
    one.fail()

    assert one.offset is None
    assert (one.complete, one.missing, one.to_the_end, one.order) == (False, None, False, None)


def test_a_failed_page_is_incomplete_even_where_all_rows_were_seen() -> None:
    one = listing()
    one.take(rows(100), 100)
    one.fail()

    assert not one.complete


# Rows that come and move while pages are turned


@pytest.mark.parametrize(
    ("totals", "offset", "idle", "slid"),
    [
        ([8], 2, 1, False),
        ([8, 8], 4, 1, False),
        ([8, 10], 4, 1, True),
        ([8, 10], 9, 1, True),
        ([8, 10], 10, 1, False),
        ([8, 10, 9], 9, 1, True),
        ([8, 7], 4, 1, False),
        ([8, 10], 4, IDLE_PAGES - 1, True),
        ([8, 10], 4, IDLE_PAGES, False),
    ],
    ids=[
        "the first page",
        "none came",
        "two came",
        "two came, and one of them is still to push",
        "all is read",
        "two came and one went",
        "one went",
        "almost too often",
        "too often",
    ],
)
def test_only_rows_that_came_and_have_not_been_read_past_can_push_known_ones_onto_a_page(
    totals: list[int], offset: int, idle: int, slid: bool
) -> None:
    assert Sweep(totals=totals, offset=offset, idle=idle).may_have_slid is slid


def push_two(some: list[Reference]) -> None:
    some[:0] = [row(f"new{len(some)}", NOW), row(f"new{len(some) + 1}", NOW)]


def test_new_rows_on_top_push_others_down_and_nothing_is_missed() -> None:
    api = Api(rows(250))
    api.between = {2: lambda some: some.insert(0, row("new", NOW)), 3: lambda some: some.insert(0, row("newer", NOW))}
    before = {one.conversation_id for one in api.rows}

    one = listed(api)

    assert before <= api.shown
    assert one.complete
    assert one.unique == 250, "the two new ones stand before where it has looked: they are the next run's"


def test_more_new_rows_than_a_page_do_not_end_a_listing_unsaid() -> None:
    api = Api(rows(100), page_size=20)
    api.between = {3: lambda some: some.__setitem__(slice(0, 0), rows(25, NOW, 1, "new"))}
    everything = {one.conversation_id for one in api.rows}

    one = listed(api)

    assert everything <= api.shown
    assert one.complete
    assert api.asked == [0, 20, 40, 60, 80, 100, 120, 125] * 2


def test_a_page_that_rows_from_above_have_filled_with_known_ones_is_not_the_end() -> None:
    api = Api(rows(8), page_size=2)
    api.between[2] = push_two

    one = listed(api)

    assert one.complete
    assert api.shown >= {f"c{number}" for number in range(8)}
    assert api.asked == [0, 2, 4, 6, 8, 10] * 2


def test_a_busy_list_is_read_to_its_end() -> None:
    api = Api(rows(8), page_size=2)
    api.between = dict.fromkeys((2, 4, 6, 8), push_two)

    one = listed(api)

    assert one.complete
    assert api.shown >= {f"c{number}" for number in range(8)}
    assert api.asked == [*range(0, 16, 2), *range(0, 18, 2)]


def test_a_list_that_grows_by_a_page_before_every_request_ends_and_is_not_complete() -> None:
    api = Api(rows(8), page_size=2)
    api.between = dict.fromkeys(range(2, 1000), push_two)

    one = listed(api)

    assert api.pages == (1 + IDLE_PAGES) * PASSES
    assert (one.complete, one.to_the_end) == (False, True)


def test_pages_without_news_end_a_pass_only_where_they_follow_each_other() -> None:
    # Rows from above fill every other page.
    api = Api(rows(300), page_size=2)
    api.between = dict.fromkeys(range(2, 300, 2), push_two)

    one = listed(api)

    assert one.complete
    assert api.asked == [*range(0, 600, 2)] * 2


def test_an_empty_page_ends_a_pass_though_the_total_has_grown() -> None:
    api = Api(rows(8), page_size=8)
    api.total = 8
    api.between[2] = lambda _: setattr(api, "total", 20)

    one = listed(api)

    assert api.asked == [0, 8]
    assert one.complete


def test_a_list_that_ignores_the_offset_and_grows_ends() -> None:
    one = listing()
    while one.offset is not None:
        one.take(rows(2), 2 if one.note().pages == 0 else 5)
        assert one.note().pages < 50

    assert one.note().pages == 3 + 2 + 2
    assert (one.complete, one.missing) == (False, 3)


def test_a_late_row_does_not_stand_in_for_one_that_slid_past() -> None:
    api = Api(rows(250))
    api.between = {2: drop_first, 3: lambda some: some.append(row("late", MARK - 999 * HOUR))}

    one = listed(api)

    assert "c100" in api.shown
    assert one.complete


def test_a_row_that_moves_up_past_the_reader_is_found_by_another_pass() -> None:
    api = Api(rows(250))
    api.between = {3: lambda some: some.insert(0, some.pop(230))}

    one = listed(api)

    assert "c230" in api.shown
    assert (one.complete, one.unique) == (True, 250)


def test_a_row_that_moves_down_is_one_conversation() -> None:
    api = Api(rows(250))
    api.between = {2: lambda some: some.append(some.pop(0))}
    everything = {one.conversation_id for one in api.rows}

    one = listed(api)

    assert one.complete
    assert everything == api.shown
    assert one.unique == 250


# A complete listing can have missed a row where each of three passes lost the same one, and in the last one another row
# came in its place: that takes changes before six pages.
@settings(max_examples=300, deadline=None)
@given(
    changes=st.dictionaries(
        st.integers(1, 30), st.integers(0, 30) | st.lists(st.integers(0, 40), min_size=1, max_size=6), max_size=5
    ),
    page_size=st.integers(2, 5),
)
def test_however_rows_come_and_go_a_complete_listing_has_seen_all_that_stayed(
    changes: dict[int, int | list[int]], page_size: int
) -> None:
    api = Api(rows(12), page_size)
    stayed = {one.conversation_id for one in api.rows}

    def changing(number: int, places: int | list[int]) -> Callable[[list[Reference]], object]:
        """Some rows come, or one goes: where both happen between two pages, no total tells."""

        def change(some: list[Reference]) -> None:
            if isinstance(places, int):
                stayed.discard(some.pop(places % len(some)).conversation_id)
                return
            for which, place in enumerate(places):
                some.insert(place, row(f"n{number}-{which}", NOW))

        return change

    api.between = {number: changing(number, places) for number, places in changes.items()}

    assert not listed(api).complete or stayed <= api.shown


# What a page shows for the first time


def test_a_conversation_is_news_once() -> None:
    one = listing()
    first, again = one.take(rows(3) + rows(2), 9), one.take(rows(4), 9)

    assert [each.conversation_id for each in first.new] == ["c0", "c1", "c2"]
    assert [each.conversation_id for each in again.new] == ["c3"]
    assert (again.changed, one.unique, one.note().rows) == ([], 4, 9)


def test_a_status_that_changed_while_listing_is_news() -> None:
    one = listing()
    one.take([row("a", MARK, "in_progress"), row("b", MARK)], 9)

    news = one.take([row("a", MARK, "completed"), row("b", MARK), row("x", MARK)], 9)

    assert [(each.conversation_id, each.status) for each in news.changed] == [("a", "completed")]
    assert [each.conversation_id for each in news.new] == ["x"]


def test_a_status_that_changed_between_two_passes_is_news() -> None:
    one = listing()
    one.take([row("a", MARK, "in_progress")], 5)
    one.take([], 5)

    assert one.take([row("a", MARK, "completed")], 5).changed == [row("a", MARK, "completed")]


def test_ids_that_differ_only_far_down_are_two_conversations() -> None:
    one = listing()
    one.take([row("x" * 5000), row("x" * 4999 + "y"), row("X" * 5000)], 3)

    assert one.unique == 3


# The order


@pytest.mark.parametrize(
    ("some", "order"),
    [
        (rows(250), "newest_first"),
        (rows(250)[::-1], "other"),
        (rows(125)[::2] + rows(125)[1::2], "other"),
        (rows(9, step=0), "newest_first"),
        ([row("a", MARK), row("b", MARK - OVERLAP), row("c", MARK)], "newest_first"),
        ([row("a", MARK), row("b", MARK - OVERLAP - 1), row("c", MARK)], "other"),
        ([row("a", MARK), row("b"), row("c", MARK - 9 * HOUR), row("d"), row("e", MARK - 99 * HOUR)], "newest_first"),
        ([row("a", 0), row("b", MARK)], "other"),
    ],
    ids=["newest", "oldest", "shuffled", "equal", "within the overlap", "beyond it", "timeless between", "zero"],
)
def test_the_order_of_a_list_is_found_out(some: list[Reference], order: str) -> None:
    assert listed(Api(some)).order == order


def test_a_list_that_was_not_followed_to_its_end_has_no_known_order() -> None:
    some = rows(500)

    assert listed(Api(some), scope_after(some)).order is None


# Early stop


@pytest.mark.parametrize(
    ("in_overlap", "step"), [(1, 7 * HOUR), (7, HOUR), (99, 200_000), (100, 200_000), (101, 200_000), (721, 30_000)]
)
@pytest.mark.parametrize("total", [0, 50, 5000])
def test_a_listing_with_nothing_new_asks_for_the_overlaps_pages_and_one_more(
    in_overlap: int, step: int, total: int
) -> None:
    near = rows(in_overlap, MARK, step)
    some = near + rows(total, START - 1, HOUR, "old")
    assert sum((one.time or 0) >= START for one in some) == in_overlap
    api = Api(some)

    one = listed(api, scope_after(some))

    assert one.complete
    assert api.pages <= 2 + in_overlap / PAGE_SIZE
    assert one.to_the_end == (total == 0 or api.asked[-1] == len(some))


def test_new_conversations_cost_their_own_pages_only() -> None:
    some = rows(5000)
    api = Api(rows(300, NOW, 1000, "new") + some)

    one = listed(api, scope_after(some))

    assert one.complete
    assert not one.to_the_end
    assert api.pages <= 2 + (300 + 7) / PAGE_SIZE
    assert {f"new{number}" for number in range(300)} <= api.shown


def test_a_row_that_appears_late_and_deep_brings_the_listing_to_the_end() -> None:
    some = rows(1000)
    deep = [*some[:900], row("late", some[900].time), *some[900:]]

    one = listed(Api(deep), scope_after(some))

    assert (one.to_the_end, one.complete, one.unique) == (True, True, 1001)


def test_a_late_row_is_not_hidden_by_new_ones() -> None:
    some = rows(1000)
    api = Api([*rows(5, NOW, 1, "new"), *some, row("late", some[-1].time)])

    one = listed(api, scope_after(some))

    assert "late" in api.shown
    assert one.complete


@pytest.mark.parametrize("known", ["recent", "pending"])
def test_a_late_row_is_not_hidden_by_what_was_known_before(known: str) -> None:
    some = rows(1000)
    before = scope_after(some)
    names = frozenset(before.recent)
    if known == "pending":
        before = replace(before, recent={})
    api = Api([*some, row("late", some[-1].time)])

    listed(api, before, known=names if known == "pending" else frozenset())

    assert "late" in api.shown


def test_a_late_row_is_not_hidden_by_one_that_is_deleted_while_listing() -> None:
    # Page 1 says that two have come since, and one of them is new: the other one is somewhere.
    some = rows(1000)
    api = Api([row("new", NOW), *some, row("late", some[-1].time)])
    api.between = {2: lambda more: more.pop(150)}

    listed(api, scope_after(some))

    assert "late" in api.shown


def test_a_late_row_is_not_hidden_by_a_new_one_that_a_page_shows_twice() -> None:
    some = rows(1000)
    api = Api([row("new", NOW), row("new", NOW), *some, row("late", some[-1].time)])

    listed(api, scope_after(some))

    assert "late" in api.shown


def test_a_list_that_has_turned_round_is_listed_to_the_end() -> None:
    some = rows(1000)

    one = listed(Api(some[::-1]), scope_after(some))

    assert (one.to_the_end, one.order) == (True, "other")


def test_a_list_that_did_not_come_newest_first_is_always_listed_to_the_end() -> None:
    some = rows(1000)

    assert listed(Api(some), scope_after(some, order="other")).to_the_end
    assert listed(Api(some), scope_after(some, order=None)).to_the_end


def test_a_pass_that_breaks_the_order_goes_to_the_end() -> None:
    some = rows(1000)
    api = Api([*some[:20], row("odd", MARK), *some[20:]])

    one = listed(api, scope_after([*some, row("odd", MARK)]))

    assert (one.to_the_end, one.order) == (True, "other")


def test_a_scope_without_a_watermark_is_listed_to_the_end() -> None:
    some = rows(1000)

    assert listed(Api(some), scope_after(some, watermark=None)).to_the_end
    assert listed(Api(some), scope_after(some, total=None)).to_the_end


def test_an_early_stop_while_the_list_shrank_is_tried_again_and_complete_once_it_stands_still() -> None:
    some = rows(3000, step=100_000)
    api = Api(some)
    api.between = {2: drop_first}

    one = listed(api, scope_after(some))

    assert one.complete
    assert not one.to_the_end
    assert api.asked.count(0) == 2


def test_an_early_stop_is_not_complete_where_the_list_shrank_in_all_three_passes() -> None:
    some = rows(3000, step=100_000)
    api = Api(some)
    api.between = dict.fromkeys(range(2, 99), drop_first)

    one = listed(api, scope_after(some))

    assert api.asked.count(0) == PASSES
    assert (one.complete, one.missing) == (False, None), "how many are missing cannot be known"


@settings(max_examples=100, deadline=None)
@given(
    head=st.lists(st.integers(0, 10 * HOUR), max_size=8),
    deep=st.lists(st.integers(0, 300 * HOUR), max_size=3),
    timeless=st.sets(st.integers(0, 90), max_size=3),
    page_size=st.integers(2, 20),
    shuffled=st.randoms(use_true_random=False) | st.none(),
)
def test_whatever_has_arrived_since_a_complete_listing_sees_it(
    head: list[int], deep: list[int], timeless: set[int], page_size: int, shuffled: Any
) -> None:
    old = [row(one.conversation_id) if number in timeless else one for number, one in enumerate(rows(100))]
    arrivals = [row(f"new{number}", MARK + after) for number, after in enumerate(head)]
    arrivals += [row(f"late{number}", MARK - before) for number, before in enumerate(deep)]
    now = sorted(old + arrivals, key=lambda one: -(one.time or MARK))
    if shuffled is not None:
        shuffled.shuffle(now)
    api = Api(now, page_size)

    one = listed(api, scope_after(old))

    assert one.complete
    assert {arrival.conversation_id for arrival in arrivals} <= api.shown


# Rows without a time


def test_timeless_rows_do_not_keep_an_old_page_from_being_old() -> None:
    some = rows(1000)
    some[150] = row("timeless")
    api = Api(some)

    one = listed(api, scope_after(some))

    assert one.complete
    assert not one.to_the_end
    assert api.pages == 2


def test_pages_of_timeless_rows_alone_say_nothing_of_the_horizon() -> None:
    some = [row(f"t{number}") for number in range(300)]

    one = listed(Api(some), scope_after(some))

    assert (one.to_the_end, one.complete) == (True, True)


def test_a_timeless_row_on_an_old_page_does_not_hide_a_late_one() -> None:
    # It has stood there for long: nobody remembers it, and it is not what the total has grown by.
    before = scope_after(rows(1000))
    some = rows(1000)
    some[150] = row("timeless")
    api = Api([*some, row("late", some[-1].time)])

    listed(api, before)

    assert "late" in api.shown


# What moves the watermark


@pytest.mark.parametrize(
    ("some", "newest"),
    [
        ([row("a", 5), row("b", 9), row("c", 7)], 9),
        ([row("a", 5), row("b", None, end_timestamp=8)], 8),
        ([row("a", 5, end_timestamp=8)], 5),
        ([row("a", 5), row("b")], NOW),
        ([row("a", -5)], -5),
        ([row("a", 0)], 0),
        ([row("a", 10**30)], 10**30),
    ],
    ids=range(7),
)
def test_the_newest_time_is_a_start_else_an_end_else_now(some: list[Reference], newest: int) -> None:
    assert listed(Api(some)).newest == newest


def test_the_newest_of_all_passes_counts() -> None:
    one = listing()
    one.take([row("a", 9)], 5)
    one.take([], 5)
    one.take([row("b", 7)], 5)

    assert one.newest == 9


def test_rows_that_come_while_a_list_is_read_do_not_hide_one_that_appears_late_and_deep() -> None:
    some = rows(8, newest=NOW - HOUR)
    api = Api(some, page_size=4)
    api.between[2] = lambda now: now.insert(0, row("new", NOW))
    first = listed(api, scope_after(some[:1], watermark=None, total=None))
    api.rows.append(row("late", NOW - 1000 * HOUR))

    second = listed(api, scope_after(some, total=first.total_shown))

    assert first.complete
    assert "new" in api.shown
    assert second.to_the_end
    assert "late" in api.shown


@pytest.mark.parametrize(("total", "expected"), [(100, 1), (101, 1), (300, 2), (301, 3), (100_000, PAGES_AT_ONCE)])
def test_pages_are_asked_for_at_once_as_far_as_the_total_promises_them(total: int, expected: int) -> None:
    one = listing()
    assert one.pages_ahead == 1
    one.take(rows(PAGE_SIZE), total)
    assert one.pages_ahead == expected


def test_a_listing_that_may_stop_early_asks_for_one_page_at_a_time() -> None:
    one = listing(scope_after(rows(3)))
    one.take(rows(PAGE_SIZE, step=1), 100_000)
    assert one.pages_ahead == 1

"""Summaries: what a run says of itself is what its counts say, and nothing sounds better than it is."""

from typing import Any

import pytest

from formant_archive.manifest import OUTCOMES
from formant_archive.records import Link
from formant_archive.summary import Summary

SHA = "ab" * 32
LINK = Link(key="manifests/00000000000000000042.json", sha256=SHA)


def summary(**fields: Any) -> Summary:
    """A summary; what is none of its own fields is a count."""
    counts = dict.fromkeys(("listed", "carried", *OUTCOMES), 0)
    counts |= {name: fields.pop(name) for name in counts.keys() & fields.keys()}
    known: dict[str, Any] = {"scope": "all", "complete": True, "missing": 0, "pages": 2, "head": LINK, "sequence": 42}
    return Summary(counts=counts, **known | fields)


def test_a_run_that_archived_everything_says_so() -> None:
    said = summary(listed=1250, archived=1250).sentence

    assert said == "1,250 listed, 1,250 archived, 0 already settled, 0 pending"


def test_a_run_with_nothing_new_says_so() -> None:
    assert summary(listed=7, already_settled=7).sentence == "7 listed, 0 archived, 7 already settled, 0 pending"


def test_what_was_archived_without_a_recording_is_said_apart() -> None:
    said = summary(listed=3, archived=2, archived_without_recording=1).sentence

    assert "3 archived (1 without a recording)" in said


def test_a_conversation_that_was_gone_is_not_called_archived() -> None:
    said = summary(listed=3, archived=2, gone=1).sentence

    assert "2 archived" in said
    assert "1 gone" in said


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"adopted": 2}, "2 adopted"),
        ({"already_settled": 2}, "2 already settled"),
        ({"other_status": 2}, "2 other status"),
        ({"outside": 2}, "2 outside"),
        ({"pending": 2}, "2 pending"),
        ({"failed": 2}, "2 failed (tried again by the next run)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_outcome_that_matters_is_said(counts: dict[str, int], words: str) -> None:
    assert words in summary(**counts).sentence


def test_an_incomplete_listing_cannot_be_overlooked() -> None:
    one = summary(complete=False, missing=1234)

    assert "INCOMPLETE (1,234 missing)" in one.sentence
    assert "**incomplete**, 1,234 missing" in one.markdown


def test_a_listing_that_could_not_be_finished_names_no_number() -> None:
    one = summary(complete=False, missing=None)

    assert "INCOMPLETE (it could not be finished)" in one.sentence
    assert "None" not in one.sentence + one.markdown


@pytest.mark.parametrize(
    ("fields", "is_well"),
    [
        ({}, True),
        ({"pending": 3}, True),
        ({"gone": 1}, True),
        ({"archived_without_recording": 1}, True),
        ({"failed": 1}, False),
        ({"complete": False}, False),
        ({"complete": False, "missing": 3, "failed": 1}, False),
    ],
    ids=range(7),
)
def test_a_run_is_well_where_it_was_complete_and_nothing_failed(fields: dict[str, Any], *, is_well: bool) -> None:
    assert summary(**fields).is_well == is_well


def test_the_page_shows_every_count_and_where_the_proof_is() -> None:
    counts = {name: number for number, name in enumerate(("listed", "carried", *OUTCOMES), 1001)}

    page = summary(**counts).markdown

    for name, number in counts.items():
        assert f"| {name.replace('_', ' ')} | {number:,} |" in page
    assert f"Manifest 42: `{LINK.key}`, SHA-256 `{SHA}`" in page
    assert "Listing: complete, 2 pages." in page


def test_a_page_without_a_manifest_says_none() -> None:
    assert "Manifest 42: none" in summary(head=None).markdown


def test_the_sentence_is_one_line() -> None:
    everything = summary(complete=False, missing=1, **dict.fromkeys(OUTCOMES, 1))

    assert "\n" not in everything.sentence


def test_the_head_is_said_as_a_verification_takes_it() -> None:
    assert summary().pinned_head == f"42:{SHA}"
    assert summary(head=None).pinned_head == "none"

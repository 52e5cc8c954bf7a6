"""Keys: whatever an id or agent is made of, it stays in a folder of its own, and every store can hold it."""

import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formant_archive import keys
from formant_archive.records import Reference
from formant_archive.stores import check_key, check_prefix
from formant_archive.stores.directory import DirectoryStore

START = 1_773_867_201_766  # 2026-03-18T20:53:21.766Z
FIRST_MOMENT, LAST_MOMENT = -62_135_596_800_000, 253_402_300_799_999  # of the years 1 and 9999

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)
ODD = [
    "a/b",
    "/",
    "/etc/passwd",
    "../../manifests/00000000000000000001.json",
    "..",
    ".",
    "..\\..",
    "a\0b",
    "line\nline\r\n",
    "\x1b[2J",
    "\x7f",
    "née",
    "ne\u0301e",
    "\u202eltr",
    "😀",
    "%2E%2E",
    "%",
    "~",
    " ",
    "+491511234567",
    "a" * 5000,
    "/" * 5000,
    "é" * 5000,
]


def reference(conversation_id: str = "c", **fields: object) -> Reference:
    return Reference.model_validate({"conversation_id": conversation_id, **fields})


@pytest.mark.parametrize("name", ["e36853de-9cbb-441e-ad75-d3c8ac82abfb_1", "A.b-c_9", "...", "-", "a" * 128])
def test_a_plain_id_is_its_own_name(name: str) -> None:
    assert keys.component(name) == name


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("a/b", "a%2Fb"),
        ("née", "n%C3%A9e"),
        ("~", "%7E"),
        ("%2F", "%252F"),
        ("a b", "a%20b"),
        ("\0\n", "%00%0A"),
        ("😀", "%F0%9F%98%80"),
        ("../x", "..%2Fx"),
    ],
)
def test_any_other_id_is_percent_encoded_byte_by_byte(name: str, spelled: str) -> None:
    assert keys.component(name) == spelled


def test_an_id_is_shortened_only_beyond_200_bytes() -> None:
    assert keys.component("a" * 200) == "a" * 200
    assert keys.component("a" * 201) == "a" * 100 + "~" + hashlib.sha256(b"a" * 201).hexdigest()


@pytest.mark.parametrize("lead", range(4))
@pytest.mark.parametrize("character", ["/", "é", "😀"])
def test_a_shortened_id_is_never_cut_inside_an_escape(lead: int, character: str) -> None:
    name = "a" * lead + character * 1000

    head, mark, sha256 = keys.component(name).partition("~")

    assert mark
    assert sha256 == hashlib.sha256(name.encode()).hexdigest()
    assert re.fullmatch(r"a*(%[0-9A-F]{2})*", head)
    assert 98 <= len(head) <= 100


@pytest.mark.parametrize("start", ["a" * 100, "/" * 100, "é" * 100])
def test_long_ids_with_the_same_beginning_do_not_collide(start: str) -> None:
    one, other = start.ljust(5000, "x"), start.ljust(4999, "x") + "y"

    assert keys.component(one)[:90] == keys.component(other)[:90]
    assert keys.component(one) != keys.component(other)


def test_no_id_can_be_spelled_like_another_ones_short_form() -> None:
    assert keys.component(keys.component("/" * 5000)) != keys.component("/" * 5000)
    assert keys.component("%2F") != keys.component("/")


@given(TEXT)
def test_a_component_is_one_harmless_part_of_a_key(name: str) -> None:
    spelled = keys.component(name)

    assert re.fullmatch(r"[A-Za-z0-9._~%-]{1,200}", spelled)
    assert spelled not in {".", ".."}


@given(st.lists(TEXT, min_size=2, max_size=5, unique=True))
def test_different_ids_have_different_components(names: list[str]) -> None:
    assert len({keys.component(name) for name in names}) == len(names)


@given(conversation_id=TEXT, agent_id=st.none() | st.integers() | TEXT, start=st.none() | st.integers())
def test_every_folder_is_a_prefix_of_three_parts_that_stores_take(
    conversation_id: str, agent_id: int | str | None, start: int | None
) -> None:
    one = reference(conversation_id, agent_id=agent_id, start_timestamp=start)

    folder = keys.folder(one)

    check_prefix(folder)
    check_key(folder + keys.RECORD)
    assert re.fullmatch(r"conversations/agent_id=[^/]*/date=(\d{4}-\d\d-\d\d|unknown)/[^/]+/", folder)
    assert len((folder + keys.CONVERSATION).encode()) < 1024
    assert keys.day_folder_of(folder) == keys.day_folder(one)


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
def test_an_odd_id_can_be_stored_in_a_directory_and_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path / "archive"))
    key = keys.folder(reference(name, agent_id=name, start_timestamp=START)) + keys.RECORD

    assert store.put(key, b"{}", sha256=hashlib.sha256(b"{}").hexdigest())

    (file,) = (path for path in tmp_path.rglob(keys.RECORD) if path.is_file())
    assert file.parent.parent.parent.parent == tmp_path / "archive" / "conversations"
    assert [stat.key for stat in store.list(keys.day_folder_of(key.removesuffix(keys.RECORD)))] == [key]


def test_a_conversation_lies_under_its_agent_and_the_utc_day_of_its_start() -> None:
    one = reference("e3_1", agent_id=123, start_timestamp=START, end_timestamp=START + 86_400_000)

    assert keys.folder(one) == "conversations/agent_id=123/date=2026-03-18/e3_1/"


def test_the_end_names_the_day_where_there_is_no_start() -> None:
    assert "/date=2026-03-18/" in keys.folder(reference(end_timestamp=START))


def test_a_conversation_without_times_or_agent_lies_under_unknown() -> None:
    assert keys.folder(reference("c")) == "conversations/agent_id=unknown/date=unknown/c/"


@pytest.mark.parametrize(
    ("timestamp", "day"),
    [
        (0, "1970-01-01"),
        (-1, "1969-12-31"),
        (86_399_999, "1970-01-01"),
        (86_400_000, "1970-01-02"),
        (FIRST_MOMENT, "0001-01-01"),
        (FIRST_MOMENT - 1, "unknown"),
        (LAST_MOMENT, "9999-12-31"),
        (LAST_MOMENT + 1, "unknown"),
        (10**400, "unknown"),
        (-(10**400), "unknown"),
        (None, "unknown"),
    ],
)
def test_a_day_is_of_the_years_1_to_9999_or_unknown(timestamp: int | None, day: str) -> None:
    assert keys.day(timestamp) == day


def test_manifests_sort_by_name_as_by_number() -> None:
    numbers = [1, 9, 10, 99, 100, 10**19]

    assert keys.manifest(42) == "manifests/00000000000000000042.json"
    assert sorted(map(keys.manifest, numbers)) == [keys.manifest(number) for number in numbers]


def test_a_part_is_named_by_its_hash() -> None:
    assert keys.part("ab" * 32) == f"manifests/parts/{'ab' * 32}.jsonl.gz"

"""The bag: valid, the archive's own bytes, and its own proof; what is missing or altered is left out and named."""

import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import bagit
import pytest

from formant_archive import keys
from formant_archive.catalogue import Holding, Selection, read_catalogue
from formant_archive.crew import abreast
from formant_archive.errors import ArchiveDamaged, StoreUnavailable
from formant_archive.export.bag import write_bag
from formant_archive.export.cover import Cover
from formant_archive.records import Link, Record
from formant_archive.simulator import Simulator
from formant_archive.stores.directory import DirectoryStore
from tests import plain
from tests.export import calls
from tests.stores.memory import MemoryStore

HOSTILE = ("../x", "..", "a/b", "new\nline", "carriage\rreturn", "tab\there", "x" * 5000, "हाँ", "%0A", "=cmd()", "a+b")


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    clock, store = plain.Clock(), MemoryStore()
    calls.archive(calls.workspace(clock), store, clock)
    return store


@pytest.fixture
def damaged(store: MemoryStore) -> MemoryStore:
    """A copy of the archive, to be damaged."""
    copy = MemoryStore()
    copy.objects = dict(store.objects)
    return copy


def payload_of(bag: Path) -> dict[str, bytes]:
    files = [path for path in (bag / "data").rglob("*") if path.is_file()]
    return {path.relative_to(bag / "data").as_posix(): path.read_bytes() for path in files}


def with_payloads(store: MemoryStore, name: str = keys.RECORDING) -> str:
    """Give the folder of a conversation that has a payload."""
    return next(key for key in sorted(store.objects) if key.endswith(f"/{name}")).removesuffix(name)


def id_of(store: MemoryStore, folder: str) -> str:
    return str(json.loads(store.objects[f"{folder}record.json"])["conversation_id"])


def test_a_bag_is_valid_by_both_algorithms_and_of_the_version_of_the_rfc(store: MemoryStore, tmp_path: Path) -> None:
    calls.bag_of(store, tmp_path / "bag")
    bag = bagit.Bag(str(tmp_path / "bag"))

    assert bag.validate()
    assert sorted(bag.algorithms) == ["sha256", "sha512"]
    assert all(sorted(hashes) == ["sha256", "sha512"] for hashes in bag.entries.values())
    assert bag.version_info == (1, 0)
    assert {"index.html", "bag-info.txt", "bagit.txt", "manifest-sha256.txt", "manifest-sha512.txt"} == {
        one for one in bag.entries if not one.startswith("data/")
    }


@pytest.mark.parametrize("name", ["index.html", "bag-info.txt", "data/index.csv", "manifest-sha512.txt"])
def test_a_bag_in_which_a_byte_was_changed_is_not_valid(store: MemoryStore, tmp_path: Path, name: str) -> None:
    calls.bag_of(store, tmp_path / "bag")
    path = tmp_path / "bag" / name
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))

    assert not bagit.Bag(str(tmp_path / "bag")).is_valid()


def test_a_bag_of_everything_holds_the_archive_s_own_bytes(store: MemoryStore, tmp_path: Path) -> None:
    cover = calls.bag_of(store, tmp_path / "bag")
    found = payload_of(tmp_path / "bag")

    assert cover.tally.conversations == len([key for key in store.objects if key.endswith("/record.json")])
    del found["index.csv"]
    assert found == {key: store.objects[key] for key in found}
    wanted = {key for key in store.objects if key.startswith("conversations/")}
    assert {key for key in found if key.startswith("conversations/")} == wanted


def test_a_bag_of_one_conversation_holds_no_other_conversation(store: MemoryStore, tmp_path: Path) -> None:
    folder = with_payloads(store)

    calls.bag_of(store, tmp_path / "bag", Selection(ids=frozenset({id_of(store, folder)})))

    found = {key for key in payload_of(tmp_path / "bag") if key.startswith("conversations/")}
    assert found == {key for key in store.objects if key.startswith(folder)}


def test_a_second_record_comes_with_the_one_that_it_supersedes(damaged: MemoryStore, tmp_path: Path) -> None:
    [holding, *_] = read_catalogue(damaged).select()
    first = Link(key=holding.entry.record_key, sha256=holding.entry.record_sha256)
    record = Record.model_validate_json(damaged.objects[first.key]).model_copy(update={"supersedes": first})
    second = first.key.replace("record.json", "record.2.json")
    damaged.objects[second] = record.body()
    names = {"record_key": second, "record_sha256": calls.sha256(record.body())}
    (tmp_path / "bag").mkdir()

    cover = write_bag(
        damaged,
        [Holding(holding.entry.model_copy(update=names), holding.sequence)],
        tmp_path / "bag",
        calls.ASKED,
    )

    found = payload_of(tmp_path / "bag")
    assert (found[first.key], found[second]) == (damaged.objects[first.key], record.body())
    assert cover.tally.damaged == []


def prove(bag: Path, head: str, conversation_id: str) -> set[str]:
    """Go from a head that is known from outside down to a conversation's files, with nothing but hashes."""
    number, _, wanted = head.partition(":")
    body = (bag / f"data/manifests/{int(number):020}.json").read_bytes()
    while True:
        assert hashlib.sha256(body).hexdigest() == wanted
        manifest = json.loads(body)
        for part in manifest["entries"]:
            if (bag / "data" / part["key"]).exists():
                packed = (bag / "data" / part["key"]).read_bytes()
                assert hashlib.sha256(packed).hexdigest() == part["sha256"]
                for line in map(json.loads, gzip.decompress(packed).splitlines()):
                    if line["conversation_id"] == conversation_id:
                        named = {one["key"]: one["sha256"] for one in line["objects"]}
                        named[line["record_key"]] = line["record_sha256"]
                        for key, sha256 in named.items():
                            assert hashlib.sha256((bag / "data" / key).read_bytes()).hexdigest() == sha256
                        return set(named)
        wanted = manifest["previous"]["sha256"]
        body = (bag / "data" / manifest["previous"]["key"]).read_bytes()


def test_a_bag_of_a_selection_proves_itself_against_the_head(store: MemoryStore, tmp_path: Path) -> None:
    for number, holding in enumerate(read_catalogue(store).select()):
        bag, name = tmp_path / str(number), holding.entry.conversation_id
        cover = calls.bag_of(store, bag, Selection(ids=frozenset({name})))

        held = prove(bag, cover.head, name)

        assert held == {key for key in payload_of(bag) if key.startswith("conversations/")}
        manifests = sorted(path.name for path in (bag / "data/manifests").glob("*.json"))
        head = int(cover.head.partition(":")[0])
        assert manifests == [f"{one:020}.json" for one in range(holding.sequence, head + 1)]
        assert len(list((bag / "data/manifests/parts").iterdir())) == 1


def test_the_head_that_a_bag_names_is_the_newest_manifest(store: MemoryStore, tmp_path: Path) -> None:
    cover = calls.bag_of(store, tmp_path / "bag")
    newest = max(key for key in store.objects if key.startswith("manifests/0"))

    assert cover.head.partition(":")[2] == hashlib.sha256(store.objects[newest]).hexdigest()
    assert bagit.Bag(str(tmp_path / "bag")).info["Archive-Head"] == cover.head


# Missing and altered


@pytest.mark.parametrize("name", ["conversation.json", "recording.wav", "record.json"])
@pytest.mark.parametrize("is_gone", [True, False], ids=["missing", "altered"])
def test_what_is_missing_or_altered_is_left_out_and_named(
    damaged: MemoryStore, tmp_path: Path, name: str, is_gone: bool
) -> None:
    folder = with_payloads(damaged)
    conversation_id = id_of(damaged, folder)
    if is_gone:
        del damaged.objects[folder + name]
    else:
        damaged.objects[folder + name] += b" "

    cover = calls.bag_of(damaged, tmp_path / "bag")

    said = f"{name} is {'missing' if is_gone else 'altered: it is not the one that the archive names'}"
    assert [(one.conversation_id, one.damage) for one in cover.tally.damaged] == [(conversation_id, (said,))]
    bag = bagit.Bag(str(tmp_path / "bag"))
    assert bag.validate()
    assert bag.info["Damaged"] == f"{conversation_id}: {said}"
    found = payload_of(tmp_path / "bag")
    assert folder + name not in found
    assert {key for key in found if key.startswith(folder)} == {
        key for key in damaged.objects if key.startswith(folder) and key != folder + name
    }
    assert said in (tmp_path / "bag/data/index.csv").read_text()
    assert said in (tmp_path / "bag/index.html").read_text()


def test_a_body_that_cannot_be_read_is_handed_over_and_named(tmp_path: Path) -> None:
    clock, store = plain.Clock(), MemoryStore()
    calls.archive(calls.workspace(clock, 3), store, clock)
    [holding, *_] = read_catalogue(store).select()
    body = b"not JSON"
    key = next(one.key for one in holding.entry.objects if one.key.endswith("json"))
    store.objects[key] = body
    objects = tuple(
        one.model_copy(update={"sha256": hashlib.sha256(body).hexdigest()}) if one.key == key else one
        for one in holding.entry.objects
    )
    entry = holding.entry.model_copy(update={"objects": objects})
    (tmp_path / "bag").mkdir()

    cover = write_bag(store, [Holding(entry, holding.sequence)], tmp_path / "bag", calls.ASKED)

    assert [one.damage for one in cover.tally.damaged] == [("the conversation's body is not JSON",)]
    assert payload_of(tmp_path / "bag")[key] == body


@pytest.mark.parametrize("key", ["../../outside", "conversations/agent_id=1/date=x/other/recording.wav", "index.csv"])
def test_no_entry_writes_outside_of_its_conversation_s_folder(store: MemoryStore, tmp_path: Path, key: str) -> None:
    [holding, *_] = read_catalogue(store).select()
    objects = (holding.entry.objects[0].model_copy(update={"key": key}),)
    entry = holding.entry.model_copy(update={"objects": objects})
    (tmp_path / "bag").mkdir()

    cover = write_bag(store, [Holding(entry, holding.sequence)], tmp_path / "bag", calls.ASKED)

    assert "lies outside" in cover.tally.damaged[0].damage[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag"]


def test_a_chain_that_is_broken_ends_the_export(damaged: MemoryStore, tmp_path: Path) -> None:
    catalogue = read_catalogue(damaged)
    damaged.objects[keys.manifest(1)] = damaged.objects[keys.manifest(1)].replace(b'"failed":0', b'"failed":1')
    (tmp_path / "bag").mkdir()

    with pytest.raises(ArchiveDamaged, match=r"0001\.json"):
        write_bag(damaged, catalogue.select(), tmp_path / "bag", calls.ASKED)


def test_a_store_that_is_out_of_reach_ends_the_export(damaged: MemoryStore, tmp_path: Path) -> None:
    damaged.fail_next("read", StoreUnavailable("gone away"), key_contains="recording.wav")

    with pytest.raises(StoreUnavailable, match="gone away"):
        calls.bag_of(damaged, tmp_path / "bag")


def test_a_bag_that_is_not_what_was_written_is_not_handed_over(store: MemoryStore, tmp_path: Path) -> None:
    def on_a_bad_disk(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        for result in map(function, items):
            path = next((tmp_path / "bag").rglob("record.json"))
            path.write_bytes(path.read_bytes().replace(b"e", b"f", 1))
            yield result

    (tmp_path / "bag").mkdir()
    with pytest.raises(StoreUnavailable, match="look at the disk"):
        write_bag(store, read_catalogue(store).select(), tmp_path / "bag", calls.ASKED, each=on_a_bad_disk)


def test_no_thread_writes_any_more_when_an_export_has_ended(store: MemoryStore, tmp_path: Path) -> None:
    def fail(line: str) -> None:
        raise KeyboardInterrupt

    (tmp_path / "bag").mkdir()
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt) as caught:
        write_bag(store, read_catalogue(store).select(), tmp_path / "bag", calls.ASKED, each=abreast, tell=fail)

    # The traceback still holds whatever gave the results.
    assert caught.tb is not None
    assert threading.active_count() == before


# Odd names


def hostile_bag(tmp_path: Path) -> tuple[MemoryStore, Cover]:
    clock, store = plain.Clock(), MemoryStore()
    sim = Simulator(3, 0, now=lambda: clock.ms, audio_seconds=(1, 1))
    for name in HOSTILE:
        sim.add(conversation_id=name)
    clock.go(hours=1)
    plain.archive(plain.client_of(sim, clock), store, clock)
    return store, calls.bag_of(store, tmp_path / "bag")


def test_a_bag_of_odd_ids_is_valid_and_holds_the_archive_s_own_bytes(tmp_path: Path) -> None:
    store, cover = hostile_bag(tmp_path)

    assert (cover.tally.conversations, cover.tally.damaged) == (len(HOSTILE), [])
    assert bagit.Bag(str(tmp_path / "bag")).validate()
    found = payload_of(tmp_path / "bag")
    assert {key.replace("+", "%"): body for key, body in found.items() if key.startswith("conversations/")} == {
        key: body for key, body in store.objects.items() if key.startswith("conversations/")
    }
    paths = [line.split("  ", 1)[1] for line in (tmp_path / "bag/manifest-sha256.txt").read_text().splitlines()]
    assert all(path.isascii() and "%" not in path for path in paths), "RFC 8493 wants % encoded, bagit reads it as is"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag"]


# Privacy


def test_phone_numbers_and_words_are_in_the_payload_and_on_the_page_alone(tmp_path: Path) -> None:
    clock, store = plain.Clock(), MemoryStore()
    sim = calls.workspace(clock)
    calls.archive(sim, store, clock)
    calls.bag_of(store, tmp_path / "bag")
    secret = [one.contact_number.encode() for one in sim.conversations] + [b"Meridian"]

    leaking = {
        path.relative_to(tmp_path / "bag").as_posix().rpartition("/")[2]
        for path in (tmp_path / "bag").rglob("*")
        if path.is_file() and any(one in path.read_bytes() for one in secret)
    }

    assert leaking == {"conversation.json", "index.html"}


def test_the_bag_of_an_archive_in_a_folder_is_the_bag_of_the_archive_in_memory(
    store: MemoryStore, tmp_path: Path
) -> None:
    for key, body in store.objects.items():
        path = tmp_path / "archive" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    calls.bag_of(store, tmp_path / "a")
    calls.bag_of(DirectoryStore(tmp_path / "archive"), tmp_path / "b")

    a, b = ((tmp_path / name / "tagmanifest-sha256.txt").read_text() for name in "ab")
    assert a == b

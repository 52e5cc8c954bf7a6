"""What can happen to an archive that lies somewhere for years: damages by name, each done to an archive in memory.

A damage is a function over `{key: bytes}` and a source of chance. It damages the archive in one place, and says where.
Whoever verifies archives runs over `DAMAGES`, `LEGAL` and `UNREADABLE`, and compares what it finds with what each says:

    files = sound()
    noted = head(files)
    place = one.do(files, Random(7))    # raises `NoPlace` where this archive has none
    …verify `files`, with `noted` where `one.needs_head`: all of `one.codes` are found, the verdict is `one.verdict`

`UNREADABLE` leaves the files alone: it says which key is not to be readable. Nothing of the product is used but to make
a sound archive: a forgery is put together here, from `docs/archive-format.md`.
"""

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Literal

from formant_archive.simulator import Simulator
from tests.plain import Clock, archive, client_of
from tests.stores.memory import MemoryStore

Files = dict[str, bytes]
Json = dict[str, Any]
Verdict = Literal["VALID", "DAMAGED", "UNVERIFIED"]
Do = Callable[[Files, Random], str]
NAMED = ("archived", "archived_without_recording", "gone", "adopted")


class NoPlace(Exception):
    """This archive has no place for this damage."""


@dataclass(frozen=True)
class Damage:
    """One damage.

    Attributes:
        name: What is done.
        codes: Each of these is among the findings; none where nothing may be found but notes.
        verdict: What is said in the end.
        do: Does it; gives the key of the place.
        needs_head: Only who knows the head finds it. Without, the archive is valid.
        one_place: There is one place for it in an archive.
    """

    name: str
    codes: frozenset[str]
    verdict: Verdict
    do: Do
    needs_head: bool = False
    one_place: bool = False


DAMAGES: list[Damage] = []
LEGAL: list[Damage] = []
UNREADABLE: list[Damage] = []


def damage(
    *codes: str, verdict: Verdict = "DAMAGED", needs_head: bool = False, one_place: bool = False
) -> Callable[[Do], Do]:
    """Register a damage under its function's name."""

    def register(do: Do) -> Do:
        DAMAGES.append(Damage(do.__name__, frozenset(codes), verdict, do, needs_head, one_place))
        return do

    return register


def legal(do: Do) -> Do:
    """Register something that is no damage, though it may look like one."""
    LEGAL.append(Damage(do.__name__, frozenset(), "VALID", do))
    return do


def unreadable(do: Do) -> Do:
    """Register a choice of what is not to be readable."""
    UNREADABLE.append(Damage(do.__name__, frozenset({"U001"}), "UNVERIFIED", do))
    return do


# A sound archive


def sound(seed: int = 1) -> Files:
    """Make an archive of several runs and parts, with late and missing recordings, some of them in `record.2.json`."""
    clock = Clock(datetime(2026, 3, 20, 12, tzinfo=UTC))
    sim = Simulator(
        seed=seed,
        conversations=24,
        agents=(101, 102),
        now=lambda: clock.ms,
        completed=0.9,
        in_progress=2,
        late_recordings=0.35,
        never_recordings=0.25,
        spread_hours=120,
        audio_seconds=(0.05, 0.2),
    )
    store = MemoryStore()
    for number in range(1, 5):
        with client_of(sim, clock) as client:
            archive(client, store, clock, part_size=7, run_id=f"run-{seed}-{number}")
        clock.go(hours=1)
        sim.add(3)
        if number == 3:
            held = [one for one in sim.conversations if one.recording_comes == "later"]
            for one in held[::2]:
                one.release()
    files = dict(store.objects)
    add_second_records(files)
    return files


def add_second_records(files: Files) -> None:
    """Let some conversations have a first record that misses the recording; every other one is named in an entry."""
    probes = [
        {"at": f"2026-03-20T0{hour}:00:00.000Z", "error_type": "not_found", "http_status": 404} for hour in (1, 2)
    ]
    chosen: dict[str, bool] = {}
    for number, (key, record) in enumerate(sorted(records(files).items())):
        if record["recording"]["state"] == "archived" and number % 2:
            first = {**record, "recording": {"state": "absent", "probes": probes}}
            files[key] = canonical(first)
            second = {**record, "supersedes": {"key": key, "sha256": digest(files[key])}}
            files[second_of(key)] = canonical(second)
            chosen[key] = len(chosen) % 2 == 0

    def renamed(entry: Json) -> list[Json]:
        key = entry["record_key"]
        if key not in chosen:
            return [entry]
        second = {**entry, "record_key": second_of(key), "record_sha256": digest(files[second_of(key)])}
        bodies = [one for one in entry["objects"] if not one["key"].endswith(".wav")]
        outcome = "archived_without_recording" if entry["outcome"] == "archived" else entry["outcome"]
        first = {**entry, "record_sha256": digest(files[key]), "objects": bodies, "outcome": outcome}
        return [first, second] if chosen[key] else [second]

    rewrite_entries(files, renamed)
    rechained(files)


def kept(seed: int = 3) -> Files:
    """Make an archive where conversations are held, by one case or two, and others were erased."""
    files = sound(seed)
    add_custody(files)
    return files


def add_custody(files: Files) -> None:
    """Place two holds, and erase: the payloads go, the records stay."""
    folders = {entry["conversation_id"]: entry["record_key"].rpartition("/")[0] for *_, entry in entries(files)}
    found = {name: [key for key in payloads(files) if key.startswith(f"{folders[name]}/")] for name in sorted(folders)}
    one, two, *erased = [name for name, keys in found.items() if keys][:6]
    act_on_top(files, "hold", [one, two], {"act": "place", "case": "case-1"}, holds=[held(one, 1), held(two, 1)])
    act_on_top(files, "hold", [two], {"act": "place", "case": "case-2"}, holds=[held(one, 1), held(two, 1, 2)])
    gone = [{"conversation_id": name, "keys": found[name]} for name in erased]
    said = {"act": "erase", "reason": "asked to", "legal_basis": "GDPR 17(1)(b)"}
    act_on_top(files, "erasure", erased, said, erased=gone)
    for line in gone:
        for key in line["keys"]:
            del files[key]


def held(name: str, *cases: int) -> Json:
    return {"conversation_id": name, "cases": [f"case-{case}" for case in cases]}


def act_on_top(files: Files, kind: str, which: list[str], said: Json, **lists: list[Json]) -> str:
    """Put a manifest of an act of custody on top: nothing is listed, and all else is handed on."""

    def acting(manifest: Json) -> None:
        counts = dict.fromkeys(manifest["counts"], 0)
        manifest.update(kind=kind, listing=None, entries=[], counts=counts, sequence=manifest["sequence"] + 1)
        unsaid = dict.fromkeys(("case", "until", "reason", "legal_basis"))
        named = [{"conversation_id": name} for name in sorted(which)]
        manifest["custody"] = {**unsaid, "by": "B. Officer", "which": add_part(files, named), **said}
        manifest.update({name: add_part(files, lines) for name, lines in lists.items()})

    return _on_top(files, acting)


def add_part(files: Files, lines: list[Json]) -> Json:
    """Store a part; give the link to it."""
    body = pack(lines)
    link = {"key": f"manifests/parts/{digest(body)}.jsonl.gz", "sha256": digest(body), "count": len(lines)}
    files[str(link["key"])] = body
    return link


def second_of(key: str) -> str:
    return key.removesuffix("record.json") + "record.2.json"


# Reading and writing archives


def canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def chain(files: Files) -> list[str]:
    """Name the manifests, the first one first."""
    return sorted(key for key in files if key.startswith("manifests/0"))


def head(files: Files) -> str:
    """Note the head, as one would outside: `42:sha256`."""
    last = chain(files)[-1]
    return f"{int(last[10:30])}:{digest(files[last])}"


def records(files: Files) -> dict[str, Json]:
    """Read the first records."""
    return {key: json.loads(files[key]) for key in sorted(files) if key.endswith("/record.json")}


def rechained(files: Files) -> None:
    """Link the whole chain anew after an edit, as somebody would who may write and delete.

    A manifest that names its predecessor rightly keeps its bytes, and so does one that cannot be read.
    """
    previous = None
    for key in chain(files):
        try:
            manifest = json.loads(files[key])
            if manifest["previous"] != previous:
                files[key] = canonical({**manifest, "previous": previous})
        except (ValueError, RecursionError, TypeError, KeyError):
            pass
        previous = {"key": key, "sha256": digest(files[key])}


def links(manifest: Json) -> Iterator[tuple[str, Json]]:
    """Give the links to parts, each with its kind."""
    yield from (("entries", link) for link in manifest["entries"])
    if manifest["pending"]:
        yield "pending", manifest["pending"]
    yield from (("recent", scope["recent"]) for scope in manifest["scopes"].values())
    yield from ((kind, manifest[kind]) for kind in ("holds", "erased") if kind in manifest)
    if "custody" in manifest:
        yield "which", manifest["custody"]["which"]


def parts(files: Files, *kinds: str) -> list[tuple[str, str]]:
    """Name all parts of some kinds, each with the manifest that names it."""
    found = ((key, kind, link) for key in chain(files) for kind, link in links(json.loads(files[key])))
    return sorted({(key, link["key"]) for key, kind, link in found if not kinds or kind in kinds})


def lines(files: Files, part: str) -> list[Json]:
    return [json.loads(line) for line in gzip.decompress(files[part]).splitlines()]


def pack(lines: list[Json]) -> bytes:
    return gzip.compress(b"".join(canonical(line) + b"\n" for line in lines), mtime=0)


def put_part(files: Files, manifest: str, part: str, body: bytes, count: int | None = None) -> str:
    """Put another part in the place of one, and let a manifest name it; what nobody names then goes."""
    key, value = f"manifests/parts/{digest(body)}.jsonl.gz", json.loads(files[manifest])
    for _, link in links(value):
        if link["key"] == part:
            link.update(key=key, sha256=digest(body), count=link["count"] if count is None else count)
    files[key], files[manifest] = body, canonical(value)
    if part not in {named for _, named in parts(files)}:
        files.pop(part, None)
    return key


def rewrite_entries(files: Files, change: Callable[[Json], list[Json]]) -> None:
    """Change entries wherever they stand, and the parts' names with them; the chain is not linked anew."""
    for manifest, part in parts(files, "entries"):
        before = lines(files, part)
        after = [line for entry in before for line in change(json.loads(canonical(entry)))]
        if after != before:
            put_part(files, manifest, part, pack(after), len(after))


def forge_record(files: Files, key: str, body: bytes, **said: Any) -> None:
    """Put another record in the place of one, and let all entries and the chain vouch for it."""
    files[key] = body

    def vouching(entry: Json) -> list[Json]:
        is_it = entry["record_key"] == key
        return [{**entry, "record_sha256": digest(body), **said} if is_it else entry]

    rewrite_entries(files, vouching)
    rechained(files)


def edit(files: Files, key: str, change: Callable[[Json], object]) -> str:
    """Change a manifest, and link the chain anew."""
    value = json.loads(files[key])
    change(value)
    files[key] = canonical(value)
    rechained(files)
    return key


def pick(dice: Random, places: list[Any]) -> Any:
    if not places:
        raise NoPlace
    return dice.choice(places)


def flipped(dice: Random, body: bytes) -> bytes:
    """Flip one bit."""
    at = dice.randrange(len(body))
    return body[:at] + bytes([body[at] ^ 1 << dice.randrange(8)]) + body[at + 1 :]


def entries(files: Files) -> list[tuple[str, str, Json]]:
    """Give all entries, with their manifests and parts."""
    return [(manifest, part, entry) for manifest, part in parts(files, "entries") for entry in lines(files, part)]


def named_records(files: Files) -> list[str]:
    return sorted({entry["record_key"] for _, _, entry in entries(files)})


def only_records(files: Files) -> list[str]:
    """Name the first records of conversations that have no second one."""
    return [key for key in named_records(files) if key.endswith("/record.json") and second_of(key) not in files]


def payloads(files: Files, ending: str = "") -> list[str]:
    found = {one["key"] for _, _, entry in entries(files) for one in entry["objects"]}
    return sorted(key for key in found if key.endswith(ending) and files.get(key))


def entry_of(files: Files, record: str) -> Json:
    found: Json = next(entry for _, _, entry in entries(files) if entry["record_key"] == record)
    return found


#: Bytes that are JSON of a kind, and no canonical JSON of any form.
NOT_CANONICAL: dict[str, Callable[[bytes], bytes]] = {
    "with_spaces": lambda body: body.replace(b'":', b'": ', 1),
    "with_a_line_end": lambda body: body + b"\n",
    "with_a_mark_in_front": lambda body: b"\xef\xbb\xbf" + body,
    "in_utf_16": lambda body: body.decode().encode("utf-16"),
    "with_a_name_twice": lambda body: b'{"format":"x",' + body[1:],
    "with_nan": lambda body: (
        body.replace(b":null", b":NaN", 1) if b":null" in body else body.replace(b":", b":NaN,", 1)
    ),
    "with_invalid_utf8": lambda body: body.replace(b'"format":"', b'"format":"\xff', 1),
    "with_half_a_character": lambda body: body.replace(b'"format":"', b'"format":"\\ud800', 1),
    "with_a_huge_number": lambda body: b'{"a":' + b"9" * 6000 + b"," + body[1:],
    "too_deep": lambda body: b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"," + body[1:],
    "with_an_escape_too_many": lambda body: body.replace(b'"f', b'"\\u0066', 1),
    "that_is_a_list": lambda body: b"[" + body + b"]",
    "that_is_nothing": lambda body: b"",
    "that_is_null": lambda body: b"null",
    "that_is_noise": lambda body: bytes(range(256)),
}


def each_form(register: Callable[[str, Callable[[bytes], bytes]], object]) -> None:
    for name, change in NOT_CANONICAL.items():
        register(name, change)


# The chain


@damage("C001")
def a_hole_in_the_middle(files: Files, dice: Random) -> str:
    key = pick(dice, chain(files)[:-1])
    del files[key]
    return str(key)


@damage("C001")
def several_manifests_missing(files: Files, dice: Random) -> str:
    keys = chain(files)
    start = dice.randrange(len(keys) - 2)
    for key in keys[start : start + 2]:
        del files[key]
    return keys[start]


@damage("C001", "C004", one_place=True)
def a_number_from_nowhere(files: Files, dice: Random) -> str:
    key = "manifests/99999999999999999999.json"
    files[key] = files[chain(files)[-1]]
    return key


@damage("C002")
def a_manifest_altered(files: Files, dice: Random) -> str:
    key = pick(dice, chain(files)[:-1])
    manifest = json.loads(files[key])
    manifest["run"]["version"] += "."
    files[key] = canonical(manifest)
    return str(key)


@damage("C002")
def one_bit_of_a_manifest(files: Files, dice: Random) -> str:
    key = pick(dice, chain(files)[:-1])
    at = files[key].index(b'"flow":"') + 8
    files[key] = files[key][:at] + bytes([files[key][at] ^ 1]) + files[key][at + 1 :]
    return str(key)


@damage("C002")
def a_manifest_that_names_another_key(files: Files, dice: Random) -> str:
    keys = chain(files)
    at = dice.randrange(1, len(keys))
    manifest = json.loads(files[keys[at]])
    manifest["previous"]["key"] = keys[0] if at > 1 else keys[1]
    files[keys[at]] = canonical(manifest)
    relink(files, at + 1)
    return keys[at]


def relink(files: Files, start: int) -> None:
    """Link the chain anew from the manifest at this index on."""
    keys = chain(files)
    for before, key in zip(keys[start - 1 :], keys[start:], strict=False):
        link = {"key": before, "sha256": digest(files[before])}
        files[key] = canonical({**json.loads(files[key]), "previous": link})


@damage("C002")
def a_manifest_that_forgets_the_one_before(files: Files, dice: Random) -> str:
    keys = chain(files)
    at = dice.randrange(1, len(keys))
    files[keys[at]] = canonical({**json.loads(files[keys[at]]), "previous": None})
    relink(files, at + 1)
    return keys[at]


@damage("C003")
def a_manifest_with_a_previous_of_text(files: Files, dice: Random) -> str:
    keys = chain(files)
    at = dice.randrange(len(keys))
    files[keys[at]] = canonical({**json.loads(files[keys[at]]), "previous": "x"})
    relink(files, at + 1)
    return keys[at]


@damage("C002", one_place=True)
def a_first_manifest_with_one_before(files: Files, dice: Random) -> str:
    key = chain(files)[0]
    link = {"key": "manifests/00000000000000000000.json", "sha256": "0" * 64}
    files[key] = canonical({**json.loads(files[key]), "previous": link})
    relink(files, 1)
    return key


@damage("C002")
def an_entry_removed_and_its_part_renamed(files: Files, dice: Random) -> str:
    places = [one for one in parts(files, "entries") if one[0] != chain(files)[-1]]
    manifest, part = pick(dice, places)
    kept = lines(files, part)[1:]
    return put_part(files, manifest, part, pack(kept), len(kept))


def _manifest_forms(name: str, change: Callable[[bytes], bytes]) -> None:
    def do(files: Files, dice: Random) -> str:
        key = pick(dice, chain(files))
        files[key] = change(files[key])
        rechained(files)
        return str(key)

    do.__name__ = f"a_manifest_{name}"
    damage("C003")(do)


each_form(_manifest_forms)


def _manifest_fields(name: str, change: Callable[[Json], object], *codes: str) -> None:
    def do(files: Files, dice: Random) -> str:
        return edit(files, pick(dice, chain(files)), change)

    do.__name__ = f"a_manifest_{name}"
    damage(*codes)(do)


def _first_scope(manifest: Json) -> Json:
    found: Json = next(iter(manifest["scopes"].values()))
    return found


for _name, _change in {
    "of_another_format": lambda it: it.update(format="formant-archive/manifest/2"),
    "of_no_kind": lambda it: it.update(kind="walk"),
    "without_a_field": lambda it: it.pop("scopes"),
    "with_another_field": lambda it: it.update(comment=""),
    "whose_run_lacks_a_field": lambda it: it["run"].pop("part"),
    "with_another_kind_of_time": lambda it: it["run"].update(committed_at="2026-03-20 12:00"),
    "with_a_count_missing": lambda it: it["counts"].pop("gone"),
    "with_a_negative_count": lambda it: it["counts"].update(gone=-1, outside=it["counts"]["outside"] + 1),
    "that_counts_true": lambda it: it["counts"].update(gone=False),
    "with_entries_of_text": lambda it: it.update(entries=["x"]),
    "with_pending_of_a_number": lambda it: it.update(pending=7),
    "with_scopes_of_a_list": lambda it: it.update(scopes=[]),
    "with_unsafe_store_false": lambda it: it.update(unsafe_store=False),
    "with_a_part_outside": lambda it: _first_scope(it)["recent"].update(key="../../etc/passwd"),
    "with_an_absolute_part": lambda it: _first_scope(it)["recent"].update(key="/etc/passwd"),
    "with_a_part_elsewhere": lambda it: _first_scope(it)["recent"].update(key="conversations/x.jsonl.gz"),
    "with_a_part_of_a_line_end": lambda it: _first_scope(it)["recent"].update(
        key=_first_scope(it)["recent"]["key"] + "\n"
    ),
    "with_a_short_hash": lambda it: _first_scope(it)["recent"].update(sha256="ab"),
}.items():
    _manifest_fields(_name, _change, "C003")
for _name, _change in {
    "of_another_number": lambda it: it.update(sequence=it["sequence"] + 1),
    "of_another_archive": lambda it: it.update(archive_id="9d4646a6-d139-5bcd-aae1-bde58283a887"),
    "of_another_source": lambda it: it.update(source="https://elsewhere.example"),
}.items():
    _manifest_fields(_name, _change, "C004")
for _name, _change in {
    "that_counts_one_more": lambda it: it["counts"].update(listed=it["counts"]["listed"] + 1),
    "that_counts_one_more_archived": lambda it: it["counts"].update(
        listed=it["counts"]["listed"] + 1, archived=it["counts"]["archived"] + 1
    ),
}.items():
    _manifest_fields(_name, _change, "C006")


@damage("C002", "C004")
def a_manifest_of_another_archive_in_a_place(files: Files, dice: Random) -> str:
    keys = chain(files)[1:-1]
    key = pick(dice, keys)
    other = sound(2)
    files[key] = other[pick(dice, chain(other)[1:])]
    return str(key)


@damage("C002", "C004", one_place=True)
def a_manifest_of_another_archive_on_top(files: Files, dice: Random) -> str:
    other = sound(2)
    key = f"manifests/{len(chain(files)) + 1:020d}.json"
    files[key] = other[chain(other)[-1]]
    return key


@damage("C004")
def a_manifest_twice(files: Files, dice: Random) -> str:
    source = pick(dice, chain(files))
    key = f"manifests/{len(chain(files)) + 1:020d}.json"
    files[key] = files[source]
    return str(source)


@damage("C005", needs_head=True)
def the_tail_cut_off(files: Files, dice: Random) -> str:
    keys = chain(files)
    kept = dice.randrange(1, len(keys))
    if any(b'"custody"' in files[key] for key in keys[kept:]):
        # Without its erasure, what was erased is missing, whoever knows the head.
        raise NoPlace
    for key in keys[kept:]:
        del files[key]
    return keys[kept]


@damage("C005", needs_head=True)
def a_chain_made_anew_up_to_the_head(files: Files, dice: Random) -> str:
    def late(manifest: Json) -> None:
        manifest["run"]["started_at"] = "2020-01-01T00:00:00.000Z"

    return edit(files, pick(dice, chain(files)), late)


@damage("C005", needs_head=True)
def counts_changed_and_the_chain_made_anew(files: Files, dice: Random) -> str:
    def more(manifest: Json) -> None:
        manifest["counts"]["listed"] += 2
        manifest["counts"]["other_status"] += 2

    return edit(files, pick(dice, chain(files)), more)


@damage("C005", needs_head=True)
def a_conversation_forgotten_and_the_chain_made_anew(files: Files, dice: Random) -> str:
    _, _, chosen = pick(dice, entries(files))
    for manifest, part in parts(files, "entries"):
        kept = [one for one in lines(files, part) if one["conversation_id"] != chosen["conversation_id"]]
        gone = [one["outcome"] for one in lines(files, part) if one["conversation_id"] == chosen["conversation_id"]]
        if gone:
            put_part(files, manifest, part, pack(kept), len(kept))
            value = json.loads(files[manifest])
            value["counts"][gone[-1]] -= 1
            value["counts"]["other_status"] += 1
            files[manifest] = canonical(value)
    rechained(files)
    return str(chosen["record_key"])


@damage("C005", "U002", one_place=True)
def no_manifest_left(files: Files, dice: Random) -> str:
    for key in chain(files):
        del files[key]
    return "manifests/"


@damage("C006")
def an_entry_removed_and_the_chain_made_anew(files: Files, dice: Random) -> str:
    manifest, part = pick(dice, parts(files, "entries"))
    before = lines(files, part)
    last = before[-1]["conversation_id"]
    kept = [one for one in before if one["conversation_id"] != last]
    key = put_part(files, manifest, part, pack(kept), len(kept))
    rechained(files)
    return key


# Parts


@damage("C007")
def a_part_missing(files: Files, dice: Random) -> str:
    _, part = pick(dice, parts(files))
    del files[part]
    return str(part)


@damage("C008")
def one_bit_of_a_part(files: Files, dice: Random) -> str:
    _, part = pick(dice, parts(files))
    files[part] = flipped(dice, files[part])
    return str(part)


@damage("C008")
def a_part_packed_differently(files: Files, dice: Random) -> str:
    _, part = pick(dice, parts(files))
    files[part] = gzip.compress(gzip.decompress(files[part]), compresslevel=1, mtime=1)
    return str(part)


@damage("C008")
def a_part_in_the_place_of_another(files: Files, dice: Random) -> str:
    places = sorted({part for _, part in parts(files)})
    part = pick(dice, places)
    files[part] = next(files[one] for one in places if files[one] != files[part])
    return str(part)


@damage("C008")
def a_part_of_nothing(files: Files, dice: Random) -> str:
    _, part = pick(dice, parts(files))
    files[part] = b""
    return str(part)


@damage("C008")
def a_part_whose_name_is_not_its_hash(files: Files, dice: Random) -> str:
    manifest, part = pick(dice, parts(files))
    body = files[part]
    wrong = f"manifests/parts/{digest(body + b'.')}.jsonl.gz"
    value = json.loads(files[manifest])
    for _, link in links(value):
        if link["key"] == part:
            link["key"] = wrong
    files[wrong], files[manifest] = body, canonical(value)
    rechained(files)
    return str(part)


def _part_bytes(name: str, change: Callable[[bytes], bytes]) -> None:
    def do(files: Files, dice: Random) -> str:
        places = [one for one in parts(files) if gzip.decompress(files[one[1]])]
        manifest, part = pick(dice, places)
        put_part(files, manifest, part, change(files[part]))
        rechained(files)
        return str(part)

    do.__name__ = f"a_part_{name}"
    damage("C009")(do)


def _packed(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda body: gzip.compress(change(gzip.decompress(body)), mtime=0)


for _name, _bytes in {
    "that_is_no_gzip": lambda body: gzip.decompress(body),
    "that_is_empty": lambda body: b"",
    "cut_off": lambda body: body[:-6],
    "with_noise_behind": lambda body: body + b"noise",
    "with_a_wrong_sum": lambda body: body[:-8] + bytes(4) + body[-4:],
    "with_a_line_of_noise": _packed(lambda text: text.replace(b"{", b"", 1)),
    "with_a_line_too_many": _packed(lambda text: text + text.splitlines(keepends=True)[0]),
    "with_a_line_too_few": _packed(lambda text: b"".join(text.splitlines(keepends=True)[1:])),
    "with_an_empty_line": _packed(lambda text: b"\n" + text),
    "with_a_field_missing": _packed(lambda text: text.replace(b'"conversation_id"', b'"conversation"', 1)),
    "with_nan": _packed(lambda text: text.replace(b"{", b'{"a":NaN,', 1)),
    "with_a_name_twice": _packed(lambda text: text.replace(b"{", b'{"conversation_id":"x",', 1)),
    "with_invalid_utf8": _packed(lambda text: text.replace(b'_id":"', b'_id":"\xff', 1)),
    "with_half_a_character": _packed(lambda text: text.replace(b'_id":"', b'_id":"\\udfff', 1)),
    "with_a_huge_number": _packed(lambda text: b"9" * 6000 + b"\n" + text),
    "too_deep": _packed(lambda text: b"[" * 100_000 + b"\n" + text),
    "that_is_a_bomb_of_one_line": _packed(lambda text: bytes(64 << 20)),
    "that_is_a_bomb_of_line_ends": _packed(lambda text: b"\n" * (64 << 20)),
    "that_is_a_bomb_of_good_lines": _packed(lambda text: text * (1 + (16 << 20) // len(text))),
}.items():
    _part_bytes(_name, _bytes)


@damage("C009")
def an_outcome_that_there_is_not(files: Files, dice: Random) -> str:
    return _edit_entry(files, dice, lambda entry: entry.update(outcome="lost"))


@damage("C009")
def a_pending_one_without_a_folder(files: Files, dice: Random) -> str:
    return _edit_pending(files, dice, lambda line: line.pop("folder"))


@damage("C009")
def a_pending_receipt_outside_of_its_folder(files: Files, dice: Random) -> str:
    return _edit_pending(files, dice, lambda line: line["conversation"].update(key="../outside"))


def _edit_entry(files: Files, dice: Random, change: Callable[[Json], object]) -> str:
    """Change one entry, and link the chain anew."""
    manifest, part, _ = pick(dice, entries(files))
    after = lines(files, part)
    change(dice.choice(after))
    key = put_part(files, manifest, part, pack(after))
    rechained(files)
    return key


def _edit_pending(files: Files, dice: Random, change: Callable[[Json], object]) -> str:
    manifest, part = pick(dice, parts(files, "pending"))
    after = lines(files, part)
    change(pick(dice, [line for line in after if line["conversation"]]))
    key = put_part(files, manifest, part, pack(after))
    rechained(files)
    return key


# Records


@damage("R001")
def a_record_missing(files: Files, dice: Random) -> str:
    key = pick(dice, named_records(files))
    del files[key]
    return str(key)


@damage("R002")
def one_bit_of_a_record(files: Files, dice: Random) -> str:
    key = pick(dice, named_records(files))
    files[key] = flipped(dice, files[key])
    return str(key)


@damage("R002")
def a_record_forged(files: Files, dice: Random) -> str:
    key = pick(dice, named_records(files))
    record = json.loads(files[key])
    body = pick(dice, [one for one in payloads(files, ".json") if one.startswith(key.rpartition("/")[0])])
    files[body] += b" "
    record["conversation"].update(size=len(files[body]), sha256=digest(files[body]))
    files[key] = canonical(record)
    return str(key)


@damage("R002")
def a_record_with_spaces(files: Files, dice: Random) -> str:
    key = pick(dice, named_records(files))
    files[key] = json.dumps(json.loads(files[key])).encode()
    return str(key)


@damage("R002")
def two_records_swapped(files: Files, dice: Random) -> str:
    one, other = dice.sample(named_records(files), 2)
    files[one], files[other] = files[other], files[one]
    return one


def _record_forms(name: str, change: Callable[[bytes], bytes]) -> None:
    def do(files: Files, dice: Random) -> str:
        key = pick(dice, named_records(files))
        forge_record(files, key, change(files[key]))
        return str(key)

    do.__name__ = f"a_vouched_record_{name}"
    damage("R003")(do)


each_form(_record_forms)


def _record_fields(name: str, change: Callable[[Json], object], *codes: str) -> None:
    def do(files: Files, dice: Random) -> str:
        key = pick(dice, only_records(files))
        record = json.loads(files[key])
        change(record)
        forge_record(files, key, canonical(record))
        return str(key)

    do.__name__ = f"a_vouched_record_{name}"
    damage(*codes)(do)


for _name, _change in {
    "of_another_format": lambda it: it.update(format="formant-archive/record/2"),
    "of_another_conversation": lambda it: it.update(conversation_id=it["conversation_id"] + "x"),
    "without_a_field": lambda it: it.pop("writer"),
    "with_another_field": lambda it: it.update(note=""),
    "with_a_recording_of_text": lambda it: it.update(recording="x"),
    "with_one_probe": lambda it: it.update(
        recording={"state": "absent", "probes": [{"at": it["settled_at"], "error_type": "x", "http_status": 404}]}
    ),
    "with_a_state_that_there_is_not": lambda it: it["transcript"].update(state="lost"),
    "that_supersedes_itself": lambda it: it.update(supersedes={"key": "record.json", "sha256": "0" * 64}),
}.items():
    _record_fields(_name, _change, "R003")
for _name, _change in {
    "of_another_status": lambda it: it.update(status="busy"),
    "of_another_agent": lambda it: it.update(agent_id=str(it["agent_id"])),
    "of_another_start": lambda it: it.update(start_timestamp=(it["start_timestamp"] or 0) + 1),
    "with_another_hash": lambda it: it["conversation"].update(sha256="0" * 64),
    "with_another_size": lambda it: it["conversation"].update(size=1),
    "with_a_body_outside": lambda it: it["conversation"].update(key="../../etc/passwd"),
    "without_a_body": lambda it: it.update(conversation=None),
}.items():
    _record_fields(_name, _change, "R004")


def _entry_fields(name: str, change: Callable[[Json], object], *codes: str) -> None:
    def do(files: Files, dice: Random) -> str:
        return _edit_entry(files, dice, change)

    do.__name__ = f"an_entry_{name}"
    damage(*codes)(do)


for _name, _change in {
    "that_leads_out": lambda it: it.update(record_key="../" + it["record_key"]),
    "that_leads_out_in_its_middle": lambda it: it.update(record_key=it["record_key"].replace("/date=", "/../date=")),
    "that_is_absolute": lambda it: it.update(record_key="/" + it["record_key"]),
    "with_a_zero_byte": lambda it: it.update(record_key=it["record_key"] + "\0"),
    "with_a_payload_outside": lambda it: it["objects"][0].update(key="../../../../etc/passwd"),
    "with_a_payload_of_another": lambda it: it["objects"][0].update(key="conversations/agent_id=1/x/recording.wav"),
    "of_another_status": lambda it: it.update(status="busy"),
    "of_another_start": lambda it: it.update(start_timestamp=1),
    "of_another_agent": lambda it: it.update(agent_id=99),
    "without_an_object": lambda it: it["objects"].pop(),
    "with_an_object_twice": lambda it: it["objects"].append(it["objects"][0]),
    "of_another_outcome": lambda it: it.update(outcome="gone" if it["outcome"] != "gone" else "archived"),
}.items():
    _entry_fields(_name, _change, "R004")


@damage("R004")
def a_record_that_calls_its_recording_a_body(files: Files, dice: Random) -> str:
    key = pick(dice, [one for one in only_records(files) if b'"archived"' in files[one]])
    record = json.loads(files[key])
    for field in ("key", "size", "sha256"):
        one, other = record["conversation"], record["recording"]
        one[field], other[field] = other[field], one[field]
    forge_record(files, key, canonical(record))
    return str(key)


@damage("R005")
def a_second_folder_for_a_conversation(files: Files, dice: Random) -> str:
    key = pick(dice, only_records(files))
    folder = key.removesuffix("record.json")
    other = folder.replace("/agent_id=", "/agent_id=9")
    for name in [one for one in files if one.startswith(folder)]:
        files[name.replace(folder, other)] = files[name].replace(folder.encode(), other.encode())
    moved = f"{other}record.json"
    twin = json.loads(canonical(entry_of(files, key)).replace(folder.encode(), other.encode()))
    twin.update(record_sha256=digest(files[moved]), outcome="adopted")
    manifest, part = pick(dice, parts(files, "entries"))
    after = [*lines(files, part), twin]
    put_part(files, manifest, part, pack(after), len(after))
    value = json.loads(files[manifest])
    if twin["conversation_id"] not in {one["conversation_id"] for one in after[:-1]}:
        value["counts"]["listed"] += 1
        value["counts"]["adopted"] += 1
    files[manifest] = canonical(value)
    rechained(files)
    return str(key)


@damage("R004")
def a_conversation_in_a_folder_of_another_name(files: Files, dice: Random) -> str:
    key = pick(dice, only_records(files))
    folder = key.removesuffix("record.json")
    other = folder.removesuffix("/") + "x/"
    for name in [one for one in files if one.startswith(folder)]:
        files[name.replace(folder, other)] = files.pop(name).replace(folder.encode(), other.encode())
    sha256 = digest(files[f"{other}record.json"])

    def moved(entry: Json) -> list[Json]:
        if entry["record_key"] != key:
            return [entry]
        there: Json = json.loads(canonical(entry).replace(folder.encode(), other.encode()))
        return [{**there, "record_sha256": sha256}]

    rewrite_entries(files, moved)
    rechained(files)
    return str(key)


@damage("R005")
def a_second_record_that_supersedes_nothing(files: Files, dice: Random) -> str:
    key = pick(dice, [one for one in named_records(files) if one.endswith(".2.json")])
    record = json.loads(files[key])
    del record["supersedes"]
    forge_record(files, key, canonical(record))
    return str(key)


def _superseded(files: Files) -> list[str]:
    return [key for key in records(files) if second_of(key) in files]


@damage("R006")
def a_superseded_record_missing(files: Files, dice: Random) -> str:
    key = pick(dice, _superseded(files))
    del files[key]
    return str(key)


@damage("R006")
def one_bit_of_a_superseded_record(files: Files, dice: Random) -> str:
    key = pick(dice, _superseded(files))
    files[key] = flipped(dice, files[key])
    return str(key)


@damage("R006")
def a_superseded_record_of_another_hash(files: Files, dice: Random) -> str:
    key = pick(dice, [one for one in named_records(files) if one.endswith(".2.json")])
    record = json.loads(files[key])
    record["supersedes"]["sha256"] = "0" * 64
    forge_record(files, key, canonical(record))
    return str(key)


@damage("R004")
def a_superseded_record_outside(files: Files, dice: Random) -> str:
    key = pick(dice, [one for one in named_records(files) if one.endswith(".2.json")])
    record = json.loads(files[key])
    record["supersedes"]["key"] = "../../etc/passwd"
    forge_record(files, key, canonical(record))
    return str(key)


# Payloads


@damage("P001")
def a_payload_missing(files: Files, dice: Random) -> str:
    key = pick(dice, payloads(files))
    del files[key]
    return str(key)


@damage("P001")
def a_pending_ones_payload_missing(files: Files, dice: Random) -> str:
    held = [line["conversation"] for _, part in parts(files, "pending") for line in lines(files, part)]
    key = pick(dice, sorted({one["key"] for one in held if one}))
    del files[key]
    return str(key)


@damage("P002")
def one_bit_of_a_recording(files: Files, dice: Random) -> str:
    key = pick(dice, payloads(files, ".wav"))
    files[key] = flipped(dice, files[key])
    return str(key)


@damage("P002")
def the_last_bit_of_a_recording(files: Files, dice: Random) -> str:
    key = pick(dice, payloads(files, ".wav"))
    files[key] = files[key][:-1] + bytes([files[key][-1] ^ 1])
    return str(key)


@damage("P002")
def one_bit_of_a_body(files: Files, dice: Random) -> str:
    key = pick(dice, payloads(files, ".json"))
    files[key] = flipped(dice, files[key])
    return str(key)


@damage("P002")
def a_body_retold_in_as_many_bytes(files: Files, dice: Random) -> str:
    key = pick(dice, [one for one in payloads(files, ".json") if b'"completed"' in files[one]])
    files[key] = files[key].replace(b'"completed"', b'"collected"', 1)
    return str(key)


@damage("P003")
def a_recording_cut_off(files: Files, dice: Random) -> str:
    key = pick(dice, payloads(files, ".wav"))
    files[key] = files[key][: dice.randrange(len(files[key]))]
    return str(key)


@damage("P003")
def a_payload_with_a_byte_behind(files: Files, dice: Random) -> str:
    key = pick(dice, payloads(files))
    files[key] += b"\0"
    return str(key)


@damage("P003")
def a_payload_of_nothing(files: Files, dice: Random) -> str:
    key = pick(dice, payloads(files))
    files[key] = b""
    return str(key)


@damage("P003")
def two_payloads_swapped(files: Files, dice: Random) -> str:
    one = pick(dice, payloads(files, ".wav"))
    other = pick(dice, [key for key in payloads(files, ".wav") if len(files[key]) != len(files[one])])
    files[one], files[other] = files[other], files[one]
    return str(one)


@damage("P003")
def a_body_in_the_place_of_a_recording(files: Files, dice: Random) -> str:
    key = pick(dice, payloads(files, ".wav"))
    files[key] = files[key.rpartition("/")[0] + "/conversation.json"]
    return str(key)


# What is held, and what was erased


def _of_custody(files: Files) -> None:
    """See that somebody has acted in custody here."""
    if not parts(files, "erased"):
        add_custody(files)


def _erased(files: Files) -> list[str]:
    """Name the payloads that the head says were erased."""
    _of_custody(files)
    (part,) = (part for where, part in parts(files, "erased") if where == chain(files)[-1])
    return sorted(key for line in lines(files, part) for key in line["keys"])


def _edit_custody(files: Files, dice: Random, kind: str, change: Callable[[list[Json], Random], object]) -> str:
    """Change the lines of the head's list of what is held or erased, and link the chain anew."""
    _of_custody(files)
    (place,) = (one for one in parts(files, kind) if one[0] == chain(files)[-1])
    after = lines(files, place[1])
    change(after, dice)
    key = put_part(files, *place, pack(after), len(after))
    rechained(files)
    return key


@damage("C007")
def a_list_of_custody_missing(files: Files, dice: Random) -> str:
    _of_custody(files)
    _, part = pick(dice, parts(files, "holds", "erased", "which"))
    del files[part]
    return str(part)


@damage("C008")
def one_bit_of_a_list_of_custody(files: Files, dice: Random) -> str:
    _of_custody(files)
    _, part = pick(dice, parts(files, "holds", "erased", "which"))
    files[part] = flipped(dice, files[part])
    return str(part)


@damage("C002")
def an_act_told_otherwise(files: Files, dice: Random) -> str:
    _of_custody(files)
    key = pick(dice, [one for one in chain(files)[:-1] if b'"custody"' in files[one]])
    files[key] = files[key].replace(b'"B. Officer"', b'"C. Officer"')
    return str(key)


@damage("C001")
def the_manifest_of_an_act_missing(files: Files, dice: Random) -> str:
    _of_custody(files)
    key = pick(dice, [one for one in chain(files)[:-1] if b'"custody"' in files[one]])
    del files[key]
    return str(key)


@damage("P001")
def a_payload_missing_beside_those_that_were_erased(files: Files, dice: Random) -> str:
    _of_custody(files)
    return a_payload_missing(files, dice)


@damage("P001")
def an_erasure_that_the_head_forgets(files: Files, dice: Random) -> str:
    missing = _erased(files)
    _on_top(files, lambda it: (it.pop("erased"), it.pop("custody"), it.update(_audited(it))))
    return str(pick(dice, missing))


def _audited(manifest: Json) -> Json:
    """What an audit that adopts nothing says on top of a manifest."""
    counts = dict.fromkeys(manifest["counts"], 0)
    return {"kind": "audit", "listing": None, "entries": [], "counts": counts, "sequence": manifest["sequence"] + 1}


@damage("C010", one_place=True)
def a_hold_that_the_head_forgets(files: Files, dice: Random) -> str:
    _of_custody(files)
    _on_top(files, lambda it: (it.pop("holds"), it.pop("custody"), it.update(_audited(it))))
    return chain(files)[-1]


@damage("C010")
def a_hold_that_nobody_placed(files: Files, dice: Random) -> str:
    _of_custody(files)
    name = pick(dice, [entry["conversation_id"] for *_, entry in entries(files)])
    more = add_part(files, [held(name, 3)])
    _on_top(files, lambda it: (it.update(holds=more), it.pop("custody"), it.update(_audited(it))))
    return str(name)


@damage("P001")
def an_erasure_taken_out_of_the_list(files: Files, dice: Random) -> str:
    return _edit_custody(files, dice, "erased", lambda lines, dice: lines.pop(dice.randrange(len(lines))))


@damage("P001")
def an_erased_key_taken_out_of_its_line(files: Files, dice: Random) -> str:
    return _edit_custody(files, dice, "erased", lambda lines, dice: dice.choice(lines)["keys"].pop())


@damage("R001")
def an_erasure_that_took_the_record_too(files: Files, dice: Random) -> str:
    _of_custody(files)
    folders = {key.rpartition("/")[0] for key in _erased(files)}
    key = pick(dice, [one for one in named_records(files) if one.rpartition("/")[0] in folders])
    del files[key]
    return str(key)


@damage("C009")
def an_erasure_that_names_a_record(files: Files, dice: Random) -> str:
    """Nothing but payloads can go."""

    def more(lines: list[Json], dice: Random) -> None:
        keys = dice.choice(lines)["keys"]
        keys.append(f"{keys[0].rpartition('/')[0]}/record.json")

    return _edit_custody(files, dice, "erased", more)


@damage("C009")
def an_erasure_that_names_anothers_payload(files: Files, dice: Random) -> str:
    _of_custody(files)
    key = pick(dice, payloads(files))
    place = _edit_custody(files, dice, "erased", lambda lines, dice: dice.choice(lines)["keys"].append(key))
    del files[key]
    return place


@damage("C009")
def an_erasure_that_leads_out(files: Files, dice: Random) -> str:
    out = "../../etc/passwd"
    return _edit_custody(files, dice, "erased", lambda lines, dice: dice.choice(lines)["keys"].append(out))


def _put_back(files: Files, dice: Random, change: Callable[[bytes], bytes] = lambda body: body) -> str:
    """Let an erased payload be there all the same, as a killed erasure leaves it."""
    before = dict(files)
    key = pick(dice, [key for key in _erased(files) if before.get(key)])
    files[key] = change(before[key])
    return str(key)


@damage("E002", verdict="VALID")
def an_erased_payload_that_is_still_there(files: Files, dice: Random) -> str:
    return _put_back(files, dice)


@damage("E002", "P002")
def an_erased_payload_that_is_still_there_and_altered(files: Files, dice: Random) -> str:
    return _put_back(files, dice, lambda body: flipped(dice, body))


@damage("E002", "P003")
def an_erased_payload_that_is_still_there_and_longer(files: Files, dice: Random) -> str:
    return _put_back(files, dice, lambda body: body + b"\0")


@damage("C009")
def a_hold_without_its_cases(files: Files, dice: Random) -> str:
    return _edit_custody(files, dice, "holds", lambda lines, dice: dice.choice(lines).pop("cases"))


@damage("C009")
def an_erasure_without_its_keys(files: Files, dice: Random) -> str:
    return _edit_custody(files, dice, "erased", lambda lines, dice: dice.choice(lines).pop("keys"))


def _acts(name: str, change: Callable[[Json], object]) -> None:
    def do(files: Files, dice: Random) -> str:
        _of_custody(files)
        key = pick(dice, [one for one in chain(files) if b'"custody"' in files[one]])
        return edit(files, key, lambda manifest: change(manifest["custody"]))

    do.__name__ = f"an_act_{name}"
    damage("C003")(do)


for _name, _change in {
    "of_no_kind": lambda it: it.update(act="look"),
    "of_nobody": lambda it: it.pop("by"),
    "whose_list_leads_out": lambda it: it["which"].update(key="../../etc/passwd"),
}.items():
    _acts(_name, _change)


# What no manifest names


@damage("X001", verdict="VALID")
def a_record_that_no_manifest_names(files: Files, dice: Random) -> str:
    key = pick(dice, only_records(files))
    record = json.loads(files[key])
    other = key.replace("/record.json", "x/record.json")
    files[other] = canonical({**record, "conversation_id": record["conversation_id"] + "x"})
    return str(other)


@damage("X002", verdict="VALID")
def payloads_of_a_crashed_run(files: Files, dice: Random) -> str:
    key = pick(dice, payloads(files))
    folder, _, name = key.rpartition("/")
    files[f"{folder}x/{name}"] = files[key]
    return str(key)


@damage("X002", verdict="VALID")
def a_part_that_no_manifest_names(files: Files, dice: Random) -> str:
    body = pack([{"a": dice.random()}])
    key = f"manifests/parts/{digest(body)}.jsonl.gz"
    files[key] = body
    return key


@damage("X003", verdict="VALID")
def a_foreign_object(files: Files, dice: Random) -> str:
    folder = pick(dice, payloads(files)).rpartition("/")[0]
    key = dice.choice(
        [
            "README.txt",
            "manifests/notes.txt",
            "manifests/00000000000000000000.json",
            "manifests/0000000000000000001.json",
            "manifests/parts/x.jsonl.gz",
            f"{folder}/recording.mp3",
            f"{folder}/conversation.3.json",
            f"{folder}/record.json.orig",
            f"{folder}/a\nVALID",
            f"{folder}/\udcff\u202e",
        ]
    )
    files[key] = b"x"
    return key


@damage("U002", verdict="UNVERIFIED", one_place=True)
def nothing_but_conversations(files: Files, dice: Random) -> str:
    for key in [one for one in files if one.startswith("manifests/")]:
        del files[key]
    return "manifests/"


@damage("U002", verdict="UNVERIFIED", one_place=True)
def nothing_at_all(files: Files, dice: Random) -> str:
    files.clear()
    return ""


# What is no damage


@legal
def nothing_done(files: Files, dice: Random) -> str:
    return ""


@legal
def holds_and_erasures(files: Files, dice: Random) -> str:
    _of_custody(files)
    return ""


@legal
def holds_and_erasures_handed_on(files: Files, dice: Random) -> str:
    _of_custody(files)
    return _on_top(files, lambda it: (it.pop("custody"), it.update(_audited(it))))


@legal
def a_release(files: Files, dice: Random) -> str:
    _of_custody(files)
    (part,) = (part for where, part in parts(files, "holds") if where == chain(files)[-1])
    left, over = lines(files, part)
    said = {"act": "release", "case": over["cases"][0]}
    return act_on_top(files, "hold", [over["conversation_id"]], said, holds=[left])


@legal
def temporary_files(files: Files, dice: Random) -> str:
    folder = pick(dice, payloads(files)).rpartition("/")[0]
    key = dice.choice([f"{folder}/.tmp-1-2", "manifests/.tmp-3", ".tmp-lock", "manifests/parts/.tmp-4"])
    files[key] = b"half"
    return key


@legal
def plans(files: Files, dice: Random) -> str:
    key = f"plans/run-{dice.randrange(9)}/00001.jsonl"
    files[key] = b"{}"
    return key


@legal
def an_entry_in_a_later_manifest_too(files: Files, dice: Random) -> str:
    manifest, _, entry = pick(dice, [one for one in entries(files) if one[0] != chain(files)[-1]])
    later = [one for one in chain(files) if one > manifest]
    key = dice.choice(later)
    body = pack([{**entry, "outcome": "adopted"}])
    value = json.loads(files[key])
    part = f"manifests/parts/{digest(body)}.jsonl.gz"
    value["entries"].append({"key": part, "sha256": digest(body), "count": 1})
    known = {one["conversation_id"]: one["outcome"] for where, _, one in entries(files) if where == key}
    if before := known.get(entry["conversation_id"]):
        value["counts"][before] -= 1
        value["counts"]["listed"] -= 1
    value["counts"]["adopted"] += 1
    value["counts"]["listed"] += 1
    files[part], files[key] = body, canonical(value)
    rechained(files)
    return key


@legal
def an_entry_twice_in_one_manifest(files: Files, dice: Random) -> str:
    manifest, part = pick(dice, parts(files, "entries"))
    before = lines(files, part)
    after = [*before, before[-1]]
    put_part(files, manifest, part, pack(after), len(after))
    rechained(files)
    return str(manifest)


@legal
def a_manifest_of_an_audit(files: Files, dice: Random) -> str:
    def adopting(manifest: Json) -> None:
        counts = dict.fromkeys(manifest["counts"], 0)
        manifest.update(kind="audit", listing=None, entries=[], counts=counts, sequence=manifest["sequence"] + 1)
        key = pick(dice, only_records(files))
        body = pack([{**entry_of(files, key), "outcome": "adopted"}])
        part = f"manifests/parts/{digest(body)}.jsonl.gz"
        files[part] = body
        manifest["entries"] = [{"key": part, "sha256": digest(body), "count": 1}]
        counts.update(carried=1, adopted=1)

    return _on_top(files, adopting)


@legal
def a_manifest_of_another_kind(files: Files, dice: Random) -> str:
    def held(manifest: Json) -> None:
        counts = dict.fromkeys(manifest["counts"], 0)
        kind = dice.choice(("hold", "erasure"))
        manifest.update(kind=kind, listing=None, entries=[], counts=counts, sequence=manifest["sequence"] + 1)

    return _on_top(files, held)


def _on_top(files: Files, change: Callable[[Json], object]) -> str:
    """Put a manifest on top, made from the newest one."""
    last = chain(files)[-1]
    manifest = json.loads(files[last])
    change(manifest)
    key = f"manifests/{len(chain(files)) + 1:020d}.json"
    files[key] = canonical(manifest)
    rechained(files)
    return key


@legal
def a_store_that_is_not_safe(files: Files, dice: Random) -> str:
    return edit(files, pick(dice, chain(files)), lambda manifest: manifest.update(unsafe_store=True))


@legal
def more_pending_counted_than_there_are(files: Files, dice: Random) -> str:
    def overtaken(manifest: Json) -> None:
        manifest["counts"]["listed"] += 3
        manifest["counts"]["pending"] += 3

    return edit(files, pick(dice, chain(files)), overtaken)


@legal
def a_second_body(files: Files, dice: Random) -> str:
    """The first body had no transcript, and no record names it."""
    key = pick(dice, only_records(files))
    folder = key.removesuffix("record.json")
    record = json.loads(files[key])
    if record["conversation"]["key"] != f"{folder}conversation.json" or f"{folder}conversation.json" not in files:
        raise NoPlace
    files[f"{folder}conversation.2.json"] = files[f"{folder}conversation.json"]
    record["conversation"]["key"] = f"{folder}conversation.2.json"
    held = [
        {name: one[name] for name in ("key", "sha256", "size")}
        for one in (record["conversation"], record["recording"])
        if "key" in one
    ]
    forge_record(files, key, canonical(record), objects=held)
    return str(key)


@legal
def an_archive_that_goes_on(files: Files, dice: Random) -> str:
    """The head that was noted has a successor by now."""
    return _on_top(
        files,
        lambda manifest: manifest.update(
            entries=[], counts=dict.fromkeys(manifest["counts"], 0), sequence=manifest["sequence"] + 1
        ),
    )


# What cannot be read


@unreadable
def an_unreadable_manifest(files: Files, dice: Random) -> str:
    return str(pick(dice, chain(files)))


@unreadable
def an_unreadable_part(files: Files, dice: Random) -> str:
    return str(pick(dice, parts(files))[1])


@unreadable
def an_unreadable_record(files: Files, dice: Random) -> str:
    return str(pick(dice, named_records(files)))


@unreadable
def an_unreadable_payload(files: Files, dice: Random) -> str:
    return str(pick(dice, payloads(files)))

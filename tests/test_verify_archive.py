"""The outsider's check finds every damage of its subset, and cries on no sound archive; nothing there makes it fail."""

import ast
import gzip
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from types import FrameType
from typing import NamedTuple

import pytest

from formant_archive.simulator import SPOKEN, Simulator
from formant_archive.stores import open_store
from formant_archive.verify import Depth, Verification
from tests import damage
from tests.damage import DAMAGES, LEGAL, UNREADABLE, Damage, Files, NoPlace
from tests.plain import Clock, archive, client_of
from tests.simulation.source import PHONE, PHRASE
from tests.simulation.world import World
from tools import verify_archive

EXIT_CODES = {"VALID": 0, "DAMAGED": 1, "UNVERIFIED": 3}
FINDING = re.compile(r"([A-Z][0-9]{3}) (damage|unverified) .*: expected .*, found .*")
PLACES = 5
TOOL = Path(verify_archive.__file__)
#: Damages that only `formant-archive verify` finds: counts, and the form of what proves nothing of other objects.
BEYOND = {
    "a_hold_without_its_cases",
    "a_hold_that_nobody_placed",
    "a_hold_that_the_head_forgets",
    "a_manifest_that_counts_one_more",
    "a_manifest_that_counts_one_more_archived",
    "a_manifest_that_counts_true",
    "a_manifest_whose_run_lacks_a_field",
    "a_manifest_with_a_count_missing",
    "a_manifest_with_a_negative_count",
    "a_manifest_with_another_field",
    "a_manifest_with_another_kind_of_time",
    "a_manifest_with_unsafe_store_false",
    "a_vouched_record_with_a_state_that_there_is_not",
    "a_vouched_record_with_another_field",
    "a_vouched_record_without_a_field",
    "an_act_of_nobody",
    "an_act_of_no_kind",
    "an_entry_removed_and_the_chain_made_anew",
}
WITHIN = [one for one in DAMAGES if one.name not in BEYOND]
#: It knows what an entry's outcome must be from the record alone, and what was erased from the lines that name keys.
CALLED_OTHERWISE = {"an_outcome_that_there_is_not": {"R004"}, "an_erasure_without_its_keys": {"P001"}}


class Said(NamedTuple):
    """What the check said: the verdict, the codes of its findings, its exit code, and all of it."""

    verdict: str
    codes: set[str]
    exit_code: int
    text: str


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@cache
def archives() -> tuple[Files, ...]:
    """Sound archives to damage: two of the simulator's, one of them with holds and erasures; one of crashed runs."""
    return damage.sound(1), damage.kept(3), simulated(200)


def simulated(seed: int) -> Files:
    world = World(seed)
    world.play()
    return dict(world.objects)


def write(files: Files, folder: Path, held: Files | None = None) -> None:
    """Make a folder hold these files and no others; `held` is what it holds already."""
    if held is None:
        shutil.rmtree(folder, ignore_errors=True)
    before = held or {}
    folder.mkdir(parents=True, exist_ok=True)
    for key in before.keys() - files.keys():
        (folder / key).unlink()
    for key, body in files.items():
        if before.get(key) != body:
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(body)


class Shelf:
    """A folder for each sound archive, where only what is damaged is written, and mended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[int, Files] = {}

    def put(self, number: int, files: Files) -> Path:
        folder = self._folder / str(number)
        write(files, folder, self._held.get(number))
        self._held[number] = dict(files)
        return folder


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("shelf"))


def verify(folder: Path, capsys: pytest.CaptureFixture[str], *, head: str | None = None) -> Said:
    """Run the check; whatever it says, it says in one form, and nothing private."""
    options = ["--expect-head", head] if head else []
    exit_code = verify_archive.main([str(folder), *options])
    text = capsys.readouterr().out
    *findings, last = text.splitlines()
    verdict = last.partition(":")[0]
    assert EXIT_CODES[verdict] == exit_code
    matches = [FINDING.fullmatch(line) for line in findings]
    assert all(matches), findings
    assert "to get to the end" not in text
    assert not any(private in text for private in (PHONE, PHRASE, "+91", SPOKEN))
    return Said(verdict, {match[1] for match in matches if match}, exit_code, text)


def is_sound(said: Said) -> bool:
    return said.verdict == "VALID" and said.codes == set()


# Sound archives


@pytest.mark.parametrize("seed", [*range(50), 70, 111, 164, 177, 200, 352])
def test_an_archive_is_valid_at_every_moment_of_crashes_and_races(
    seed: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moments: list[Files] = []

    def look(line: str) -> None:
        if world.moment % 150 == 0 and any(key.startswith("manifests/0") for key in world.objects):
            moments.append(dict(world.objects))

    world = World(seed, tell=look)
    world.play()

    for files in [*moments[-3:], dict(world.objects)]:
        write(files, folder)
        assert is_sound(verify(folder, capsys, head=damage.head(files)))


@pytest.mark.parametrize("one", LEGAL, ids=lambda one: one.name)
def test_what_is_legal_is_not_called_damage(one: Damage, shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    for number, sound in enumerate(archives()[:2]):
        for seed in range(4):
            files = dict(sound)
            try:
                one.do(files, Random(10 * number + seed))
            except NoPlace:
                continue
            assert is_sound(verify(shelf.put(number, files), capsys))


def test_ids_of_any_form_are_in_their_own_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = ("a/b", "..", ".", "a~b c", "रोहित" * 30, "x" * 129, "%2E", "é" * 34, "." * 40)
    clock = Clock()
    sim = Simulator(conversations=0, now=lambda: clock.ms, audio_seconds=(0.05, 0.1))
    for one in ids:
        sim.add(1, conversation_id=one)
    with client_of(sim, clock) as client:
        archive(client, open_store(str(folder)), clock)
    said = verify(folder, capsys)

    assert said.codes == set()
    assert said.text.startswith(f"VALID: {len(ids)} conversations; ")


# Damages


def expected_codes(one: Damage) -> set[str]:
    """Say what it calls a damage; of what no manifest names, or is to go, it says nothing."""
    return CALLED_OTHERWISE.get(one.name) or {code for code in one.codes if code[0] not in "XE"}


@pytest.mark.parametrize("one", WITHIN, ids=lambda one: one.name)
def test_a_damage_is_found_wherever_it_is(one: Damage, shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    places = set[tuple[int, str]]()
    for seed in range(40):
        number = seed % len(archives())
        files = dict(archives()[number])
        noted = damage.head(files)
        try:
            place = one.do(files, Random(seed))
        except NoPlace:
            continue
        if (number, place) in places:
            continue
        places.add((number, place))
        folder = shelf.put(number, files)
        if one.needs_head:
            assert is_sound(verify(folder, capsys))
        is_about_the_head = one.needs_head or "C005" in one.codes
        said = verify(folder, capsys, head=noted if is_about_the_head else None)
        assert expected_codes(one) <= said.codes
        assert "U001" not in said.codes
        assert said.verdict == one.verdict
        if len(places) >= PLACES:
            break

    assert len(places) >= (1 if one.one_place else PLACES)


@pytest.mark.parametrize("name", sorted(BEYOND))
def test_what_is_beyond_it_is_found_by_the_program_alone(
    name: str, shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    (one,) = (one for one in DAMAGES if one.name == name)
    places = set[tuple[int, str]]()
    for seed in range(40):
        number = seed % len(archives())
        files = dict(archives()[number])
        try:
            place = one.do(files, Random(seed))
        except NoPlace:
            continue
        if (number, place) in places:
            continue
        places.add((number, place))
        folder = shelf.put(number, files)
        verification = Verification(open_store(str(folder)), depth=Depth())
        found = {finding.code for finding in verification.findings()}

        assert is_sound(verify(folder, capsys))
        assert (verification.report.verdict, one.codes <= found) == ("DAMAGED", True)
        if len(places) >= PLACES:
            break

    assert len(places) >= (1 if one.one_place else PLACES)


def test_every_code_is_among_the_damages() -> None:
    documented = {f"C00{number}" for number in (1, 2, 3, 4, 5, 7, 8, 9)} | {f"R00{number}" for number in range(1, 7)}
    documented |= {"P001", "P002", "P003", "U001", "U002"}

    assert {code for one in (*WITHIN, *UNREADABLE) for code in expected_codes(one)} == documented
    assert set(re.findall(r"\b[CRPXU]00\d\b", TOOL.read_text())) == documented


def named(files: Files) -> list[str]:
    """Name all objects that the manifests vouch for."""
    keys = {*damage.chain(files), *(part for _, part in damage.parts(files)), *damage.payloads(files)}
    keys |= {*damage.named_records(files)}
    keys |= {key for key in damage.records(files) if damage.second_of(key) in keys}
    return sorted(keys)


def test_no_bit_of_anything_named_changes_unseen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dice = Random(5)
    for sound in archives():
        noted = damage.head(sound)
        write(sound, folder)
        for _ in range(80):
            key = dice.choice(named(sound))
            if sound.get(key):
                (folder / key).write_bytes(damage.flipped(dice, sound[key]))
                assert verify(folder, capsys, head=noted).verdict == "DAMAGED"
                (folder / key).write_bytes(sound[key])


def test_no_bytes_whatever_make_it_fail(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    dice = Random(6)
    for number, sound in enumerate(archives()):
        for _ in range(40):
            files = dict(sound)
            for _ in range(dice.randint(1, 6)):
                key, other = dice.choice(sorted(files)), dice.choice(sorted(files))
                half = dice.randrange(1 + len(files[key]))
                files[key] = dice.choice(
                    [
                        files[other],
                        files[key][:half],
                        files[key][:half] + files[other],
                        dice.randbytes(40),
                        b"{}",
                        b"[]",
                    ]
                )
            damage.rechained(files)
            verify(shelf.put(number, files), capsys)


# What cannot be read


@pytest.mark.parametrize("one", UNREADABLE, ids=lambda one: one.name)
@pytest.mark.parametrize("how", ["a folder", "a link", "a circle", "a pipe"])
def test_what_cannot_be_read_is_unverified(
    one: Damage, how: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = set[tuple[int, str]]()
    for seed in range(20):
        number = seed % len(archives())
        files = archives()[number]
        place = one.do(dict(files), Random(seed))
        places.add((number, place))
        write(files, folder)
        (folder / place).unlink()
        if how == "a folder":
            (folder / place).mkdir()
        elif how == "a link":
            # Even the right bytes: what is outside of the folder is not the archive.
            (tmp_path / "outside").write_bytes(files[place])
            (folder / place).symlink_to(tmp_path / "outside")
        elif how == "a circle":
            (folder / place).symlink_to(folder / place)
        else:
            os.mkfifo(folder / place)
        said = verify(folder, capsys)
        assert (said.verdict, said.exit_code) == ("UNVERIFIED", 3)
        assert "U001" in said.codes
        if len(places) >= PLACES:
            break

    assert len(places) >= PLACES


def test_damage_that_is_proven_beats_what_cannot_be_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = dict(archives()[0])
    first, second = damage.payloads(files)[:2]
    del files[first]
    write(files, folder)
    (folder / second).unlink()
    (folder / second).mkdir()
    said = verify(folder, capsys)

    assert said.verdict == "DAMAGED"
    assert {"P001", "U001"} <= said.codes


def test_a_head_that_cannot_be_read_is_not_called_another_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = archives()[0]
    write(files, folder)
    last = folder / damage.chain(files)[-1]
    last.unlink()
    last.mkdir()

    assert verify(folder, capsys, head=damage.head(files)).verdict == "UNVERIFIED"


def test_what_no_manifest_names_is_not_looked_at(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = ("\udcff/conversation.json", "a\nU002 b", f"manifests/{0:020d}.json", "manifests/1.json", "x/plans/y")
    write({**archives()[0], **dict.fromkeys(keys, b"")}, folder)

    assert is_sound(verify(folder, capsys))


def test_a_folder_of_manifests_that_cannot_be_listed_is_unverified(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir()
    (folder / "manifests").write_bytes(b"")

    assert verify(folder, capsys).verdict == "UNVERIFIED"


def test_a_file_larger_than_any_manifest_is_not_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = archives()[0]
    write(files, folder)
    os.truncate(folder / damage.chain(files)[-1], 1 << 40)
    said = verify(folder, capsys)

    assert (said.verdict, "U001" in said.codes) == ("UNVERIFIED", True)


def test_a_check_that_does_not_get_to_its_end_is_no_verdict(folder: Path) -> None:
    files = dict(archives()[0])
    files[damage.chain(files)[-1]] = b'{"a":[' + b"[]," * (5 << 20) + b"[]]}"
    write(files, folder)
    done = run(TOOL, folder, limit=200 << 20)

    assert (done.returncode, done.stderr) == (3, "")
    assert "found MemoryError\nUNVERIFIED: " in done.stdout


# The head


def test_a_head_that_was_noted_may_have_successors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = archives()[0]
    write(files, folder)

    for number, key in enumerate(damage.chain(files), 1):
        assert is_sound(verify(folder, capsys, head=f"{number}:{damage.digest(files[key])}"))


def test_a_head_that_is_not_there_yet_is_missed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = archives()[0]
    write(files, folder)

    assert "C005" in verify(folder, capsys, head=f"99:{'0' * 64}").codes


def test_the_head_is_said_as_it_is_to_be_noted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(archives()[0], folder)
    said = verify(folder, capsys)

    assert said.codes == set()
    assert said.text.endswith(f"; head {damage.head(archives()[0])}\n")


# The program


def run(*arguments: object, limit: int | None = None) -> "subprocess.CompletedProcess[str]":
    """Run it as an auditor does: alone, with nothing of ours in reach."""

    def bound() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    command = [sys.executable, "-I", "-S", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, preexec_fn=bound, env={})


def test_it_needs_nothing_but_its_own_file(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "verify.py"
    shutil.copy(TOOL, alone)
    write(archives()[0], folder)
    done = run(alone, folder, "--expect-head", damage.head(archives()[0]))

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("VALID: ")


@pytest.mark.parametrize(
    "words", [[], ["/nowhere"], [".", "--expect-head", "42"], [".", "--expect-head", "0:" + 64 * "0"]]
)
def test_a_wrong_call_is_no_verdict(words: list[str]) -> None:
    done = run(TOOL, *words)

    assert (done.returncode, done.stdout) == (2, "")


def test_memory_is_bounded_whatever_lies_there(folder: Path) -> None:
    files = dict(archives()[0])
    manifest, part = damage.parts(files, "recent")[0]
    damage.put_part(files, manifest, part, gzip.compress(bytes(1 << 30), 1))
    key = damage.payloads(files, ".wav")[0]
    size = 1 << 29
    record = next(entry["record_key"] for _, _, entry in damage.entries(files) if key in str(entry["objects"]))
    body = json.loads(files[record])
    body["recording"]["size"] = size
    held = [{name: body[kind][name] for name in ("key", "sha256", "size")} for kind in ("conversation", "recording")]
    damage.forge_record(files, record, damage.canonical(body), objects=held)
    write(files, folder)
    os.truncate(folder / key, size)
    done = run(TOOL, folder, limit=320 << 20)

    assert done.returncode == 1, done.stdout
    assert f"P002 damage {key}" in done.stdout
    assert "C009 damage" in done.stdout
    assert "U001" not in done.stdout


def test_nothing_outside_of_the_folder_is_opened(
    folder: Path, capsys: pytest.CaptureFixture[str], opened: list[str]
) -> None:
    for one in DAMAGES:
        if "lead" in one.name or "outside" in one.name or "absolute" in one.name:
            files = dict(archives()[0])
            one.do(files, Random(1))
            write(files, folder)
            opened.clear()
            assert "passwd" not in verify(folder, capsys).text
            assert opened
            assert all(path.startswith(f"{folder}/") for path in opened)


def test_no_more_lines_are_read_than_a_manifest_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = dict(archives()[0])
    manifest, part = next(one for one in damage.parts(files, "recent") if damage.lines(files, one[1]))
    good = damage.lines(files, part)
    damage.put_part(files, manifest, part, damage.pack(good * 5000))
    write(files, folder)
    calls: list[str] = []

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is verify_archive.parsed.__code__:
            calls.append(event)

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        said = verify(folder, capsys)
    finally:
        sys.setprofile(before)

    assert "C009" in said.codes
    assert 0 < len(calls) < 2000


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The paths that are opened, as Python's own audit tells."""
    paths: list[str] = []
    ears = [paths.append]

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str):
            for ear in ears:
                ear(arguments[0])

    sys.addaudithook(hear)
    yield paths
    # A hook stays as long as Python runs.
    ears.clear()


def test_it_is_short_enough_to_be_read_and_imports_pythons_own_modules_alone() -> None:
    text = TOOL.read_text()
    nodes = list(ast.walk(ast.parse(text)))
    imported = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)}

    assert len(text.splitlines()) <= 200
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


def test_the_codes_are_documented_where_an_auditor_reads_them() -> None:
    page = Path("docs/archive-format.md").read_text()

    assert "tools/verify_archive.py" in page

"""The page on performance and its plot say what was measured, and nothing else."""

import ast
import importlib.util
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import plot, profile, report, results
from benchmarks.measure import Measure
from benchmarks.results import Column, Figure, Machine, Results, Row
from benchmarks.stage import ROOT

CORE = ROOT / "formant_archive"
FIGURE = Figure(
    name="race",
    title="A race <of two>",
    note="one round",
    command="python -m benchmarks.race",
    date="2026-01-02",
    columns=(Column(name="a second", digits=1), Column(name="memory", unit=" MB")),
    rows=(Row(label="`hare`", values=(20.04, 1234)), Row(label="hedgehog", values=(None, 5))),
    verdicts=("hare / hedgehog: 2, goal at least 1: reached",),
)
FOUND = Results(figures={"race": FIGURE})


@pytest.fixture(scope="module")
def found() -> Results:
    return results.read()


def test_the_page_contains_exactly_what_was_measured(found: Results) -> None:
    page = report.PAGE.read_text()
    assert report.filled(page, report.markdown(found)) == page


def test_the_plot_shows_exactly_what_was_measured(found: Results) -> None:
    drawn = report.PLOT.read_text() if report.PLOT.exists() else None
    assert drawn == (plot.svg(found) if found.figures else None)


def test_each_command_that_the_page_names_exists() -> None:
    modules = set(re.findall(r"python -m (benchmarks[.\w]*)", report.PAGE.read_text()))
    assert len(modules) > 8
    assert not [name for name in modules if not importlib.util.find_spec(name)]


def test_a_table_has_a_cell_for_each_number_and_none_for_what_was_not_measured() -> None:
    lines = report.markdown(FOUND).splitlines()
    assert "| | a second | memory |" in lines
    assert "| `hare` | 20.0 | 1,234 MB |" in lines
    assert "| hedgehog |  | 5 MB |" in lines
    assert lines[-1] == FIGURE.verdicts[0]
    assert f"`{FIGURE.command}`, {FIGURE.date}: one round." in lines


def test_the_page_tells_machine_and_versions() -> None:
    head, _, _ = report.markdown(FOUND).partition("###")
    told = [f"{FOUND.machine.cores} cores", FOUND.machine.processor, FOUND.machine.kernel]
    told += [f"{name} {version}" for name, version in FOUND.machine.versions.items()]
    assert not [one for one in told if one not in head]
    assert set(FOUND.machine.versions) == {"python", *results.LIBRARIES}


def test_the_plot_is_text_and_shapes_in_light_and_dark_and_runs_nothing() -> None:
    drawn = plot.svg(FOUND)
    kinds = {one.tag.rpartition("}")[2] for one in ET.fromstring(drawn).iter()}
    texts = [one.text for one in ET.fromstring(drawn).iter() if one.tag.endswith("}text")]
    assert kinds == {"svg", "title", "style", "rect", "text"}
    assert texts == ["A race <of two>", "a second", "hare", "20.0"]
    assert "prefers-color-scheme: dark" in drawn


@pytest.mark.parametrize("other", [{"cores": 1000}, {"versions": {"python": "3.12.0"}}])
def test_a_figure_of_the_same_machine_joins_the_others_and_one_of_another_replaces_them(
    other: dict[str, object],
) -> None:
    before = Results(figures={"other": FIGURE.model_copy(update={"name": "other"})})
    assert set(before.with_figure(FIGURE, Machine()).figures) == {"other", "race"}
    assert set(before.with_figure(FIGURE, Machine().model_copy(update=other)).figures) == {"race"}


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    assert results.read(file).figures == {}
    results.keep(FIGURE, file)
    assert results.read(file).figures == {"race": FIGURE}


@pytest.mark.parametrize("place", [place for places in profile.STAGES.values() for place in places])
def test_each_function_that_stands_for_a_stage_exists(place: str) -> None:
    file, _, name = place.partition(":")
    assert name in functions(CORE / file)


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_threads_are_counted_at_their_stage_while_the_main_thread_works() -> None:
    file, _, name = profile.WORK.partition(":")
    assert name in functions(ROOT / file)
    main = f"MainThread;run ({ROOT}/{file}:9)"
    stacks = [
        f"{main};load (<frozen importlib._bootstrap>) 70",
        f"{main};run.<locals>.{name} ({ROOT}/{file}:5);wait (/lib/python3/threading.py:3) 10",
        f"thread (7): pool 1;capture_recording ({CORE}/capture.py:1);Client.recording ({CORE}/client.py:2) 15",
        "thread (8): beat;Beat.heartbeat_loop (/lib/prefect/flow_engine.py:9) 10",
        "thread (9): events;emit (/lib/prefect/events/worker.py:9);encode (/lib/python3/json/encoder.py:4) 5",
        "thread (5): gone 1",
    ]
    tally, looks = profile.tallied(stacks)
    assert looks == 10
    assert tally == {profile.WAITING: 20, "fetch a recording": 15, profile.PREFECT: 5}
    made = profile.figure(stacks, Measure(100, 2.0, 1.0, 50.0, 1.0), "")
    assert [(row.label, row.values) for row in made.rows] == [
        ("fetch a recording", (75.0, 1.5)),
        (profile.PREFECT, (25.0, 0.5)),
        (profile.WAITING, (None, 2.0)),
    ]

"""Metrics: what is printed is what Prometheus reads, and what the documents, the alerts and the dashboard name."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample as Read

from formant_archive import ledger
from formant_archive.ledger import Draft, Head
from formant_archive.manifest import OUTCOMES, Changes, ListingNote, RunNote, Scope
from formant_archive.metrics import Gauge, Sample, exposition, gauge, gauge_by
from formant_archive.policy import Policy
from formant_archive.records import Entry, Pending, StoredObject
from formant_archive.status import REASONS, Status, read_status
from formant_archive.stores import open_store

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/metrics.md").read_text()
DASHBOARD = json.loads((ROOT / "deployments/grafana/dashboard.json").read_text())
NAME = re.compile(r"formant_archive_\w+")
SHA = "ab" * 32
NOW = datetime(2026, 3, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MARK = 1_773_867_201_766
COUNTS = {name: number for number, name in enumerate(OUTCOMES, start=1)}

#: What labels may hold: anything that UTF-8 can.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def read(text: str) -> dict[str, list[Read]]:
    """Read it as Prometheus's own library does; each gauge by its name."""
    families = list(text_string_to_metric_families(text))
    assert {family.type for family in families} <= {"gauge"}
    assert all(family.documentation for family in families)
    assert len({family.name for family in families}) == len(families)
    return {family.name: family.samples for family in families}


def values(samples: list[Read], label: str) -> dict[str, float]:
    return {sample.labels[label]: sample.value for sample in samples}


# The format


@given(TEXT, TEXT)
def test_any_label_comes_back_as_it_was(one: str, other: str) -> None:
    text = exposition([gauge_by("reason", "pending", "What is waited for.", {one: 1, f"{one}'": 2})], {"a": other})

    [samples] = read(text).values()
    assert values(samples, "reason") == {one: 1, f"{one}'": 2}
    assert {sample.labels["a"] for sample in samples} == {other}


@given(st.one_of(st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False)))
def test_any_number_comes_back_as_it_was(number: float) -> None:
    [[sample]] = read(exposition([gauge("size_bytes", "A size.", number)], {})).values()

    assert float(sample.value) == float(number)


def test_what_is_written_is_the_documented_format() -> None:
    meaning = 'A line\nwith "quotes" and \\.'
    gauges = [gauge("nothing", "Not known.", None), Gauge("one", meaning, (Sample(0.5, {"b": 'x"\\\n'}),))]

    assert exposition(gauges, {"a": "1"}) == (
        '# HELP formant_archive_one A line\\nwith "quotes" and \\\\.\n'
        "# TYPE formant_archive_one gauge\n"
        'formant_archive_one{a="1",b="x\\"\\\\\\n"} 0.5\n'
    )


# The numbers


def pending(name: str, **fields: Any) -> Pending:
    known = {"conversation_id": name, "status": "completed", "folder": f"conversations/{name}/"}
    return Pending.model_validate(known | {"first_seen_at": NOW - 9 * DAY, "scopes": ("all",)} | fields)


def entry(name: str, *payloads: str) -> Entry:
    folder = f"conversations/{name}/"
    return Entry(
        conversation_id=name,
        agent_id=101,
        start_timestamp=MARK,
        status="completed",
        # As an audit names it: what has become of it is in its objects.
        outcome="adopted",
        record_key=f"{folder}record.json",
        record_sha256=SHA,
        objects=tuple(StoredObject(key=folder + payload, size=1_000, sha256=SHA) for payload in payloads),
    )


def fill(place: Path) -> None:
    """An archive of one run: three conversations settled, four pending."""
    listing: dict[str, Any] = {"scope": "all", "order": "newest_first", "full": True, "since": None, "pages": 1}
    listing |= {"rows": 9, "unique": 9, "total_first": 9, "total_last": 9, "complete": False}
    run = {"id": "run-1", "part": 1, "flow": "archive_conversations", "version": "1", "parameters": {}}
    waiting = [
        pending("p1", reason="recording_not_found", end_timestamp=(NOW - DAY).timestamp() * 1000),
        pending("p2", reason="truncated", message="cut off", failed=True, failures=2, end_timestamp=None),
        pending("p3", reason="open", status="in_progress", start_timestamp=(NOW - 2 * DAY).timestamp() * 1000),
        pending("p4", reason="recording_not_found", first_seen_at=NOW - DAY),
    ]
    entries = [entry("a", "conversation.json", "recording.wav"), entry("b", "conversation.json"), entry("c")]
    ledger.commit(
        open_store(str(place)),
        Head(),
        Draft(
            run=RunNote.model_validate(run | {"started_at": NOW - DAY, "committed_at": NOW - DAY / 2}),
            source="https://api.example",
            listing=ListingNote.model_validate(listing),
            counts={"listed": 40, "carried": 5, **COUNTS},
            entries=[one.line() for one in entries],
            changes=Changes(
                "all",
                Scope(),
                Scope(MARK, 9, "newest_first", statuses=frozenset({"completed"})),
                frozenset("abc"),
                {one.conversation_id: one for one in waiting},
            ),
            overlap=0,
        ),
    )


def status_of(place: Path, *, head_only: bool = False) -> Status:
    return read_status(open_store(str(place)), NOW, Policy(), head_only=head_only)


@pytest.fixture
def found(tmp_path: Path) -> Status:
    fill(tmp_path)
    return status_of(tmp_path)


def metrics(found: Status) -> dict[str, list[Read]]:
    return {name.removeprefix("formant_archive_"): samples for name, samples in read(text_of(found)).items()}


def text_of(found: Status) -> str:
    return exposition(found.gauges(), {"archive_id": "an-id"})


def test_prometheus_is_told_what_a_person_is_told(found: Status) -> None:
    told, said = metrics(found), found.as_json()

    alone = {name: samples[0].value for name, samples in told.items() if samples[0].labels.keys() == {"archive_id"}}
    assert alone == {
        "read_timestamp_seconds": NOW.timestamp(),
        "head_sequence": said["archive"]["sequence"],
        "head_committed_timestamp_seconds": (NOW - DAY / 2).timestamp(),
        "head_listing_complete": 0,
        "failed_conversations": said["pending"]["failed"],
        "overdue_conversations": said["pending"]["overdue"],
        "long_open_conversations": said["pending"]["open_for_more_than_24_h"],
        "oldest_pending_timestamp_seconds": (NOW - 9 * DAY).timestamp(),
        "payload_bytes": said["holdings"]["bytes"],
    }
    reasons = {name: count for name, count in values(told["pending_conversations"], "reason").items() if count}
    assert reasons == said["pending"]["reasons"] == {"recording_not_found": 2, "truncated": 1, "open": 1}
    assert values(told["head_conversations"], "outcome") == COUNTS
    assert values(told["watermark_timestamp_seconds"], "scope") == {"all": MARK / 1000}
    assert values(told["info"], "source") == {"https://api.example": 1}


def test_what_has_become_of_each_conversation_is_counted_once_whoever_named_it(found: Status) -> None:
    outcomes = values(metrics(found)["conversations"], "outcome")

    assert outcomes == {"archived": 1, "archived_without_recording": 1, "gone": 1}
    assert sum(outcomes.values()) == found.as_json()["holdings"]["conversations"]


def test_overdue_is_only_what_has_waited_longer_than_the_rules_of_waiting(found: Status) -> None:
    # p2 was first seen 9 days ago and has no other time; p1, p3 and p4 are within the grace.
    assert found.overdue == 1


def test_the_newest_manifest_alone_says_the_same_of_all_but_what_is_settled(tmp_path: Path) -> None:
    fill(tmp_path)
    whole, head = metrics(status_of(tmp_path)), metrics(status_of(tmp_path, head_only=True))

    assert {name: samples for name, samples in whole.items() if name in head} == head
    assert whole.keys() - head.keys() == {"conversations", "payload_bytes"}


def test_an_empty_archive_waits_for_nothing_and_makes_up_no_times(tmp_path: Path) -> None:
    told = metrics(status_of(tmp_path))

    assert told["head_sequence"][0].value == 0
    assert values(told["pending_conversations"], "reason") == dict.fromkeys(REASONS, 0)
    assert {name for name in told if "timestamp" in name} == {"read_timestamp_seconds"}


def test_a_scope_without_a_watermark_and_an_audit_without_a_listing_give_no_number(found: Status) -> None:
    manifest = found.head.manifest
    assert manifest is not None
    scopes = {"all": manifest.scopes["all"].model_copy(update={"watermark": None})}
    bare = manifest.model_copy(update={"listing": None, "scopes": scopes})

    told = metrics(replace(found, head=replace(found.head, manifest=bare)))

    assert not {"head_listing_complete", "watermark_timestamp_seconds"} & told.keys()


# What names them


def printed(found: Status) -> dict[str, set[str]]:
    """Every gauge that there is, with its labels."""
    return {name: set(samples[0].labels) - {"archive_id"} for name, samples in read(text_of(found)).items()}


def test_every_metric_is_documented_and_no_other(found: Status) -> None:
    rows = re.findall(r"^\| `(formant_archive_\w+)` \|([^|]*)\|", PAGE, re.MULTILINE)

    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == printed(found)


def test_every_metric_bears_its_base_unit(found: Status) -> None:
    units = ("_timestamp_seconds", "_bytes", "conversations", "_sequence", "_complete", "_info")

    assert not [name for name in printed(found) if not name.endswith(units)]


def alerts() -> list[dict[str, Any]]:
    [block] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    [group] = yaml.safe_load(block)["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def test_the_alerts_are_rules_over_metrics_that_exist(found: Status) -> None:
    rules = alerts()

    assert rules
    for rule in rules:
        assert rule.keys() <= {"alert", "expr", "for", "annotations"}
        assert rule["annotations"]["summary"]
        assert set(NAME.findall(rule["expr"])) <= printed(found).keys()
        assert NAME.search(rule["expr"])
        assert re.fullmatch(r"\d+[mhd]", rule.get("for", "1h"))
    assert len({rule["alert"] for rule in rules}) == len(rules)


def exprs() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_the_dashboard_shows_metrics_that_exist_of_the_archive_that_was_chosen(found: Status) -> None:
    shown = [name for expr in exprs() for name in NAME.findall(expr)]

    assert set(shown) <= printed(found).keys()
    assert len(shown) == sum(expr.count('{archive_id=~"$archive"}') for expr in exprs())
    assert {"overdue_conversations", "failed_conversations", "pending_conversations", "conversations"} <= {
        name.removeprefix("formant_archive_") for name in shown
    }
    # What is left out: which archive it is, which its variable asks for.
    assert printed(found).keys() - set(shown) == {"formant_archive_info"}


def test_the_dashboard_groups_by_labels_that_exist(found: Status) -> None:
    for expr in exprs():
        labels = set(re.findall(r" by \((\w+)\)", expr))
        assert all(labels <= printed(found)[name] for name in NAME.findall(expr))


def test_the_dashboard_asks_whoever_imports_it_for_the_data_source() -> None:
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    sources = [panel["datasource"] for panel in DASHBOARD["panels"]]
    sources += [target["datasource"] for panel in DASHBOARD["panels"] for target in panel["targets"]]

    assert variables.keys() == {"datasource", "archive"}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert "label_values(formant_archive_info, archive_id)" in variables["archive"]["query"]["query"]


def test_no_two_panels_of_the_dashboard_lie_on_each_other() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (at["x"] + across, at["y"] + down) for at in places for across in range(at["w"]) for down in range(at["h"])
    ]

    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)

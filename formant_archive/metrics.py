"""Gauges, and how Prometheus reads them: its text format 0.0.4. Pure: numbers in, text out.

`docs/metrics.md` lists the gauges of an archive; `status` gives their numbers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: What all gauges of this project begin with.
PREFIX = "formant_archive_"


@dataclass(frozen=True)
class Sample:
    """One number, and the labels that tell it from the other numbers of its gauge."""

    value: float
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Gauge:
    """What is measured.

    Attributes:
        name: Without the prefix; it ends with the unit, where there is one.
        meaning: One line for whoever reads the output.
        samples: None at all where there is nothing to say: no number stands for that.
    """

    name: str
    meaning: str
    samples: tuple[Sample, ...]


def gauge(name: str, meaning: str, value: float | None) -> Gauge:
    """Make a gauge of one number, or of none."""
    return Gauge(name, meaning, () if value is None else (Sample(value, {}),))


def gauge_by(label: str, name: str, meaning: str, values: Mapping[str, float]) -> Gauge:
    """Make a gauge of a number for each value of a label."""
    return Gauge(name, meaning, tuple(Sample(value, {label: said}) for said, value in values.items()))


def exposition(gauges: Iterable[Gauge], labels: Mapping[str, str]) -> str:
    """Write gauges as Prometheus reads them; the labels go to each number."""
    return "".join(_written(one, labels) for one in gauges if one.samples)


def _written(one: Gauge, labels: Mapping[str, str]) -> str:
    name = PREFIX + one.name
    lines = [f"# HELP {name} {_escaped(one.meaning)}", f"# TYPE {name} gauge"]
    lines += [f"{name}{_braces({**labels, **sample.labels})} {sample.value}" for sample in one.samples]
    return "\n".join(lines) + "\n"


def _braces(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{name}={_quoted(value)}" for name, value in labels.items()) + "}" if labels else ""


def _quoted(text: str) -> str:
    return '"' + _escaped(text).replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")

"""What the benchmarks found: `benchmarks/results.json`, of which the documentation's tables and plot are made.

All figures in it are of one machine and the same versions. Where a run finds another machine or other versions than the
file tells of, the figures of those go: nobody shall compare them.
"""

import os
import platform
import re
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

FILE = Path(__file__).with_name("results.json")
#: Of these the versions are kept; beside them Python's.
LIBRARIES = ("formant-archive", "prefect", "httpx", "boto3", "moto")


def today() -> str:
    """Give the day, UTC."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def command() -> str:
    """Spell how this process was started."""
    return " ".join(["python", *sys.orig_argv[1:]])


def processor() -> str:
    """Name the processor, as Linux does."""
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def memory() -> int:
    """Give the machine's memory in GB (10⁹ bytes)."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)


def versions() -> dict[str, str]:
    """Name the versions of what the figures depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


class Part(BaseModel):
    """A part of the file, which never changes once it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(Part):
    """Where something was measured, and with which versions; by default here."""

    cores: int = Field(default_factory=lambda: os.cpu_count() or 0)
    memory_gb: int = Field(default_factory=memory)
    processor: str = Field(default_factory=processor)
    kernel: str = Field(default_factory=platform.release)
    versions: dict[str, str] = Field(default_factory=versions)


class Column(Part):
    """What the numbers of a column are, and how many digits after the point they are shown with."""

    name: str
    digits: int = 0
    unit: str = ""

    def show(self, value: float | None) -> str:
        """Spell a number with its unit; nothing where there is none."""
        return "" if value is None else f"{value:,.{self.digits}f}{self.unit}"


class Row(Part):
    """What was measured, and a number for each column; None where there is none."""

    label: str
    values: tuple[float | None, ...]


class Figure(Part):
    """What one command found.

    Attributes:
        name: Of the benchmark: `speed`.
        title: What is measured.
        note: With what: sizes, rounds.
        columns: The first one is what the plot shows.
        rows: The numbers.
        verdicts: Sentences that follow from the numbers: which goals are reached.
        command: That measures it again.
        date: Of the measurement, UTC.
    """

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    verdicts: tuple[str, ...] = ()
    command: str = Field(default_factory=command)
    date: str = Field(default_factory=today)


class Results(Part):
    """All figures, and where they are from."""

    machine: Machine = Field(default_factory=Machine)
    figures: dict[str, Figure] = {}

    def with_figure(self, figure: Figure, machine: Machine) -> "Results":
        """Take in a figure, and drop those of another machine or of other versions."""
        kept = self.figures if machine == self.machine else {}
        return Results(machine=machine, figures={**kept, figure.name: figure})


def read(path: Path = FILE) -> Results:
    """Read the file; without one, nothing was measured yet."""
    return Results.model_validate_json(path.read_text()) if path.exists() else Results()


def keep(figure: Figure, path: Path = FILE) -> None:
    """Write a figure into the file."""
    path.write_text(read(path).with_figure(figure, Machine()).model_dump_json(indent=1) + "\n")


def verdict(what: str, ratio: float, *, at_least: float = 0.0, at_most: float = float("inf")) -> str:
    """Say whether a goal is reached."""
    goal = f"at least {at_least:g}" if at_least else f"at most {at_most:g}"
    return f"{what}: {ratio:.2f}, goal {goal}: {'reached' if at_least <= ratio <= at_most else 'MISSED'}"

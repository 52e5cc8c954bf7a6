"""Where the time of the archive's threads goes, stage by stage: `python -m benchmarks.profile`.

py-spy looks at the stacks of all threads from outside, and ends with the process that it watches. (Python's own
`sys._current_frames` can stop a process for good before 3.11.9: python/cpython#106883.) It samples wall time: a thread
that waits for Python's lock, the disk or the API looks like one that works. Shares are of the time in which a thread
was at something; `threads` is how many were at it at once, on average. Looking takes time itself.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from cyclopts import App

from benchmarks.measure import Measure
from benchmarks.report import conclude
from benchmarks.results import Column, Figure, Row
from benchmarks.speed import say
from benchmarks.stage import ROOT, set_up

app = App(name="python -m benchmarks.profile", help=__doc__, help_format="plaintext", version_flags=())

#: Looks a second.
RATE = 50
COLUMNS = (Column(name="share of the time", digits=1, unit=" %"), Column(name="threads", digits=2))

#: Which function stands for which stage, wherever in the stack it is: the first of these that is there decides.
STAGES: dict[str, tuple[str, ...]] = {
    "seal: store the record": ("register.py:seal",),
    "commit the manifest": ("ledger.py:commit",),
    "store the payload": ("stores/directory.py:put", "stores/s3.py:put"),
    "check the payload": ("wav.py:inspect", "conversation.py:read_conversation"),
    "wait for a turn to ask": ("pacing.py:_admit",),
    "list a page": ("client.py:list_page",),
    "fetch a transcript": ("client.py:conversation",),
    "fetch a recording": ("client.py:recording",),
    "look for records": ("register.py:find_records", "register.py:read_folders"),
    "select, judge, settle": (
        *("run.py:take", "run.py:begin", "run.py:judge", "run.py:settle", "run.py:draft"),
        "settlement.py:with_answers",
    ),
    "the rest of a capture": ("capture.py:capture_conversation", "capture.py:capture_recording"),
}
WAITING, PREFECT, OTHER = "waiting for something to do", "Prefect: engine, events, logs", "anything else"
#: Where a thread waits that is in no stage: in Python's own modules, or in Prefect's heartbeat, which sleeps.
WAITS = re.compile(r"(/threading|/concurrent/futures/\w+|/selectors|/queue|/asyncio/base_events)\.py:|:heartbeat_loop$")
#: What the main thread is in while it works, and not in before.
WORK = "benchmarks/contact.py:work"


@app.default
def main(*, conversations: int = 2000, kilobytes: int = 300, latency: int = 0, keep: bool = False) -> None:
    """Sample the archive's flow.

    Args:
        conversations: How many it archives.
        kilobytes: The size of each recording.
        latency: Milliseconds before the simulated API begins an answer.
        keep: Write the figure into benchmarks/results.json and docs/.
    """
    with set_up(conversations, kilobytes, latency) as stage:
        stacks = stage.folder / "stacks.txt"
        watch = [str(Path(sys.executable).with_name("py-spy")), "record", "--rate", f"{RATE}", "--output", str(stacks)]
        watch += ["--format", "raw", "--idle", "--threads", "--full-filenames", "--"]
        measure = stage.measure("archive", conversations, under=watch)
        lines = stacks.read_text().splitlines()
    say("sampled", "archive", measure)
    note = f"{conversations:,} conversations, recordings of {kilobytes} kB, answers begin after {latency} ms, one run, "
    conclude(figure(lines, measure, note), keep=keep)


def figure(lines: Iterable[str], measure: Measure, note: str) -> Figure:
    """Lay out the shares, the largest first, and the idle threads last."""
    tally, looks = tallied(lines)
    waiting = tally.pop(WAITING, 0)
    busy = sum(tally.values())
    rows = [Row(label=name, values=(100 * count / busy, count / looks)) for name, count in tally.most_common()]
    return Figure(
        name="profile",
        title="Where the threads' time goes",
        note=f"{note}looks: {looks:,}, {measure.rate:.0f} conversations a second while looked at",
        columns=COLUMNS,
        rows=(*rows, Row(label=WAITING, values=(None, waiting / looks))),
    )


def tallied(lines: Iterable[str]) -> tuple[Counter[str], int]:
    """Count how often a thread was seen at what, and how many looks there were while the main thread worked.

    Args:
        lines: Of py-spy: `thread;frame;…;innermost frame count`, a frame `function (file:line)`.
    """
    tally: Counter[str] = Counter()
    looks = 0
    for line in lines:
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        places = [place(frame) for frame in frames]
        if WORK in places:
            looks += int(count)
        elif not places or thread.endswith("MainThread"):
            continue
        tally[stage_of(places)] += int(count)
    return tally, looks


def place(frame: str) -> str:
    """Spell a frame as `file:function`, ours without the folder: `capture.py:capture_recording`."""
    found = re.fullmatch(r"(?P<function>.*) \((?P<file>.*?)(:\d+)?\)", frame)
    if not found:
        return frame
    file = found["file"].removeprefix(f"{ROOT}/").removeprefix("formant_archive/")
    return f"{file}:{found['function'].rpartition('.')[2]}"


def stage_of(places: list[str]) -> str:
    """Name what a thread is at, by its stack, the innermost function last."""
    for stage, functions in STAGES.items():
        if not set(functions).isdisjoint(places):
            return stage
    if WAITS.search(places[-1]):
        return WAITING
    return PREFECT if any("/prefect/" in one for one in places) else OTHER


if __name__ == "__main__":
    sys.exit(app())

"""The command line: parse, call, print, exit. Nothing else prints or exits.

Exit codes: 0 well; 1 something is wrong with the archive or with some conversations; 2 usage or settings; 3 could not
tell (out of reach, not readable); 130 interrupted by Ctrl-C; 143 stopped by SIGTERM.
"""

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter, validators
from rich.console import Console

from formant_archive import __version__, status
from formant_archive.errors import ArchiveError, UsageError
from formant_archive.settings import load_settings
from formant_archive.simulator import Simulator
from formant_archive.stores import open_store

#: What is said of a run that was told to stop.
STAYS = "what was archived stays; the next run goes on from there"
#: Seconds after which a run that is told to stop waits for its threads no more, and again until it waits for nothing.
LAST_WORDS = 2
EXIT_CODES = (
    "Exit codes: 0 well, 1 something is wrong with the archive or some conversations,"
    " 2 usage or settings, 3 could not tell."
)

app = App(
    name="formant-archive",
    help="Look into an archive of FormantAI Voice conversations. What fills it: python -m flows.archive --help",
    help_epilogue=EXIT_CODES,
    version=__version__,
    suppress_keyboard_interrupt=False,
)
# No markup: a path, an agent or an error may hold brackets or colons.
out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def main() -> NoReturn:
    """Run `formant-archive`."""
    run(app)


def run(command: App) -> NoReturn:
    """Run a command and exit: an error is one line and its exit code."""
    sys.exit(exit_code(lambda: command(exit_on_error=False, print_error=False)))


def exit_code(work: Callable[[], Any]) -> int:
    """Do something and say how it ended; work may give a code of its own."""
    try:
        return int(work() or 0)
    except CycloptsError as fault:
        err.print(f"error: {' '.join(str(fault).split())}", style="red", markup=False)
        return UsageError.exit_code
    except ArchiveError as fault:
        err.print(f"error: {fault}", style="red", markup=False)
        return fault.exit_code
    except KeyboardInterrupt:
        err.print(f"interrupted: {STAYS}")
        return 130


@contextmanager
def stoppable(clean_up: Callable[[], None]) -> Iterator[Callable[..., None]]:
    """End the process within seconds of Ctrl-C or SIGTERM, whatever its threads are at: the next run takes it up.

    The work is interrupted at once; once more where it then waits for threads; and a little later it is given up. A
    second signal changes nothing.

    Args:
        clean_up: Called before such an end.

    Yields:
        Takes the signals back from a library that has taken them for itself.
    """
    told: list[int] = []
    is_over = False

    def tell(number: int, _frame: object) -> None:
        if told and number != signal.SIGALRM:
            return
        told.append(number)
        if is_over or len(told) > 2:
            leave()
        signal.alarm(LAST_WORDS)
        raise KeyboardInterrupt

    def leave() -> NoReturn:
        # The line that shows progress has hidden it.
        err.show_cursor()
        err.print(f"{'interrupted' if told[0] == signal.SIGINT else 'stopped'}: {STAYS}")
        clean_up()
        # Not `sys.exit`, which waits for every thread: a recording may take ten minutes.
        os._exit(128 + told[0])

    def listen(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, tell)

    listen()
    try:
        yield listen
    except BaseException:
        if not told:
            raise
    finally:
        is_over = True
    if told:
        leave()


def run_function(function: Callable[..., int], *, name: str) -> NoReturn:
    """Run a function as a command of its own and exit: how a flow is started from a terminal."""
    command = App(name=name, help_epilogue=EXIT_CODES, version_flags=(), suppress_keyboard_interrupt=False)
    command.default(function)
    run(command)


def end(sentence: str, code: int) -> None:
    """Print how a run ended: on the error's channel where it did not end well."""
    if code:
        err.print(f"failed: {sentence}", style="red", markup=False)
    else:
        out.print(sentence, markup=False)


class ProgressLines(logging.Handler):
    """Shows a run's progress: in place on a terminal, as plain lines elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._spinner = err.status("starting") if err.is_terminal else None
        self._last = ""

    def __enter__(self) -> "ProgressLines":
        if self._spinner:
            self._spinner.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._spinner:
            self._spinner.stop()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line that is marked as progress, once."""
        line = record.getMessage()
        if not getattr(record, "progress", False) or line == self._last:
            return
        self._last = line
        if self._spinner:
            self._spinner.update(line)
        else:
            err.print(line, markup=False)


Json = Annotated[bool, Parameter("--json", negative="", help="Print JSON instead of text.")]
Port = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65_535))]
Share = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))]
Count = Annotated[int, Parameter(validator=validators.Number(gte=0))]
ArchiveUrl = Annotated[str | None, Parameter(help="s3://bucket/prefix, file:///path or a path. Default: $ARCHIVE_URL.")]


@app.command(name="status")
def show_status(archive_url: ArchiveUrl = None, *, as_json: Json = False) -> None:
    """Say what is in the archive, what is pending and why, and how far each scope is."""
    settings = load_settings(archive_url=archive_url)
    found = status.read_status(open_store(settings.archive_url), datetime.now(UTC))
    if as_json:
        out.print_json(json.dumps(found.as_json()))
    else:
        print_status(settings.archive_url, found)


def print_status(url: str, found: status.Status) -> None:
    """Print an archive's status for a person."""
    manifest, held = found.head.manifest, found.holdings
    if manifest is None or found.head.link is None:
        out.print(f"{url}: no run has committed anything yet", markup=False)
        return
    rows: list[tuple[str, str]] = []
    rows.append(("archive", f"{url}  (id {manifest.archive_id}, source {manifest.source})"))
    days = f"{status.day_of(held.first_start)} to {status.day_of(held.last_start)}"
    rows.append(("settled", f"{held.conversations:,} conversations, {days}"))
    rows.append(("", f"{held.recordings:,} with a recording, {held.gone:,} gone; {held.bytes / 1e6:,.1f} MB"))
    rows.append(("agents", ", ".join(f"{agent}: {count:,}" for agent, count in sorted(held.agents.items()))))
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.pending.most_common())
    rows.append(("pending", f"{found.pending.total():,}" + (f"  ({reasons})" if reasons else "")))
    if found.failed:
        rows.append(("failed", f"{found.failed:,} of them, tried again by the next run"))
    if found.long_open:
        rows.append(("open", f"{found.long_open:,} of them in progress for more than 24 h: worth a look"))
    for name, scope in manifest.scopes.items():
        mark = "never listed completely" if scope.watermark is None else f"complete up to {_moment(scope.watermark)}"
        rows.append(("scope", f"{name}: {mark}"))
    committed = manifest.run.committed_at
    listing = "complete" if manifest.listing.complete else "INCOMPLETE"
    rows.append(("last run", f"{status.ago(datetime.now(UTC), committed)}, listing {listing}"))
    rows.append(("head", f"{manifest.sequence}:{found.head.link.sha256}"))
    for name, text in rows:
        # Not a table: it would cut what is wider than the terminal, and the head is to be copied.
        out.print(f"{name:<10}{text}")


def _moment(timestamp: int) -> str:
    try:
        return f"{datetime.fromtimestamp(timestamp / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{timestamp} ms, which is no date"


@app.command
def simulate(
    *,
    port: Port = 8080,
    seed: int = 0,
    conversations: Count = 250,
    order: Literal["newest_first", "oldest_first", "shuffled"] = "newest_first",
    late_recordings: Share = 0.0,
    never_recordings: Share = 0.0,
    late_transcripts: Share = 0.0,
    late_after: float | None = None,
    in_progress: Count = 0,
    faults: Share = 0.0,
    rate_limit: int | None = None,
    arrivals: float = 0.0,
    as_json: Json = False,
) -> None:
    """Serve a simulated FormantAI Voice API on this machine until Ctrl-C; its key is `simulated-key`.

    Args:
        port: Where, on 127.0.0.1; 0 takes a free one.
        seed: Everything follows from it.
        conversations: How many calls there were.
        order: How the list is sorted.
        late_recordings: Share of the completed calls whose recording comes late.
        never_recordings: Share of the completed calls that have no recording, ever.
        late_transcripts: Share of the completed calls whose transcript comes late.
        late_after: Seconds until everything late is there; without it, it never comes.
        in_progress: Calls that go on until everything late is there.
        faults: Share of the requests that fail: half of them 503, a fourth HTML, a fourth cut off.
        rate_limit: Requests a minute.
        arrivals: New calls a minute.
        as_json: Say where it is as JSON.
    """
    try:
        sim = Simulator(
            seed,
            conversations,
            order=order,
            late_recordings=late_recordings,
            never_recordings=never_recordings,
            late_transcripts=late_transcripts,
            in_progress=in_progress,
            rate_limit=rate_limit,
        )
    except ValueError as fault:
        raise UsageError(f"there is no such workspace: {fault}") from None
    if faults:
        sim.fault(share=faults / 2, status=503)
        sim.fault(share=faults / 4, body=b"<html>proxy error</html>", content_type="text/html")
        sim.fault(share=faults / 4, truncate_to=100)
    try:
        with sim.serve(port) as url:
            if as_json:
                out.print(json.dumps({"FORMANT_BASE_URL": url, "FORMANT_API_KEY": "simulated-key"}), markup=False)
            else:
                out.print(f"FORMANT_BASE_URL={url}\nFORMANT_API_KEY=simulated-key", markup=False)
            _let_calls_happen(sim, late_after, arrivals)
    except OSError as fault:
        raise UsageError(f"port {port} cannot be served: {fault.strerror}; take another with --port") from None


def _let_calls_happen(sim: Simulator, late_after: float | None, arrivals: float) -> NoReturn:
    """Let time pass in the simulated workspace, and say each minute what was asked of it."""
    began = said = time.monotonic()
    arrived = 0
    while True:
        time.sleep(0.2)
        now = time.monotonic()
        if late_after is not None and now - began >= late_after:
            sim.release()
            late_after = None
            err.print("everything late is there now")
        if (due := int((now - began) * arrivals / 60) - arrived) > 0:
            sim.add(due)
            arrived += due
        if now - said >= 60:
            said = now
            err.print(f"{sim.count():,} requests so far")

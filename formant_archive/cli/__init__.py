"""The command line: parse, call, print, exit. Nothing else prints or exits.

Exit codes: 0 well; 1 something is wrong with the archive or with some conversations; 2 usage or settings; 3 could not
tell (out of reach, not readable); 130 interrupted by Ctrl-C; 141 nobody reads the output any more, as after `| head`;
143 stopped by SIGTERM.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from formant_archive import __version__
from formant_archive.errors import ArchiveError, UsageError
from formant_archive.records import milliseconds

#: What is said of a run that was told to stop.
STAYS = "what was archived stays; the next run goes on from there"
#: Seconds after which a run that is told to stop waits for its threads no more, and again until it waits for nothing.
LAST_WORDS = 2
#: What is said first to whoever stops it.
_hints: list[str] = []
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


class Channel(Console):
    """A channel to whoever reads. No markup: a path, an agent or an error may hold brackets or colons."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def on_broken_pipe(self) -> NoReturn:
        """End quietly where nobody reads any more, with the code of a process that SIGPIPE ended."""
        with suppress(SystemExit):
            super().on_broken_pipe()
        raise SystemExit(128 + signal.SIGPIPE)


out = Channel()
err = Channel(stderr=True)
#: Marks that are not printable by Unicode's classes, and that Indian scripts, emoji and numbers need.
_NEEDED = "\u200c\u200d\xa0"


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


def say_if_stopped(hint: str) -> None:
    """Have a line printed where `stoppable` ends the process: how to go on with what was interrupted."""
    _hints.append(hint)


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
        for hint in _hints:
            err.print(hint, markup=False)
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
    command = App(
        name=name,
        help_epilogue=EXIT_CODES,
        version_flags=(),
        suppress_keyboard_interrupt=False,
        # A list is named by its items alone, not also by `--empty-…`.
        default_parameter=Parameter(negative_iterable=()),
    )
    command.default(function)
    run(command)


def end(sentence: str, code: int) -> None:
    """Print how a run ended: on the error's channel where it did not end well."""
    if code:
        err.print(f"failed: {sentence}", style="red", markup=False)
    else:
        out.print(sentence, markup=False)


class ProgressLines(logging.Handler):
    """Shows a run's progress: a bar and a line in place on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        line = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1))
        self._bar = Progress(SpinnerColumn(), BarColumn(20), line, console=err, transient=True, expand=True)
        # Of no length until it is known how much there is to do.
        self._task = self._bar.add_task("starting", total=None)
        self._last = ""

    def __enter__(self) -> "ProgressLines":
        if err.is_interactive:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if err.is_interactive:
            self._bar.stop()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line that is marked as progress, once; one that is marked to stay is printed above the others.

        A `percent` moves the bar; without one it stays where it is.
        """
        line = record.getMessage()
        if not getattr(record, "progress", False) or line == self._last:
            return
        self._last = line
        if err.is_interactive and not getattr(record, "stays", False):
            percent = getattr(record, "percent", None)
            total = None if percent is None else 100
            self._bar.update(self._task, description=line, completed=percent, total=total, refresh=True)
        else:
            err.print(line, markup=False)


def moment(timestamp: int) -> str:
    """Write a time of the API's (epoch ms) for a person."""
    try:
        return f"{datetime.fromtimestamp(timestamp / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{timestamp} ms, which is no date"


def harmless(text: str) -> str:
    """Spell out what a terminal would obey, hide or turn around: escapes, control characters, marks of direction.

    What was said in a call, and ids, are others' text. What the output cannot encode is spelled out as well.
    """
    shown = (one if one.isprintable() or one in _NEEDED else one.encode("unicode_escape").decode() for one in text)
    return "".join(shown).encode(out.encoding, "backslashreplace").decode(out.encoding)


Json = Annotated[bool, Parameter("--json", negative="", help="Print JSON instead of text.")]
ArchiveUrl = Annotated[str | None, Parameter(help="s3://bucket/prefix, file:///path or a path. Default: $ARCHIVE_URL.")]
AgentId = Annotated[str | None, Parameter(help="Only this agent's conversations; `unknown`: those that name none.")]
Since = Annotated[datetime | None, Parameter(help="Only what started on this day or later; a day or a time, UTC.")]
Until = Annotated[datetime | None, Parameter(help="Only what started before this day; a day or a time, UTC.")]


def epoch(time: datetime | None) -> int | None:
    """Turn a time that was typed, in UTC where it says nothing else, into epoch ms."""
    return None if time is None else milliseconds(time if time.tzinfo else time.replace(tzinfo=UTC))


# Named, not imported: `status` need not wait for what only `export` needs.
COMMANDS = {
    "doctor": "Look whether settings, API, store and Prefect are fit for the archive, before the first run.",
    "export": "Hand over conversations: a BagIt bag with a page to read, or vCons.",
    "verify": "Check the archive against its own manifests: nothing missing, nothing changed.",
    "hold": "Place or release a legal hold on conversations, or list what is held.",
    "retain": "Lock conversations until a later time; never for less.",
    "erase": "Remove transcripts and recordings for good, and write down who, why and on which basis.",
    "status": "Say what is in the archive, what is pending and why, and how far each scope is.",
    "list": "List conversations, the newest first.",
    "show": "Show one conversation: its record, its transcript, where its recording is. Reads all manifests.",
    "simulate": "Serve a simulated FormantAI Voice API on this machine until Ctrl-C; its key is `simulated-key`.",
}
for name, job in COMMANDS.items():
    app.command(f"formant_archive.cli.{name}:run_{name}", name=name, help=job)

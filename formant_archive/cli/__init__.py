"""The command line: parse, call, print, exit. Nothing else prints or exits.

Exit codes: 0 well; 1 something is wrong with the archive or with some conversations; 2 usage or settings; 3 could not
tell (out of reach, not readable); 130 interrupted by Ctrl-C; 143 stopped by SIGTERM.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from formant_archive import __version__
from formant_archive.errors import ArchiveError, UsageError

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


def moment(timestamp: int) -> str:
    """Write a time of the API's (epoch ms) for a person."""
    try:
        return f"{datetime.fromtimestamp(timestamp / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{timestamp} ms, which is no date"


Json = Annotated[bool, Parameter("--json", negative="", help="Print JSON instead of text.")]
ArchiveUrl = Annotated[str | None, Parameter(help="s3://bucket/prefix, file:///path or a path. Default: $ARCHIVE_URL.")]

# Named, not imported: `status` need not wait for what only `export` needs.
COMMANDS = {
    "status": "Say what is in the archive, what is pending and why, and how far each scope is.",
    "simulate": "Serve a simulated FormantAI Voice API on this machine until Ctrl-C; its key is `simulated-key`.",
}
for name, job in COMMANDS.items():
    app.command(f"formant_archive.cli.{name}:run_{name}", name=name, help=job)

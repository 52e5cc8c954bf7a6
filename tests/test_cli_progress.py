"""How far a run is: a bar and a line in place on a terminal, plain lines elsewhere."""

import os
import pty
import re
import subprocess
import sys

PROGRAM = """
import logging
from formant_archive import cli

log = logging.getLogger("run")
log.setLevel(logging.INFO)
with cli.ProgressLines() as lines:
    log.addHandler(lines)
    log.info("listing", extra={"progress": True})
    log.info("not for the terminal")
    log.info("plan 7", extra={"progress": True, "stays": True})
    for percent in (0, 50, 50):
        log.info(f"{percent} of 100 done, [bold]" + 200 * "x", extra={"progress": True, "percent": percent})
cli.end("all done", 0)
"""


def on_a_terminal(kind: str) -> str:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": kind, "COLUMNS": "80"}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 65536):
                said += piece
        except OSError:  # how Linux says that the other end is closed
            pass
        finally:
            os.close(ours)
    assert process.wait(timeout=30) == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", said.decode())


def test_on_a_terminal_a_bar_grows_in_place_and_what_is_to_stay_is_printed_above() -> None:
    said = on_a_terminal("xterm")
    shown = re.findall(r"(━*[╸╺]?━*) (\d+) of 100 done, \[bold\]x+…", said)

    assert {(len(bar), percent) for bar, percent in shown} == {(20, "0"), (20, "50")}
    assert re.search(r"(^|\r|\n|K)plan 7\r?\n", said)
    assert "not for the terminal" not in said
    # What was in place is wiped out in the end.
    assert said.rstrip().endswith("\x1b[2Kall done")


def test_a_terminal_that_cannot_go_back_gets_plain_lines() -> None:
    lines = on_a_terminal("dumb").replace("\r", "").splitlines()

    assert [line[:20] for line in lines] == [
        "listing",
        "plan 7",
        "0 of 100 done, [bold",
        "50 of 100 done, [bol",
        "all done",
    ]


def test_where_there_is_no_terminal_each_line_is_said_once() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)

    assert [line[:13] for line in ended.stderr.splitlines()] == ["listing", "plan 7", "0 of 100 done", "50 of 100 don"]
    assert ended.stdout == "all done\n"

"""One line of a doctor's report."""

from collections.abc import Callable, Iterable
from typing import Literal

from pydantic import BaseModel

from formant_archive.errors import ArchiveError

#: Seconds by which two clocks may differ: beyond that, times in records are not to be relied upon.
CLOCKS = 60


class Check(BaseModel, frozen=True):
    """What was found.

    Attributes:
        name: What was looked at.
        state: `skipped`: it was not asked for, or there is nothing to look at.
        text: What was found and, unless it is well, what to do.
        code: The exit code of a failure: 2 settings or store to be changed, 3 could not tell.
    """

    name: str
    state: Literal["ok", "warning", "failure", "skipped"]
    text: str
    code: int = 0


def ok(name: str, text: str) -> Check:
    """Well."""
    return Check(name=name, state="ok", text=text)


def warning(name: str, text: str) -> Check:
    """The pipeline will run, and something about it is not as it should be."""
    return Check(name=name, state="warning", text=text)


def failure(name: str, text: str, code: int = 2) -> Check:
    """The pipeline cannot run, or must not."""
    return Check(name=name, state="failure", text=text, code=code)


def skipped(name: str, text: str) -> Check:
    """Not looked at."""
    return Check(name=name, state="skipped", text=text)


def told(name: str, look: Callable[[], Check]) -> Check:
    """Look at something; an error of this project's is a failure with the error's own words."""
    try:
        return look()
    except ArchiveError as fault:
        return failure(name, str(fault), fault.exit_code)


def clock(name: str, seconds: float | None) -> Check:
    """Judge how many seconds another clock is ahead of ours."""
    if seconds is None:
        return skipped(name, "it does not tell its time")
    if abs(seconds) <= CLOCKS:
        return ok(name, f"{abs(seconds):.0f} s apart")
    way = "ahead of" if seconds > 0 else "behind"
    return warning(name, f"{abs(seconds):.0f} s {way} this machine's: set the clock that is wrong (NTP)")


def exit_code(checks: Iterable[Check]) -> int:
    """Say how it ends: 0 where nothing failed, 3 where it only could not be told."""
    codes = {check.code for check in checks if check.state == "failure"}
    return next((code for code in (2, 1, 3) if code in codes), 0)

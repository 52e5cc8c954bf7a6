"""Processes that take turns: each stops before every step, and goes on, or dies there, when the schedule says so."""

from collections.abc import Callable

from greenlet import getcurrent, greenlet


class Killed(BaseException):
    """`kill -9`: nothing that the process does from here on has any effect."""


class Process:
    """One process of the simulation.

    Args:
        work: What it does; it is handed the process, whose `step` it must call before each effect.
    """

    def __init__(self, work: Callable[["Process"], None]) -> None:
        self._schedule = getcurrent()
        self._greenlet = greenlet(lambda: self._live(work))
        self._is_dying = False
        self.was_killed = False
        self.name = self.next_step = "start"

    @property
    def is_over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._greenlet.dead

    def go(self) -> None:
        """Let it take its next step."""
        self._greenlet.switch()

    def kill(self) -> None:
        """Let it die before its next step."""
        self._is_dying = True
        self._greenlet.switch()
        if not self.is_over:
            raise AssertionError(f"a killed process went on: {self.next_step}")

    def step(self, what: str) -> None:
        """Wait for the schedule."""
        self.next_step = what
        if not self._is_dying:
            self._schedule.switch()
        if self._is_dying:
            raise Killed

    def _live(self, work: Callable[["Process"], None]) -> None:
        try:
            work(self)
        except Killed:
            self.was_killed = True

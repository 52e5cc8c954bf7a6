"""Chance that can be repeated: every random number of the simulator comes from here."""

import random


def dice(*parts: object) -> random.Random:
    """Gives the random numbers that belong to these parts, the same in every process and on every machine.

    Args:
        *parts: What the numbers are for: the seed first, then whatever tells one purpose from another.
    """
    return random.Random("/".join(map(str, parts)))  # noqa: S311

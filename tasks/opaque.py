"""Handing a task what Prefect need not look into."""

from typing import TypeVar, cast

from prefect.utilities.annotations import quote

Value = TypeVar("Value")


def opaque(value: Value) -> Value:
    """Wrap an argument, so that Prefect does not search all of it for futures; the task gets the value."""
    return cast(Value, quote(value))

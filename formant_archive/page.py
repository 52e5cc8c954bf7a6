"""One page of the API's list, made from its JSON: references without phone numbers, and how many there should be."""

from dataclasses import dataclass

from pydantic import ValidationError

from formant_archive.patience import BadPage
from formant_archive.records import Reference


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the list.

    Attributes:
        references: Its rows, in the API's order.
        has_more: What the API says; advice, not a fact.
        total: How many conversations the API says there are.
    """

    references: tuple[Reference, ...]
    has_more: bool
    total: int


def read_page(payload: object, host: str) -> Page:
    """Make a page of parsed JSON.

    Raises:
        BadPage: It is none; the text says why and shows nothing of it.
    """
    rows = payload.get("data") if isinstance(payload, dict) else None
    if not isinstance(payload, dict) or not isinstance(rows, list):
        raise BadPage(f"{host} answered with a page that is no list of conversations")
    total = payload.get("total")
    if type(total) is not int or total < 0:
        raise BadPage(f"{host} answered with a page whose total is no whole number")
    references = _references(rows)
    if references is None:
        raise BadPage(f"{host} answered with a page that has a row without a conversation's id")
    return Page(references, bool(payload.get("has_more")), total)


def _references(rows: list[object]) -> tuple[Reference, ...] | None:
    try:
        return tuple(Reference.model_validate(row) for row in rows)
    # Dropped here, and nothing is raised in its place: the error holds the rows.
    except ValidationError:
        return None

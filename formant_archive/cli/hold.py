"""`formant-archive hold`: conversations under legal hold, by case."""

import json
from typing import Annotated, Literal

from cyclopts import Parameter

from formant_archive.catalogue import EVERYTHING, Selection
from formant_archive.cli import ArchiveUrl, Json, harmless, out
from formant_archive.cli.custodian import By, custodian, tell
from formant_archive.cli.selection import NOTHING, Which
from formant_archive.custody import check_case
from formant_archive.errors import UsageError
from formant_archive.ledger import read_head
from formant_archive.records import Held
from formant_archive.settings import load_settings
from formant_archive.stores import open_store

Deed = Annotated[Literal["place", "release", "list"], Parameter(help="What to do.")]
Case = Annotated[str | None, Parameter(help="The case's name: A-Z a-z 0-9 . _ - and no private data.")]


def run_hold(
    deed: Deed,
    /,
    *ids: Annotated[str, Parameter(help="These conversations.")],
    case: Case = None,
    which: Which = NOTHING,
    by: By = None,
    archive_url: ArchiveUrl = None,
    as_json: Json = False,
) -> int:
    """Place or release a legal hold on conversations, or list what is held.

    Placing again changes nothing and makes good what an interrupted command left. `release` without a selection ends
    the whole case.
    """
    selection = which.selection(ids)
    if deed == "list":
        return list_holds(archive_url, case, selection, as_json=as_json)
    if case is None:
        raise UsageError("--case is needed: the name under which the hold is placed and released")
    check_case(case)
    if deed == "place" or which.everything:
        selection = which.checked(ids)
    with custodian(archive_url, by) as (officer, store, _):
        if deed == "place":
            done = officer.place(case, selection)
            return tell(f"held for {case}", done, selection, as_json=as_json)
        if selection == EVERYTHING:
            held = officer.holds().values()
            selection = Selection(ids=frozenset(one.conversation_id for one in held if case in one.cases))
            if not selection.ids:
                raise UsageError(f"nothing is held for {case}: `formant-archive hold list` names the cases")
        done = officer.release(case, selection, store)
        return tell(f"released from {case}", done, selection, as_json=as_json)


def list_holds(archive_url: str | None, case: str | None, selection: Selection, *, as_json: bool) -> int:
    """Print a line for each conversation that is held: its id, and the cases."""
    head = read_head(open_store(load_settings(archive_url=archive_url).archive_url))
    found = [one for one in head.state.holds.values() if _is_asked_for(one, case, selection)]
    for one in sorted(found, key=lambda held: held.conversation_id):
        line = json.dumps(one.model_dump()) if as_json else f"{harmless(one.conversation_id)}  {' '.join(one.cases)}"
        out.print(line)
    if not as_json and not found:
        out.print("nothing is held")
    return 0


def _is_asked_for(one: Held, case: str | None, selection: Selection) -> bool:
    return case in (None, *one.cases) and (selection.ids is None or one.conversation_id in selection.ids)

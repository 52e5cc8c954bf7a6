"""Which conversations a command is about: the options that select them, the same for every command that acts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from formant_archive.catalogue import EVERYTHING, Outcome, Selection
from formant_archive.cli import AgentId, Since, Until, epoch
from formant_archive.errors import UsageError

Ids = Annotated[tuple[str, ...], Parameter(negative="", help="These conversations.")]
IdsFrom = Annotated[Path | None, Parameter(help="A file with an id on each line, in UTF-8.")]
Status = Annotated[str | None, Parameter(help="Only conversations of this status.")]
WithOutcome = Annotated[Outcome | None, Parameter(help="Only what has become this.")]
Everything = Annotated[bool, Parameter(negative="", help="All conversations of the archive.")]


@Parameter(name="*")
@dataclass(frozen=True)
class Which:
    """The options that select conversations; each is an option of the command itself."""

    ids_from: IdsFrom = None
    agent_id: AgentId = None
    since: Since = None
    until: Until = None
    status: Status = None
    outcome: WithOutcome = None
    everything: Everything = False

    def selection(self, ids: tuple[str, ...]) -> Selection:
        """Give what was selected, together with the ids that were named on the line; it may be everything.

        Raises:
            UsageError: The file of ids cannot be read.
        """
        return Selection(
            ids=frozenset(ids) | read_ids(self.ids_from) if ids or self.ids_from else None,
            agent_id=self.agent_id,
            since=epoch(self.since),
            until=epoch(self.until),
            status=self.status,
            outcome=self.outcome,
        )

    def checked(self, ids: tuple[str, ...]) -> Selection:
        """Give what was selected; refuse to take everything unless it was asked for.

        Raises:
            UsageError: Nothing was selected; or something, and everything.
        """
        selection = self.selection(ids)
        if self.everything and selection != EVERYTHING:
            raise UsageError("--everything is without a selection: leave one of them out")
        if not self.everything and selection == EVERYTHING:
            raise UsageError("nothing is selected: name ids, or --since, --agent-id and so on, or --everything")
        return selection


#: Nothing was selected.
NOTHING = Which()


def read_ids(path: Path | None) -> frozenset[str]:
    """Read the ids of a file, one on each line; a line's own spaces at its ends and empty lines do not count.

    Raises:
        UsageError: It cannot be read.
    """
    if path is None:
        return frozenset()
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as fault:
        raise UsageError(f"--ids-from {path}: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--ids-from {path}: it is not UTF-8 text") from None
    return frozenset(line.strip() for line in lines) - {""}

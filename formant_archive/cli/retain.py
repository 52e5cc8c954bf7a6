"""`formant-archive retain`: keep conversations longer. Nothing is ever kept for less."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from cyclopts import Parameter

from formant_archive.catalogue import Selection
from formant_archive.cli import AgentId, ArchiveUrl, Json, Since, Until, epoch
from formant_archive.cli.custodian import By, chosen, custodian, tell
from formant_archive.cli.selection import Everything, IdsFrom, Status, WithOutcome, check_selection
from formant_archive.errors import UsageError

ExtendTo = Annotated[datetime, Parameter(help="Locked at least until then; a day or a time, UTC.")]
AsMode = Annotated[Literal["governance", "compliance"] | None, Parameter(help="How hard. Default: $ARCHIVE_LOCK_MODE.")]


def run_retain(
    *ids: Annotated[str, Parameter(help="These conversations.")],
    extend_to: ExtendTo,
    mode: AsMode = None,
    ids_from: IdsFrom = None,
    agent_id: AgentId = None,
    since: Since = None,
    until: Until = None,
    status: Status = None,
    outcome: WithOutcome = None,
    everything: Everything = False,
    by: By = None,
    archive_url: ArchiveUrl = None,
    as_json: Json = False,
) -> int:
    """Lock conversations until a later time, with the manifests that prove them. A lock is never shortened."""
    selection = Selection(
        ids=chosen(ids, ids_from),
        agent_id=agent_id,
        since=epoch(since),
        until=epoch(until),
        status=status,
        outcome=outcome,
    )
    check_selection(selection, everything=everything)
    end = (extend_to if extend_to.tzinfo else extend_to.replace(tzinfo=UTC)).replace(microsecond=0)
    with custodian(archive_url, by) as (officer, store, settings):
        cap = settings.archive_retention_cap_days
        if end > datetime.now(UTC) + timedelta(days=cap):
            raise UsageError(
                f"--extend-to is beyond the cap of {cap:,} days from now: such a lock could not be undone."
                " Correct it, or raise ARCHIVE_RETENTION_CAP_DAYS"
            )
        if end <= datetime.now(UTC):
            raise UsageError("--extend-to is over already: name a time to come")
        how = mode or settings.archive_lock_mode
        if how is None:
            raise UsageError("say --mode governance or --mode compliance, or set ARCHIVE_LOCK_MODE")
        if not store.keeps_holds:
            raise UsageError("a folder cannot lock: this is for a bucket with Object Lock")
        done = officer.extend(end, "GOVERNANCE" if how == "governance" else "COMPLIANCE", selection)
        return tell(f"locked until {end:%Y-%m-%d %H:%M:%S} UTC", done, selection, as_json=as_json)

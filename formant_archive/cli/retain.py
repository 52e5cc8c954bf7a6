"""`formant-archive retain`: keep conversations longer. Nothing is ever kept for less."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from cyclopts import Parameter

from formant_archive.cli import ArchiveUrl, Json
from formant_archive.cli.custodian import By, custodian, tell
from formant_archive.cli.selection import NOTHING, Which
from formant_archive.errors import UsageError

ExtendTo = Annotated[datetime, Parameter(help="Locked at least until then; a day or a time, UTC.")]
AsMode = Annotated[Literal["governance", "compliance"] | None, Parameter(help="How hard. Default: $ARCHIVE_LOCK_MODE.")]


def run_retain(
    *ids: Annotated[str, Parameter(help="These conversations.")],
    extend_to: ExtendTo,
    mode: AsMode = None,
    which: Which = NOTHING,
    by: By = None,
    archive_url: ArchiveUrl = None,
    as_json: Json = False,
) -> int:
    """Lock conversations until a later time, with the manifests that prove them. A lock is never shortened."""
    selection = which.checked(ids)
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

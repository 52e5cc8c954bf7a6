"""The audit's long steps: reading the archive, and adopting what a killed run left."""

from datetime import UTC, datetime

from prefect import task

from formant_archive import ledger
from formant_archive.audit import Audit
from formant_archive.crew import abreast
from formant_archive.manifest import RunNote
from formant_archive.settings import current_settings
from formant_archive.verify import Depth, Verification
from tasks import connections
from tasks.retries import ON_OUTAGE


@task(task_run_name="verify-archive", **ON_OUTAGE)
def verify_archive(depth: Depth | None) -> Audit:
    """Verify the archive against its own manifests."""
    verification = Verification(connections.store(), depth=depth, each=abreast)
    audit = Audit(verification, overlap=current_settings().policy.overlap_ms, now=datetime.now(UTC))
    audit.verify()
    return audit


@task(task_run_name="adopt-leftovers", **ON_OUTAGE)
def adopt_leftovers(audit: Audit, run: RunNote) -> None:
    """Commit a manifest that names the records which no manifest names."""
    store = connections.store()
    settings = current_settings()
    audit.adopt(
        store,
        ledger.read_head(store),
        run,
        allow_unsafe=settings.archive_allow_unsafe_store,
        retention=settings.policy.longest_retention(datetime.now(UTC)),
        each=abreast,
    )

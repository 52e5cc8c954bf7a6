"""Manifests: reading the newest one, and committing the next."""

from uuid import uuid4

from prefect import task

from formant_archive import ledger
from formant_archive.ledger import Draft, Head
from formant_archive.race import proved
from formant_archive.settings import current_settings
from tasks import connections
from tasks.retries import ON_OUTAGE


@task(task_run_name="read-head", **ON_OUTAGE)
def read_head() -> Head:
    """Read the newest manifest and the state that it hands on; in an empty archive, try the store first."""
    store = connections.store()
    return proved(
        store,
        ledger.read_head(store),
        str(uuid4()),
        allow_unsafe=current_settings().archive_allow_unsafe_store,
        each=connections.record_threads().map,
    )


@task(task_run_name="commit-manifest", **ON_OUTAGE)
def commit_manifest(head: Head, draft: Draft) -> Head:
    """Write the next manifest."""
    return ledger.commit(
        connections.store(),
        head,
        draft,
        allow_unsafe=current_settings().archive_allow_unsafe_store,
        each=connections.record_threads().map,
    )

"""Manifests: reading the newest one, proving that a store can hold them, and committing the next."""

from uuid import uuid4

from prefect import task

from formant_archive import ledger, race
from formant_archive.crew import abreast
from formant_archive.ledger import Draft, Head
from formant_archive.settings import current_settings
from tasks import connections
from tasks.retries import ON_OUTAGE


@task(task_run_name="read-head", **ON_OUTAGE)
def read_head() -> Head:
    """Read the newest manifest and the state that it hands on."""
    return ledger.read_head(connections.store())


def is_proved(head: Head) -> bool:
    """Whether the store needs no race."""
    return race.is_proved(head, allow_unsafe=current_settings().archive_allow_unsafe_store)


@task(task_run_name="prove-store", **ON_OUTAGE)
def prove_store(head: Head) -> Head:
    """Let many writers race for one key, several times; refuse a store that lets more than one win."""
    return race.proved(
        connections.store(),
        head,
        str(uuid4()),
        allow_unsafe=current_settings().archive_allow_unsafe_store,
        # All at once, which is the point, and what a crew may not do.
        each=abreast,
    )


@task(task_run_name="commit-manifest", **ON_OUTAGE)
def commit_manifest(head: Head, draft: Draft) -> Head:
    """Write the next manifest."""
    return ledger.commit(
        connections.store(),
        head,
        draft,
        allow_unsafe=current_settings().archive_allow_unsafe_store,
        each=connections.record_crew().map,
    )

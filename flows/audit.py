"""Compare what the API lists, what the manifests name and what lies in the bucket.

    python -m flows.audit --sample 1/30
    python -m flows.audit --against-source

Scheduled each night and each week by `prefect.yaml`. It changes nothing, but for one manifest that names the records
which killed runs have left; what the source has deleted stays.
"""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows import report, terminal
from flows.pages import listed
from formant_archive import __version__, cli
from formant_archive.audit import Audit
from formant_archive.errors import ArchiveError
from formant_archive.manifest import RunNote
from formant_archive.verify import depth_of
from tasks import events
from tasks.audits import adopt_leftovers, verify_archive
from tasks.opaque import opaque

Share = Annotated[str, Field(pattern=r"^1/[1-9][0-9]{0,3}$")]


@flow(name="audit-archive", persist_result=False)
def audit_archive(
    deep: bool = False, sample: Share | None = None, against_source: bool = False, adopt: bool = True
) -> State[Any]:
    """Verify the archive, compare it with the source, adopt what killed runs left.

    Args:
        deep: Read and hash every byte of every payload.
        sample: Read the bytes of a share of them, another each day: 1/30.
        against_source: List the source to its end and compare.
        adopt: Commit a manifest that names the records which no manifest names, if the archive is sound.
    """
    began = datetime.now(UTC)
    parameters = {"deep": deep, "sample": sample, "against_source": against_source, "adopt": adopt}
    try:
        audit = verify_archive(depth_of(deep=deep, sample=sample, day=began.date()))
        if against_source:
            compare_with_source(audit)
        # Nothing is put on top of a chain that is broken.
        if adopt and audit.leftovers and audit.report.verdict == "VALID":
            adopt_leftovers(opaque(audit), note(parameters, began))
    except ArchiveError as fault:
        return Failed(message=str(fault), data={"exit_code": fault.exit_code})
    events.emit_audit(audit)
    report.publish_audit(audit)
    end = Completed if audit.is_well else Failed
    return end(message=audit.sentence, data={"exit_code": audit.exit_code})


def compare_with_source(audit: Audit) -> None:
    """List the source to its end, and compare."""
    for page in listed(audit.listing, None):
        audit.take(page.references, page.total)
    audit.compare()


def note(parameters: dict[str, Any], began: datetime) -> RunNote:
    """Say which run commits a manifest."""
    return RunNote(
        id=str(uuid4()),
        part=1,
        flow="audit_archive",
        version=__version__,
        parameters=parameters,
        started_at=began,
        committed_at=datetime.now(UTC),
    )


def main(*, deep: bool = False, sample: str | None = None, against_source: bool = False, adopt: bool = True) -> int:
    """Verify the archive, compare it with the source, adopt what killed runs left.

    Args:
        deep: Read and hash every byte of every payload.
        sample: Read the bytes of a share of them, another each day: 1/30.
        against_source: List the source to its end and compare; needs FORMANT_API_KEY.
        adopt: Commit a manifest that names the records which no manifest names.
    """
    depth_of(deep=deep, sample=sample, day=datetime.now(UTC).date())
    return terminal.run(
        audit_archive,
        needs_key=against_source,
        deep=deep,
        sample=sample,
        against_source=against_source,
        adopt=adopt,
    )


if __name__ == "__main__":
    cli.run_function(main, name="python -m flows.audit")

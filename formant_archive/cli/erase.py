"""`formant-archive erase`: remove the payloads of conversations, and write down who, why and on which basis."""

import json
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from formant_archive.cli import ArchiveUrl, Json, err, harmless, out
from formant_archive.cli.custodian import By, eraser, said
from formant_archive.cli.selection import NOTHING, Which
from formant_archive.erasure import Erasure

Reason = Annotated[str, Parameter(help="Why; it stays in the archive: no names, no numbers.")]
LegalBasis = Annotated[str, Parameter(help="What allows it, such as `GDPR 17(1)(b)`.")]
Bypass = Annotated[
    bool, Parameter(negative="", help="Also what a GOVERNANCE lock forbids; needs s3:BypassGovernanceRetention.")
]


def run_erase(
    *ids: Annotated[str, Parameter(help="These conversations.")],
    reason: Reason,
    legal_basis: LegalBasis,
    which: Which = NOTHING,
    bypass_governance: Bypass = False,
    by: By = None,
    archive_url: ArchiveUrl = None,
    as_json: Json = False,
) -> int:
    """Remove transcripts and recordings for good, where no lock and no hold forbids it. The records stay."""
    selection = which.checked(ids)
    why, basis = said(reason, "--reason"), said(legal_basis, "--legal-basis")
    with eraser(archive_url, by, bypass=bypass_governance) as somebody:
        done = somebody.erase(selection, reason=why, legal_basis=basis)
    if as_json:
        out.print(json.dumps(asdict(done)))
    else:
        print_done(done)
    return int(bool(done.refused) or not done.conversations)


def print_done(done: Erasure) -> None:
    """Say what was erased, and a line for each conversation that was not."""
    where = "" if done.manifest is None else f", manifest {done.manifest}"
    out.print(f"erased: {done.conversations:,} conversations, {done.objects:,} objects removed{where}")
    for one in done.refused:
        err.print(f"error: {harmless(one.conversation_id)}: {one.why}", style="red")

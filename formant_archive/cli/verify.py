"""`formant-archive verify`: the archive against its own manifests."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from formant_archive.catalogue import Selection
from formant_archive.cli import AgentId, ArchiveUrl, Json, Since, Until, epoch, err, out
from formant_archive.crew import abreast
from formant_archive.findings import CODES, EXIT_CODES, Finding
from formant_archive.settings import load_settings
from formant_archive.stores import open_store
from formant_archive.verify import Expected, Report, Tell, Verification, depth_of

#: Findings of one code that a person is shown; `--json` gives all.
SHOWN = {"damage": 20, "unverified": 20, "warning": 20, "note": 3}
STYLES = {"damage": "red", "unverified": "yellow", "warning": "yellow", "note": None}

Sample = Annotated[str | None, Parameter(help="Read the bytes of a share of them, another each day: 1/30.")]
ExpectHead = Annotated[str | None, Parameter(help="A manifest noted outside, which must be in the chain: 42:<sha256>.")]


def run_verify(
    archive_url: ArchiveUrl = None,
    *,
    deep: Annotated[bool, Parameter(negative="", help="Read and hash every byte of every payload.")] = False,
    sample: Sample = None,
    since: Since = None,
    until: Until = None,
    agent_id: AgentId = None,
    expect_head: ExpectHead = None,
    as_json: Json = False,
) -> int:
    """Check the archive against its own manifests: nothing missing, nothing changed."""
    depth = depth_of(deep=deep, sample=sample, day=datetime.now(UTC).date())
    settings = load_settings(archive_url=archive_url)
    with progress() as tell:
        verification = Verification(
            open_store(settings.archive_url),
            depth=depth,
            selection=Selection(agent_id=agent_id, since=epoch(since), until=epoch(until)),
            expected=None if expect_head is None else Expected.read(expect_head),
            each=abreast,
            tell=tell,
        )
        with closing(verification.catalogue):
            show = print_json if as_json else Findings()
            for finding in verification.findings():
                show(finding)
    if as_json:
        out.print(json.dumps(verification.report.as_json()))
    else:
        print_report(settings.archive_url, verification.report)
    return EXIT_CODES[verification.report.verdict]


@contextmanager
def progress() -> Iterator[Tell]:
    """Show how far it is, on a terminal alone: a log has no use for it."""
    if not err.is_terminal:
        yield lambda line: None
        return
    with err.status("looking for the manifests") as shown:
        yield shown.update


def print_json(finding: Finding) -> None:
    """Print a finding as a line of JSON."""
    out.print(json.dumps({"code": finding.code, "severity": finding.severity, **finding.model_dump()}))


class Findings:
    """Prints findings for a person: the first of each code."""

    def __init__(self) -> None:
        self._shown = Counter[str]()

    def __call__(self, finding: Finding) -> None:
        """Print one."""
        code = finding.code
        self._shown[code] += 1
        shown = SHOWN[finding.severity]
        if self._shown[code] <= shown:
            line = f"{code} {finding.severity:<10} {finding.key}"
            why = f"expected {finding.expected}, found {finding.found}" if finding.expected else finding.meaning
            out.print(f"{line}\n     {why}", style=STYLES[finding.severity])
        elif self._shown[code] == shown + 1:
            out.print(f"{code} and more of them: see the end, or --json")


def print_report(url: str, report: Report) -> None:
    """Print what was looked at, and the verdict."""
    rows: list[tuple[str, str]] = []
    rows.append(("archive", url))
    rows.append(("chain", f"{report.manifests:,} manifests"))
    rows.append(("settled", f"{report.conversations:,} conversations, {report.records:,} records"))
    read = f"{report.bytes_read / 1e6:,.1f} MB read" if report.bytes_read else "sizes only, no bytes read: see --deep"
    rows.append(("payloads", f"{report.payloads:,}, {read}"))
    rows.append(("pending", f"{report.pending:,}"))
    for code, count in sorted(report.tally.codes.items()):
        rows.append((code, f"{count:,} × {CODES[code][1]} ({CODES[code][0]})"))
    rows.append(("head", report.pinned_head or "none"))
    for name, text in rows:
        out.print(f"{name:<10}{text}")
    style = {"VALID": "bold green", "DAMAGED": "bold red"}.get(report.verdict, "bold yellow")
    out.print(report.verdict, style=style)

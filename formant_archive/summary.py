"""What a run comes to, in words and numbers: the same for Prefect's state, its artifacts and the terminal."""

from collections.abc import Mapping
from dataclasses import dataclass

from formant_archive.records import Link


@dataclass(frozen=True)
class Summary:
    """A run's end.

    Attributes:
        scope: What was listed.
        counts: The counts of all the run's manifests, added up.
        complete: Whether the listing was.
        missing: How many conversations the API promised and did not show; None where the list could not be finished.
        pages: Pages listed.
        head: The newest manifest: to be kept outside the archive by whoever wants to know of a cut-off tail.
        sequence: Its number.
    """

    scope: str
    counts: Mapping[str, int]
    complete: bool
    missing: int | None
    pages: int
    head: Link | None
    sequence: int

    @property
    def is_well(self) -> bool:
        """Whether everything that was listed is settled or rightly waited for."""
        return self.complete and not self.counts["failed"]

    @property
    def sentence(self) -> str:
        """Say it in one line, counts only."""
        counts = self.counts
        settled = counts["archived"] + counts["archived_without_recording"]
        parts = [f"{counts['listed']:,} listed", f"{settled:,} archived"]
        if without := counts["archived_without_recording"]:
            parts[-1] += f" ({without:,} without a recording)"
        parts += [f"{counts[name]:,} {name.replace('_', ' ')}" for name in ("adopted", "gone") if counts[name]]
        said = ("already_settled", *(name for name in ("other_status", "outside") if counts[name]), "pending")
        parts += [f"{counts[name]:,} {name.replace('_', ' ')}" for name in said]
        if counts["failed"]:
            parts.append(f"{counts['failed']:,} failed (tried again by the next run)")
        if not self.complete:
            parts.append(f"the listing is INCOMPLETE ({self._shortfall})")
        return ", ".join(parts)

    @property
    def pinned_head(self) -> str:
        """The head as `verify --expect-head` takes it, to be noted outside of the archive."""
        return f"{self.sequence}:{self.head.sha256}" if self.head else "none"

    @property
    def _shortfall(self) -> str:
        return "it could not be finished" if self.missing is None else f"{self.missing:,} missing"

    @property
    def markdown(self) -> str:
        """Say it as a page: a table of counts and where the proof is."""
        rows = "\n".join(f"| {name.replace('_', ' ')} | {count:,} |" for name, count in self.counts.items())
        verdict = "complete" if self.complete else f"**incomplete**, {self._shortfall}"
        head = f"`{self.head.key}`, SHA-256 `{self.head.sha256}`" if self.head else "none"
        return (
            f"# Scope `{self.scope}`\n\nListing: {verdict}, {self.pages:,} pages.\n\n"
            f"| conversations | |\n| --- | ---: |\n{rows}\n\nManifest {self.sequence:,}: {head}\n"
        )

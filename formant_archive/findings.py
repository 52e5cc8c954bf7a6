"""Findings: what a verification found, as data. One numbered code for each kind, four severities, three verdicts.

The codes are part of the archive's documentation (`docs/verify.md`): they keep their meaning for ever.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from formant_archive.records import Frozen

Severity = Literal["damage", "unverified", "warning", "note"]
#: VALID: all that was looked at is what it should be. DAMAGED: something is not. UNVERIFIED: something could not be
#: looked at, and nothing that could be is damaged.
Verdict = Literal["VALID", "DAMAGED", "UNVERIFIED"]
EXIT_CODES: dict[Verdict, int] = {"VALID": 0, "DAMAGED": 1, "UNVERIFIED": 3}

#: What each code says, and how bad it is.
CODES: dict[str, tuple[Severity, str]] = {
    "C001": ("damage", "a manifest is missing"),
    "C002": ("damage", "a manifest is not the one that its successor names"),
    "C003": ("damage", "a manifest does not have the documented form"),
    "C004": ("damage", "a manifest belongs elsewhere: another number, archive or source"),
    "C005": ("damage", "the chain does not hold the manifest that was expected"),
    "C006": ("damage", "a manifest's counts do not add up, or are not those of its entries"),
    "C007": ("damage", "a part is missing"),
    "C008": ("damage", "a part is not the one that was named"),
    "C009": ("damage", "a part's lines are not as documented, or of another number"),
    "C010": ("damage", "what is held or erased changes in a manifest that is of no such act"),
    "R001": ("damage", "a record is missing"),
    "R002": ("damage", "a record is not the one that was named"),
    "R003": ("damage", "a record does not have the documented form, or is another conversation's"),
    "R004": ("damage", "a record and its entry disagree"),
    "R005": ("damage", "a conversation has several records, none superseding the other"),
    "R006": ("damage", "a superseded record is missing or altered"),
    "P001": ("damage", "a payload is missing"),
    "P002": ("damage", "a payload's bytes are not the ones that were archived"),
    "P003": ("damage", "a payload has another size"),
    "P004": ("damage", "the store notes another SHA-256 for a payload"),
    "V001": ("damage", "an object was deleted: a delete marker lies over it, or did"),
    "V002": ("damage", "an object was overwritten: it has more than one version"),
    "V003": ("warning", "the versions of the objects could not be looked at"),
    "L001": ("damage", "an object is locked for less than its record says"),
    "L002": ("damage", "an object of a conversation under legal hold is not held"),
    "E001": ("note", "a payload was erased, as a manifest says: by whom, why, on which basis"),
    "E002": ("warning", "a payload that a manifest calls erased is there: run erase again"),
    "X001": ("note", "a record that no manifest names: a killed run's, which an audit adopts"),
    "X002": ("note", "a killed run's leftover: a payload without a named record, or a part that no manifest names"),
    "X003": ("warning", "a foreign object: nothing of the archive's"),
    "X004": ("warning", "a record that no manifest names and that cannot be adopted: its payloads are not there"),
    "T001": ("warning", "a manifest was committed before the one that it follows, by the writers' clocks"),
    "S001": ("warning", "the source lists a conversation that the archive neither holds nor waits for"),
    "S002": ("note", "the source does not list a conversation any more that the archive holds"),
    "S003": ("warning", "the source does not list a tenth of what the archive holds: is the key another workspace's?"),
    "S004": ("unverified", "the source could not be listed completely: what it lacks proves nothing"),
    "U001": ("unverified", "an object could not be read"),
    "U002": ("unverified", "there is no manifest to verify against"),
}


class Finding(Frozen):
    """One thing that was found; without a phone number or a word of what was said.

    Attributes:
        code: One of `CODES`.
        key: The object that it is about, relative to the archive.
        expected: What should be there.
        found: What is there instead.
    """

    code: str
    key: str
    expected: str = ""
    found: str = ""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return CODES[self.code][0]

    @property
    def meaning(self) -> str:
        """What the code says."""
        return CODES[self.code][1]


@dataclass
class Tally:
    """Findings, counted by code."""

    codes: Counter[str] = field(default_factory=Counter)

    def add(self, findings: Iterable[Finding]) -> None:
        """Count some more."""
        self.codes.update(finding.code for finding in findings)

    def of(self, severity: Severity) -> int:
        """How many findings are that bad."""
        return sum(count for code, count in self.codes.items() if CODES[code][0] == severity)

    @property
    def verdict(self) -> Verdict:
        """Say it in one word: damage that was seen outweighs what could not be seen."""
        if self.of("damage"):
            return "DAMAGED"
        return "UNVERIFIED" if self.of("unverified") else "VALID"

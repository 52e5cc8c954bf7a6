"""How long a conversation's objects are locked: from the end of its call, by rules of the user's. Pure.

Never from the day that something was stored: a recording that comes late must not be kept longer than its call, nor
the calls of one day for different times. The presets name what rules of law ask for at the least. They are no legal
advice: somebody who knows the case must choose, and confirm the present text.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from formant_archive.errors import UsageError
from formant_archive.records import Frozen, Retention

Mode = Literal["GOVERNANCE", "COMPLIANCE"]
Days = Annotated[int, Field(ge=1)]
SETTING = "ARCHIVE_RETENTION_POLICY"


@dataclass(frozen=True)
class Preset:
    """A period that a rule of law names; `years` of 365.25 days, rounded up to whole days."""

    years: int
    source: str

    @property
    def days(self) -> int:
        """The period in days."""
        return math.ceil(self.years * 365.25)


PRESETS = {
    "sec-17a-4": Preset(6, "SEC Rule 17a-4(a) and (f), 17 CFR 240.17a-4, as amended in October 2022"),
    "sec-17a-4-b4": Preset(3, "SEC Rule 17a-4(b)(4), communications relating to the business"),
    "finra-4511": Preset(6, "FINRA Rule 4511(b); what belongs to an account: six years after it is closed"),
    "cftc-1.31": Preset(5, "CFTC Regulation 1.31, 17 CFR 1.31 (2017)"),
    "mifid-5y": Preset(5, "MiFID II, Directive 2014/65/EU, Article 16(7)"),
    "mifid-7y": Preset(7, "MiFID II, Article 16(7), where the authority asks for seven years"),
    "hipaa-6y": Preset(6, "HIPAA, 45 CFR 164.316(b)(2): documentation"),
    "in-sebi-3y": Preset(3, "SEBI circulars to brokers of September 2017 and March 2018: records of orders"),
    "in-dpdp-1y": Preset(1, "India, DPDP Rules 2025, rule 8(3): at least a year, then erased unless law asks for more"),
}


@dataclass(frozen=True)
class Rule:
    """So many days for the conversations of an agent and a status; what is None leaves out none."""

    days: int
    agent_id: str | None = None
    status: str | None = None

    def takes(self, agent_id: int | str | None, status: str) -> bool:
        """Whether a conversation is one of them."""
        agent = "unknown" if agent_id is None else str(agent_id)
        return self.agent_id in (None, agent) and self.status in (None, status)


@dataclass(frozen=True)
class Keeping:
    """How hard, and how long: the first rule that takes a conversation counts, and the last one takes them all."""

    mode: Mode
    rules: tuple[Rule, ...]

    def of(self, agent_id: int | str | None, status: str, ended_at: datetime, now: datetime) -> Retention | None:
        """Say until when a conversation is to be locked; None where that time is over.

        A call that would end in the future ends now: no row of the list can lock anything beyond the cap.
        """
        days = next(rule.days for rule in self.rules if rule.takes(agent_id, status))
        until = _whole_second(min(ended_at, now) + timedelta(days=days))
        return Retention(mode=self.mode, until=until) if until > now else None

    def longest(self, now: datetime) -> Retention:
        """Say until when what names conversations is locked that were stored up to now: no shorter than any of them."""
        return Retention(mode=self.mode, until=_whole_second(now + timedelta(days=max(one.days for one in self.rules))))


def _whole_second(time: datetime) -> datetime:
    """Round up: a store may keep no fractions, and a lock must never end before its record says."""
    whole = time.astimezone(UTC).replace(microsecond=0)
    return whole if whole == time else whole + timedelta(seconds=1)


class _Written(Frozen):
    """What one rule of a policy file says: a period in days, or a preset's name."""

    model_config = ConfigDict(extra="forbid")

    days: Days | None = None
    preset: str | None = None


class _WrittenRule(_Written):
    agent_id: int | str | None = None
    status: str | None = None


class _File(Frozen):
    """A policy file: rules, what is true of all others, and a cap of its own."""

    model_config = ConfigDict(extra="forbid")

    default: _Written
    rules: tuple[_WrittenRule, ...] = ()
    cap_days: Days | None = None


def keeping_of_days(mode: Mode, days: int, *, cap_days: int) -> Keeping:
    """Lock everything for so many days.

    Raises:
        UsageError: That is beyond the cap.
    """
    return Keeping(mode, _capped((Rule(days),), cap_days, "ARCHIVE_RETENTION_DAYS"))


def keeping_of_preset(mode: Mode, name: str, *, cap_days: int) -> Keeping:
    """Lock everything for as long as a preset says.

    Raises:
        UsageError: That is beyond the cap.
    """
    return Keeping(mode, _capped((Rule(PRESETS[name].days),), cap_days, SETTING))


def keeping_of_file(mode: Mode, data: Mapping[str, Any], *, cap_days: int) -> Keeping:
    """Lock by the rules of a policy file, as TOML gives it.

    Raises:
        UsageError: It does not have the documented form, names no known preset, or goes beyond the cap.
    """
    try:
        file = _File.model_validate(data)
    except ValidationError as fault:
        first = fault.errors(include_input=False, include_url=False)[0]
        raise UsageError(f"{SETTING}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    rules = (*(_rule(f"rules.{number}", one) for number, one in enumerate(file.rules)), _rule("default", file.default))
    return Keeping(mode, _capped(rules, min(cap_days, file.cap_days or cap_days), SETTING))


def _rule(place: str, one: _Written) -> Rule:
    if (one.days is None) == (one.preset is None):
        raise UsageError(f"{SETTING}: {place}: give days or a preset, one of the two")
    if one.preset is not None and one.preset not in PRESETS:
        raise UsageError(f"{SETTING}: {place}: no such preset: use one of {', '.join(PRESETS)}")
    days = one.days or PRESETS[one.preset or ""].days
    if not isinstance(one, _WrittenRule):
        return Rule(days)
    return Rule(days, None if one.agent_id is None else str(one.agent_id), one.status)


def _capped(rules: tuple[Rule, ...], cap_days: int, setting: str) -> tuple[Rule, ...]:
    longest = max(rule.days for rule in rules)
    if longest > cap_days:
        raise UsageError(
            f"{setting}: {longest:,} days are beyond the cap of {cap_days:,}: such a lock could not be undone."
            " Correct it, or raise ARCHIVE_RETENTION_CAP_DAYS (and cap_days in a policy file)"
        )
    return rules

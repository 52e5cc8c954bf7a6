"""Automations on a server: found by name, because Prefect creates a second one of the same name without a word."""

from collections.abc import Iterable, Iterator
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import AutomationCore

from tools.bootstrap.step import Change, Step


def put_automations(client: SyncPrefectClient, automations: Iterable[AutomationCore], *, write: bool) -> Iterator[Step]:
    """Create the automations, or make what is there the same; whether one is switched off is left to the user."""
    for wanted in automations:
        thing = f"automation {wanted.name}"
        if not (found := client.read_automations_by_name(wanted.name)):
            if write:
                client.create_automation(wanted)
            yield Step(Change.CREATED, thing)
            continue
        first, *others = found
        if meaning(first) == meaning(wanted):
            yield Step(Change.UNCHANGED, thing)
        else:
            if write:
                client.update_automation(first.id, complete(wanted, enabled=first.enabled))
            yield Step(Change.UPDATED, thing)
        for double in others:
            if write:
                client.delete_automation(double.id)
            yield Step(Change.REMOVED, f"{thing}, a second one")


def meaning(automation: AutomationCore) -> dict[str, Any]:
    """Give what was defined of an automation: no ids, and not whether it is switched on."""
    return AutomationCore.model_validate(automation.model_dump()).model_dump(exclude={"enabled", "owner_resource"})


def complete(automation: AutomationCore, *, enabled: bool) -> AutomationCore:
    """Set each field that an update may have: Prefect's client sends only those that were set."""
    return AutomationCore(**{**automation.model_dump(exclude={"owner_resource"}), "enabled": enabled})

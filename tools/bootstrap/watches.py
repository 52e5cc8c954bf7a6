"""The automations: what is watched, and what is done where something is wrong. Definitions only.

They know our runs by the tag that every deployment in `prefect.yaml` has, and by the names of flows and deployments.
Two of them mend: a run that is lost, or never begins, is set to Crashed, so that nobody waits for it. The others tell;
the first of them also of such a run.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, CallWebhook, ChangeFlowRunState, DoNothing
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture, TriggerTypes

from flows.shard import REFUSED

TAG = "formant-archive"
#: The deployment that must complete again and again.
FRESH = {"flow": "archive-conversations", "deployment": "archive"}
#: Flows whose failure is told. A shard's is not: its backfill tries it again, and fails in the end if it must.
TOLD = ["archive-conversations", "audit-archive", "backfill-agents"]
#: An alarm that goes on is repeated so often.
FAILED_AGAIN, OVERDUE_AGAIN = timedelta(hours=1), timedelta(days=1)
#: Names of states that end a run; anything else, and it may still be lost.
ENDS = ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut", REFUSED)
UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
RUN_ID, RUN_EVENT = "prefect.resource.id", "prefect.flow-run"
RUNS = {RUN_ID: f"{RUN_EVENT}.*"}
ARCHIVES = {RUN_ID: "formant-archive.archive.*"}
#: To the run in Prefect's UI; nothing where the server does not know its own address (PREFECT_UI_URL).
LINK = "{% if flow_run %} {{ flow_run|ui_url or '' }}{% endif %}"
OURS = {RUN_ID: f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}


@dataclass(frozen=True)
class Patience:
    """How long something may take before it is called wrong.

    Attributes:
        fresh: Without a completed run of the deployment `archive`.
        lost: Without a heartbeat of a run that has not ended.
        pending: Before a run that a worker has taken begins.
    """

    fresh: timedelta
    lost: timedelta
    pending: timedelta


def watches(patience: Patience, webhook: UUID | None) -> list[AutomationCore]:
    """Define the automations.

    Args:
        patience: How long things may take.
        webhook: The block that alarms are sent through; None: they stay in Prefect's event feed.
    """

    def tell(text: str) -> list[ActionTypes]:
        return [DoNothing() if webhook is None else CallWebhook(block_document_id=webhook, payload=payload(text))]

    return [
        watch(
            "run failed",
            f"A run has failed or crashed. Said once in {words(FAILED_AGAIN)} for each deployment.",
            run_failed(),
            tell("{{ flow_run.name }} of {{ deployment.name }} is {{ flow_run.state.name }}"),
        ),
        watch(
            "no completed run",
            f"The deployment archive has not completed for {words(patience.fresh)}. Said again until it does.",
            no_completed_run(patience.fresh),
            tell(f"no run of archive has completed for {words(patience.fresh)}"),
        ),
        watch(
            "lost run",
            f"A run has given no heartbeat for {words(patience.lost)}: its machine is gone. It is set to Crashed.",
            lost_run(patience.lost),
            [crash(f"no heartbeat for {words(patience.lost)}; the next run goes on from there")],
        ),
        watch(
            "run stuck in Pending",
            f"A run has not begun {words(patience.pending)} after a worker took it. It is set to Crashed, so that it"
            " does not keep the schedule's one place.",
            stuck_run(patience.pending),
            [crash(f"not begun {words(patience.pending)} after a worker took it; the next run does its work")],
        ),
        watch(
            "overdue conversations",
            f"Conversations are pending for longer than the grace. Said once in {words(OVERDUE_AGAIN)}.",
            said("formant-archive.overdue", OVERDUE_AGAIN),
            tell("{{ event.payload.overdue }} conversations are pending for longer than the grace"),
        ),
        watch(
            "damaged archive",
            "An audit has found something missing or changed. Said at each audit.",
            said("formant-archive.damage", timedelta(0)),
            tell("damage in {{ event.payload.damage }} places, see the artifact archive-audit of {{ flow_run.name }}"),
        ),
    ]


def watch(name: str, description: str, trigger: TriggerTypes, actions: list[ActionTypes]) -> AutomationCore:
    """Define an automation."""
    return AutomationCore(name=f"{TAG}: {name}", description=description, tags=[TAG], trigger=trigger, actions=actions)


def payload(text: str) -> str:
    """Write what is posted, as Slack and those like it understand it.

    Names and counts alone. A state's message is left out: of a crash it can be any library's words, and they would
    leave the house.
    """
    return f"{{% set text %}}{TAG}: {text}{LINK}{{% endset %}}" + '{"text": {{ text|trim|tojson }}}'


def crash(message: str) -> ChangeFlowRunState:
    """End a run that nobody runs. Prefect leaves it as it is where it has ended after all."""
    return ChangeFlowRunState(state=StateType.CRASHED, message=message)


def run_failed() -> EventTrigger:
    """One of our runs came into a state that is no good end, whatever its name."""
    return EventTrigger(
        expect={f"{RUN_EVENT}.*"},
        match={**RUNS, "prefect.state-type": ["FAILED", "CRASHED"]},
        match_related=[OURS, related("flow", *TOLD)],
        for_each={"related:deployment:prefect.resource.id"},
        posture=Posture.Reactive,
        within=FAILED_AGAIN,
    )


def no_completed_run(within: timedelta) -> EventTrigger:
    """Nothing so long after the last completed run, or after Prefect began to look; again twice as long after that.

    Each completed run starts the time anew because it is both what is waited for and what the wait is after. Without
    `after` Prefect would count in fixed windows, of which it skips one after each that was good.
    """
    completed = {f"{RUN_EVENT}.Completed"}
    return EventTrigger(
        after=completed,
        expect=completed,
        match=RUNS,
        match_related=[related(role, name) for role, name in FRESH.items()],
        posture=Posture.Proactive,
        within=within,
    )


def lost_run(within: timedelta) -> EventTrigger:
    """A run gave a heartbeat, and then neither another nor an end."""
    beat = f"{RUN_EVENT}.heartbeat"
    return silence(after={beat}, expect={beat, *(f"{RUN_EVENT}.{name}" for name in ENDS)}, within=within)


def stuck_run(within: timedelta) -> EventTrigger:
    """A worker took a run, and then nothing happened to it."""
    return silence(after={f"{RUN_EVENT}.Pending"}, expect={f"{RUN_EVENT}.*"}, within=within)


def silence(after: set[str], expect: set[str], within: timedelta) -> EventTrigger:
    """Of one of our runs something came, and what should have come then did not."""
    return EventTrigger(
        after=after,
        expect=expect,
        match=RUNS,
        match_related=OURS,
        for_each={RUN_ID},
        posture=Posture.Proactive,
        within=within,
    )


def said(event: str, again: timedelta) -> EventTrigger:
    """A flow said so of an archive."""
    return EventTrigger(expect={event}, match=ARCHIVES, for_each={RUN_ID}, posture=Posture.Reactive, within=again)


def related(role: str, *names: str) -> dict[str, str | list[str]]:
    """Match what has to do with a run."""
    return {"prefect.resource.role": role, "prefect.resource.name": list(names)}


def words(time: timedelta) -> str:
    """Say a duration."""
    seconds = time.total_seconds()
    unit, length = next((unit, length) for unit, length in UNITS if seconds >= length)
    return f"{seconds / length:g} {unit}{'' if seconds == length else 's'}"

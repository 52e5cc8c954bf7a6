"""`prefect.yaml` means what it says: Prefect itself drops a misspelt key and reports success.

Prefect is imported inside the functions, because the tests of the flows set its environment first.
"""

import inspect
import json
from pathlib import Path
from typing import Any, get_args, get_type_hints
from uuid import uuid4

import pytest
import yaml
from pydantic import BaseModel, ValidationError

ROOT = Path(__file__).resolve().parents[1]
#: YAML's own place for anchors; Prefect takes no notice of it.
ANCHORS = "definitions"
#: What any step may hold besides the arguments of its function.
STEP_KEYS = {"id", "requires"}
#: What a deployment's runs are given by the flow that begins them.
GIVEN_LATER: dict[str, dict[str, Any]] = {"archive-shard": {"plan_id": str(uuid4()), "number": 1}}

Config = dict[str, Any]


def read() -> Config:
    config: Config = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    return config


def unknown_keys(config: Config) -> list[str]:
    """Name every key that Prefect does not know, by its path; of steps, also the steps themselves."""
    from prefect.cli.deploy._models import PrefectYamlModel

    plain = {name: value for name, value in config.items() if name != ANCHORS}
    found = list(_unknown_fields(PrefectYamlModel, plain, ""))
    for part, holder in [("", config), *((f"deployments[{at}]", one) for at, one in enumerate(config["deployments"]))]:
        for kind in ("build", "push", "pull"):
            for at, step in enumerate(holder.get(kind) or []):
                found += _unknown_in_step(step, f"{part}.{kind}[{at}]")
    return found


def _unknown_fields(model: type[BaseModel], data: Config, path: str) -> list[str]:
    hints = get_type_hints(model)
    fields = {field.alias or name: hints[name] for name, field in model.model_fields.items()}
    found = [f"{path}.{name}" for name in data if name not in fields]
    for name in data.keys() & fields.keys():
        deeper = _models(fields[name])
        values = data[name] if isinstance(data[name], list) else [data[name]]
        for at, value in enumerate(values):
            # Where Prefect takes one of several forms, the first is the one that is written in a file.
            if deeper and isinstance(value, dict):
                found += _unknown_fields(deeper[0], value, f"{path}.{name}[{at}]")
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _unknown_in_step(step: Config, path: str) -> list[str]:
    from prefect.utilities.importtools import import_object

    found = []
    for name, inputs in step.items():
        try:
            function = import_object(name)
        except (ImportError, AttributeError):
            found.append(f"{path}.{name}")
            continue
        known = STEP_KEYS | inspect.signature(function).parameters.keys()
        found += [f"{path}.{name}.{key}" for key in inputs if key not in known]
    return found


DEPLOYMENTS = [pytest.param(one, id=one["name"]) for one in read()["deployments"]]
each_deployment = pytest.mark.parametrize("deployment", DEPLOYMENTS)
AT = {one["name"]: at for at, one in enumerate(read()["deployments"])}


def test_every_key_is_one_that_prefect_knows() -> None:
    assert unknown_keys(read()) == []


@pytest.mark.parametrize(
    ("path", "misspelt"),
    [
        ((), "deployment"),
        ((), "pulls"),
        (("pull", 0), "prefect.deployments.steps.run_shell_skript"),
        (("pull", 1, "prefect.deployments.steps.set_working_directory"), "directry"),
        (("deployments", 0), "shedules"),
        (("deployments", 0), "enforce_parameter_shema"),
        (("deployments", 0, "work_pool"), "work_queue"),
        (("deployments", AT["backfill"], "work_pool"), "work_queue_nam"),
        (("deployments", AT["archive-shard"], "work_pool"), "workqueue_name"),
        (("deployments", AT["archive-shard"]), "work_queue_name"),
        (("deployments", 0, "schedules", 0), "timezon"),
        (("deployments", 0, "concurrency_limit"), "colision_strategy"),
    ],
)
def test_misspelt_key_is_found_at_every_level(path: tuple[str | int, ...], misspelt: str) -> None:
    # As text and back: what an anchor repeats must not be one and the same object here.
    config = json.loads(json.dumps(read()))
    level: Any = config
    for step in path:
        level = level[step]
    level[misspelt] = {}

    assert len(found := unknown_keys(config)) == 1
    assert found[0].endswith(misspelt)


def test_prefect_itself_takes_the_file() -> None:
    from prefect.cli.deploy._models import PrefectYamlModel

    assert len(PrefectYamlModel.model_validate(read()).deployments) == len(DEPLOYMENTS)


def test_names_are_unique_and_so_are_the_slugs_of_each_deployment() -> None:
    names = [one["name"] for one in read()["deployments"]]
    assert len(set(names)) == len(names)
    for one in read()["deployments"]:
        slugs = [schedule["slug"] for schedule in one.get("schedules", [])]
        assert len(set(slugs)) == len(slugs)


@each_deployment
def test_entrypoint_is_a_flow_that_can_be_imported(deployment: Config) -> None:
    from prefect import Flow
    from prefect.flows import load_flow_from_entrypoint

    assert isinstance(load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False), Flow)


@each_deployment
def test_parameters_of_deployment_and_schedules_suit_the_flow(deployment: Config) -> None:
    from prefect import Flow
    from prefect.flows import load_flow_from_entrypoint

    flow: Flow[..., Any] = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    for schedule in [{}, *deployment.get("schedules", [])]:
        given = {**deployment.get("parameters", {}), **schedule.get("parameters", {})}
        given |= GIVEN_LATER.get(deployment["name"], {})
        inspect.signature(flow.fn).bind_partial(**given)
        # What has no default must be given.
        inspect.signature(flow.fn).bind(**flow.validate_parameters(given))


@each_deployment
def test_schedules_have_a_slug_and_a_time_that_prefect_can_read(deployment: Config) -> None:
    from prefect.cli.deploy._models import RawScheduleConfig
    from prefect.client.schemas.schedules import CronSchedule

    for schedule in deployment.get("schedules", []):
        RawScheduleConfig.model_validate(schedule)
        assert schedule["slug"]
        assert schedule["timezone"]
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])


def test_cron_that_cannot_be_read_is_refused() -> None:
    from prefect.client.schemas.schedules import CronSchedule

    with pytest.raises(ValidationError):
        CronSchedule(cron="*/15 * * *", timezone="UTC")


@each_deployment
def test_deployment_says_what_it_does_and_has_prefect_check_its_parameters(deployment: Config) -> None:
    assert deployment["description"].strip()
    assert deployment["enforce_parameter_schema"] is True
    # Without a version of ours, deploying twice changes nothing.
    assert "version" not in deployment


def test_only_what_is_begun_by_a_flow_has_parameters_that_must_be_given() -> None:
    from prefect.flows import load_flow_from_entrypoint

    for deployment in read()["deployments"]:
        flow: Any = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
        needed = {name for name, one in inspect.signature(flow.fn).parameters.items() if one.default is one.empty}
        assert needed == GIVEN_LATER.get(deployment["name"], {}).keys()
        # What is missing would be found out by each run, one after the other.
        assert not (needed and deployment["schedules"])


@each_deployment
def test_each_parameter_is_described_and_bounded_in_the_form_that_prefect_makes_of_it(deployment: Config) -> None:
    from prefect.flows import load_flow_from_entrypoint
    from prefect.utilities.callables import parameter_schema

    flow: Any = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    parameters = parameter_schema(flow.fn).properties

    assert parameters.keys() == inspect.signature(flow.fn).parameters.keys()
    assert {name: one.get("description", "").strip()[-1:] for name, one in parameters.items()} == dict.fromkeys(
        parameters, "."
    )
    assert [name for name, one in parameters.items() if not is_bounded(one)] == []


#: What a value of each type must be told, so that a slip of the finger is found in the form.
BOUNDS = {"integer": {"minimum"}, "number": {"maximum"}, "string": {"enum", "format", "pattern"}, "array": {"maxItems"}}


def is_bounded(schema: Config) -> bool:
    deeper = [*schema.get("anyOf", []), *([schema["items"]] if "items" in schema else [])]
    kind = schema.get("type", "null" if deeper else "unknown")
    is_so = kind in ("boolean", "null") or bool(BOUNDS.get(kind, set()) & schema.keys())
    return is_so and all(is_bounded(one) for one in deeper)


def test_parameter_without_bounds_is_found() -> None:
    assert not is_bounded({"anyOf": [{"type": "string"}, {"type": "null"}]})
    assert not is_bounded({"type": "array", "maxItems": 3, "items": {"type": "integer"}})
    assert not is_bounded({"type": "array", "items": {"type": "integer", "minimum": 0}})
    assert is_bounded({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]})


def test_a_full_listing_comes_weekly_before_the_audit_that_compares() -> None:
    """Rows can appear deep in the list, where a run that stops early does not look."""
    deployments = {one["name"]: one for one in read()["deployments"]}
    full, audit = deployments["archive-full-weekly"], deployments["audit-weekly"]
    times = [one["schedules"][0]["cron"].split() for one in (full, audit)]
    ((minute, hour, *day), (audit_minute, audit_hour, *audit_day)) = times

    assert full["parameters"] == {"full": True}
    assert day == audit_day == ["*", "*", "0"]
    assert (int(hour), int(minute)) < (int(audit_hour), int(audit_minute))


def test_the_backfill_begins_the_deployment_of_its_shards() -> None:
    from flows.shard import archive_shard
    from flows.shards import DEPLOYMENT

    assert f"{archive_shard.name}/archive-shard" == DEPLOYMENT
    assert read()["deployments"][AT["archive-shard"]]["entrypoint"] == "flows.shard.archive_shard"


def test_the_backfill_has_a_queue_of_its_own_in_the_pool_of_the_schedule() -> None:
    pools = {one["name"]: one["work_pool"] for one in read()["deployments"]}

    queues = {name: pool.get("work_queue_name") for name, pool in pools.items()}
    assert len({pool["name"] for pool in pools.values()}) == 1
    assert {name for name, queue in queues.items() if queue == "backfill"} == {"backfill", "archive-shard"}
    assert {queue for name, queue in queues.items() if name not in ("backfill", "archive-shard")} == {None}


@pytest.mark.parametrize(
    "deployment", [one for one in DEPLOYMENTS if read()["deployments"][AT[str(one.id)]]["schedules"]]
)
def test_what_is_scheduled_has_a_concurrency_limit_that_prefect_accepts(deployment: Config) -> None:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig

    limit = ConcurrencyLimitConfig.model_validate(deployment["concurrency_limit"])
    assert limit.limit == 1
    assert limit.collision_strategy.value == "CANCEL_NEW"


@each_deployment
def test_what_is_begun_on_demand_has_no_concurrency_limit(deployment: Config) -> None:
    """Shards run side by side, and a backfill that is begun while another runs is not to be cancelled."""
    assert bool(deployment["schedules"]) is ("concurrency_limit" in deployment)


def test_no_path_of_the_machine_that_deploys_is_written_into_the_deployments() -> None:
    text = (ROOT / "prefect.yaml").read_text()
    settings = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))

    # Prefect replaces these when it deploys; and without `pull` it writes its own working directory.
    assert "{{ $" not in settings
    assert read()["pull"]

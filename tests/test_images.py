"""What `deployments/` builds and starts, as far as it can be told without an engine that runs containers.

The Dockerfile's own commands are run here in a folder that is laid out as the image is. Prefect is imported inside the
functions, because the tests of the flows set its environment first.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dockerfile_parse import DockerfileParser
from pydantic import BaseModel

from formant_archive.cli import app
from formant_archive.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
DEPLOYMENTS = ROOT / "deployments"
BIN = Path(sys.executable).parent
TEMPLATES = sorted(DEPLOYMENTS.glob("*/base-job-template.json"))
each_template = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.parent.name)

Yaml = dict[str, Any]
NOTHING: Mapping[str, str] = {}


def command(*words: str, cwd: Path = ROOT, more: Mapping[str, str] = NOTHING) -> str:
    """Run a command to its good end, with more in its environment; give what it prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "ARCHIVE_", "AWS_"))}
    done = subprocess.run(words, cwd=cwd, env={**clean, **more}, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# The Dockerfile


def instructions() -> list[tuple[str, str]]:
    with (DEPLOYMENTS / "Dockerfile").open("rb") as file:
        found = DockerfileParser(fileobj=file, cache_content=True).structure
    return [(one["instruction"], one["value"]) for one in found if one["instruction"] != "COMMENT"]


def values(name: str) -> list[str]:
    return [value for instruction, value in instructions() if instruction == name]


def final_stage() -> list[tuple[str, str]]:
    every = instructions()
    last = max(at for at, (instruction, _) in enumerate(every) if instruction == "FROM")
    return every[last:]


def test_a_linter_of_dockerfiles_finds_no_fault() -> None:
    command(str(BIN / "hadolint"), "--failure-threshold", "style", str(DEPLOYMENTS / "Dockerfile"))


def test_the_base_is_pinned_to_a_patch_release() -> None:
    assert values("ARG") == ["PYTHON_IMAGE=python:3.11.14-slim-bookworm"]
    assert {value.split()[0] for value in values("FROM")} == {"${PYTHON_IMAGE}"}


def test_it_runs_as_nobody_in_particular_and_never_as_root() -> None:
    users = [value for instruction, value in final_stage() if instruction == "USER"]

    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", users[-1])
    # Nothing is written into the image after it.
    names = [instruction for instruction, _ in final_stage()]
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :])


def test_no_secret_can_come_into_a_layer() -> None:
    said = " ".join(f"{instruction} {value}" for instruction, value in instructions() if instruction in ("ARG", "ENV"))
    copied = {value for name in ("COPY", "ADD") for value in values(name)}

    assert not re.search(r"(?i)secret|token|password|_key\b|credential", said)
    # Named one by one: a `COPY .` takes whatever lies about.
    assert not values("ADD")
    assert not any(re.search(r"(^|\s)\.(\s|$)", value.rpartition(" ")[0]) for value in copied)


def test_docker_is_shown_only_what_the_image_is_made_of() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    copied = {one for value in values("COPY") if "--from" not in value for one in value.split()[:-1]}

    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    assert all((ROOT / one).exists() for one in copied)


def test_commands_are_lists_so_that_signals_arrive() -> None:
    (start,) = values("CMD")
    check = values("HEALTHCHECK")[0].partition("CMD ")[2]

    assert json.loads(start)[:3] == ["prefect", "worker", "start"]
    assert json.loads(check)[:2] == ["python", "-c"]
    assert not values("ENTRYPOINT"), "Kubernetes' args and ECS's command replace CMD alone"


def worker_command() -> list[str]:
    found: list[str] = json.loads(values("CMD")[0])
    return found


def environment_of_the_image() -> dict[str, str]:
    with (DEPLOYMENTS / "Dockerfile").open("rb") as file:
        return dict(DockerfileParser(fileobj=file, cache_content=True, env_replace=False).envs)


def test_the_health_check_asks_what_the_worker_serves() -> None:
    from prefect.settings.models.worker import WorkerWebserverSettings

    assert "--with-healthcheck" in worker_command()
    assert f"'127.0.0.1', {WorkerWebserverSettings.model_fields['port'].default}" in values("HEALTHCHECK")[0]


@pytest.mark.timeout(900)
def test_what_the_dockerfile_installs_works_where_the_image_has_it(tmp_path: Path) -> None:
    """Its RUN steps, word by word but for the paths, in folders of their own; needs a package index."""
    image = ImageFolder(tmp_path)
    image.build()
    python, home = str(image.venv / "bin" / "python"), tmp_path / "writable"
    home.mkdir()
    settings = {"HOME": str(home), "PREFECT_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}

    at = command(
        python, "-c", "import flows.archive, formant_archive as f; print(f.__file__)", cwd=image.work, more=settings
    )
    for module in ("flows.audit", "flows.backfill", "flows.shard", "tools.bootstrap.__main__"):
        command(python, "-c", f"import {module}", cwd=image.work, more=settings)
    said = command(str(image.venv / "bin" / "formant-archive"), "--help", cwd=image.work, more=settings)
    installed = command(python, "-m", "pip", "freeze", "--exclude", "formant-archive", cwd=image.work, more=settings)

    assert Path(at.strip()).is_relative_to(image.venv), "the wheel's, and no checkout's"
    assert "verify" in said
    pinned = {line.lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {line.lower().replace("_", "-") for line in installed.splitlines()} <= pinned
    assert not re.search(r"(?im)^(moto|pytest|boto3-stubs)", installed)
    # As with a root filesystem that is read-only: nothing was written beside the code.
    assert {path.name for path in image.work.iterdir()} == {"prefect.yaml", "flows", "tasks", "tools"}


class ImageFolder:
    """The image's folders below one of ours: `/build`, `/opt/venv`, and the working directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stages = 0
        self.work = root

    @property
    def venv(self) -> Path:
        return self._root / "opt" / "venv"

    def build(self) -> None:
        """Do what the Dockerfile says."""
        steps = {"FROM": self._begin, "WORKDIR": self._enter, "COPY": self._copy, "RUN": self._run}
        for instruction, value in instructions():
            if instruction in steps:
                steps[instruction](value)

    def _begin(self, _: str) -> None:
        self._stages += 1

    def _enter(self, path: str) -> None:
        self.work = self._root / path.lstrip("/")
        self.work.mkdir(parents=True)

    def _copy(self, value: str) -> None:
        if value.startswith("--from=build"):
            # One folder is both stages'.
            assert value.split()[1:] == ["/opt/venv", "/opt/venv"]
            return
        *sources, target = value.split()
        for source in sources:
            self._copy_one(ROOT / source, self.work / target)

    def _copy_one(self, source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)

    def _run(self, value: str) -> None:
        # The image's `python` is ours.
        script = value.replace("/opt/venv", str(self.venv)).replace("python -m venv", f"{sys.executable} -m venv")
        command("sh", "-ec", script, cwd=self.work)


# Compose


def compose() -> Yaml:
    found: Yaml = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text())
    return found


def services() -> Yaml:
    found: Yaml = compose()["services"]
    return found


OURS = sorted(name for name, service in services().items() if "build" in service)


def test_compose_suits_the_specifications_schema() -> None:
    path = str(DEPLOYMENTS / "compose.yaml")

    command(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", path)


def test_nothing_listens_beyond_loopback() -> None:
    ports = [port for service in services().values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_each_service_but_the_worker_and_what_ends_says_when_it_is_well() -> None:
    quiet = {name for name, service in services().items() if "test" not in service.get("healthcheck", {})}

    # The worker's is the image's own.
    assert quiet == {"setup", "worker"}
    assert services()["setup"]["healthcheck"] == {"disable": True}


def test_each_waits_for_what_it_needs_to_be_well() -> None:
    for name, service in services().items():
        for other, terms in service.get("depends_on", {}).items():
            ends = "service_completed_successfully" if other == "setup" else "service_healthy"
            assert terms["condition"] == ends, f"{name} → {other}"


def test_other_peoples_images_are_pinned() -> None:
    others = [service["image"] for service in services().values() if "build" not in service]

    assert len(others) == 2
    assert all(re.search(r":v?\d+\.\d+", image) for image in others)


@pytest.mark.parametrize("name", OURS)
def test_our_containers_cannot_write_to_their_image_nor_gain_rights(name: str) -> None:
    service = services()[name]

    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp:mode=1777"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_build_finds_its_dockerfile_and_the_mount_its_file() -> None:
    build = services()["worker"]["build"]
    context = (DEPLOYMENTS / build["context"]).resolve()

    assert (context / build["dockerfile"]).is_file()
    assert context == ROOT
    (mount,) = services()["setup"]["volumes"]
    assert (DEPLOYMENTS / mount.partition(":")[0]).is_file()


#: Of the images of others: from their own documentation.
FOREIGN = re.compile(r"POSTGRES_(DB|USER|PASSWORD)|ROOT_(ACCESS_KEY_ID|SECRET_ACCESS_KEY)|VGW_[A-Z_]+")
OF_THE_SDK = {"AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"}
#: Read by `prefect.yaml` and by tools, not by Settings.
OUR_OTHERS = {"ARCHIVE_HOME", "DO_NOT_TRACK", "HOME", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}


def known_to_prefect() -> set[str]:
    """Every name that Prefect's settings go by, older ones too."""
    from prefect.settings import Settings as PrefectSettings

    return {name.upper() for name in _names_of(PrefectSettings, "prefect_")}


def _names_of(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _names_of(inner, str(inner.model_config.get("env_prefix") or f"{prefix}{name}_"))
            continue
        yield f"{prefix}{name}"
        choices = getattr(field.validation_alias, "choices", [])
        yield from (one for one in choices if isinstance(one, str))


def unknown(names: set[str]) -> set[str]:
    ours = {name.upper() for name in Settings.model_fields}
    prefects = {name for name in names if name.startswith("PREFECT_")}
    rest = names - ours - OF_THE_SDK - OUR_OTHERS - prefects
    return {name for name in rest if not FOREIGN.fullmatch(name)} | (prefects - known_to_prefect())


def test_every_setting_that_is_set_is_one() -> None:
    templates = [
        json.loads(path.read_text())["variables"]["properties"]["env"].get("default", {}) for path in TEMPLATES
    ]
    named = [
        environment_of_the_image(),
        *(service.get("environment", {}) for service in services().values()),
        *templates,
        *(document.get("data", {}) for document in kubernetes()),
    ]

    assert unknown({name for one in named for name in one}) == set()


def test_a_misspelt_setting_is_found() -> None:
    assert unknown({"ARCHIVE_URI", "PREFECT_API_URI", "PREFECT_API_URL"}) == {"ARCHIVE_URI", "PREFECT_API_URI"}


def test_only_setup_is_given_the_api_key() -> None:
    given = {name for name, service in services().items() if "FORMANT_API_KEY" in service.get("environment", {})}

    assert given == {"setup"}


def words(name: str) -> list[str]:
    found: list[str] = services()[name].get("command") or worker_command()
    return found


def test_prefects_commands_are_ones_that_prefect_has() -> None:
    for line in (words("server"), words("worker"), ["prefect", "--no-prompt", "deploy", "--all"]):
        asked = [one.partition("=")[0] for one in line if one.startswith("--") and one != "--no-prompt"]
        verbs = [one for one in line[1:4] if re.fullmatch("server|worker|start|deploy", one)]

        help_text = command(str(BIN / "prefect"), *verbs, "--help")

        assert all(option in help_text for option in asked), (line, help_text)


def test_the_simulators_options_are_ones_that_it_has() -> None:
    _, *line = words("simulator")

    function, bound, _ = app.parse_args(line, exit_on_error=False, print_error=False)

    assert function.__name__ == "run_simulate"
    assert f"http://127.0.0.1:{bound.arguments['port']}" in services()["worker"]["environment"]["FORMANT_BASE_URL"]
    assert services()["worker"]["network_mode"] == "service:simulator"


def test_setup_runs_what_there_is() -> None:
    shell, flags, script = words("setup")

    assert (shell, flags) == ("sh", "-ec")
    steps = [step.strip() for step in script.split(";")]
    assert steps == ["python make_bucket.py", "python -m tools.bootstrap", "prefect --no-prompt deploy --all"]
    assert "--dry-run" in command(sys.executable, "-m", "tools.bootstrap", "--help")


def test_the_bucket_is_made_once_with_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        settings = {name: str(services()["setup"]["environment"][name]) for name in (*OF_THE_SDK, "ARCHIVE_URL")}
        settings["AWS_ENDPOINT_URL_S3"] = f"http://{host}:{port}"
        for _ in range(2):
            command(sys.executable, str(DEPLOYMENTS / "make_bucket.py"), more=settings)
        session = boto3.session.Session("laptop", "x", region_name="us-east-1")
        s3 = session.client("s3", endpoint_url=settings["AWS_ENDPOINT_URL_S3"])
        lock = s3.get_object_lock_configuration(Bucket="archive")
    finally:
        server.stop()

    assert lock["ObjectLockConfiguration"]["ObjectLockEnabled"] == "Enabled"


# Work pools: Kubernetes and ECS


@each_template
def test_prefects_server_takes_the_template(path: Path) -> None:
    from prefect.server.schemas.actions import WorkPoolCreate

    template = json.loads(path.read_text())

    assert WorkPoolCreate(name="formant-archive", type=path.parent.name, base_job_template=template)
    del template["variables"]["properties"]["image"]
    with pytest.raises(ValueError, match="undeclared"):
        WorkPoolCreate(name="formant-archive", type=path.parent.name, base_job_template=template)


def filled_in(path: Path) -> Yaml:
    """A template with its defaults, as Prefect's worker fills it in."""
    from prefect.utilities.templating import apply_values

    template = json.loads(path.read_text())
    defaults = {name: one.get("default") for name, one in template["variables"]["properties"].items()}
    # As the worker sets them for each run.
    given = {"name": "run", "command": "prefect flow-run execute", "labels": {}, "annotations": {}}
    values = {name: value for name, value in {**defaults, **given}.items() if value is not None}
    found: Yaml = apply_values(template["job_configuration"], values, remove_notset=True)
    return found


@each_template
def test_no_secret_is_in_a_template_only_where_it_lies(path: Path) -> None:
    template = json.loads(path.read_text())
    env = template["variables"]["properties"]["env"].get("default", {})

    assert not [name for name in env if re.search(r"(?i)key|secret|token|password", name)]
    assert "FORMANT_API_KEY" not in json.dumps(env)


def job() -> Yaml:
    found: Yaml = filled_in(DEPLOYMENTS / "kubernetes" / "base-job-template.json")["job_manifest"]
    (container,) = found["spec"]["template"]["spec"]["containers"]
    # The worker makes these two of what the template has.
    container["args"] = container["args"].split()
    container["env"] = [{"name": name, "value": value} for name, value in container.get("env", {}).items()]
    return found


def kubernetes() -> Iterator[Yaml]:
    yield from yaml.safe_load_all((DEPLOYMENTS / "kubernetes" / "archive.yaml").read_text())


@pytest.mark.parametrize("release", ["1.29", kubernetes_validate.latest_version()])
def test_kubernetes_takes_the_job_and_what_it_needs(release: str) -> None:
    for document in (job(), *kubernetes()):
        kubernetes_validate.validate(document, release, strict=True)


def test_the_jobs_pod_is_a_restricted_one() -> None:
    pod = job()["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == values("USER")[-1]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [one["mountPath"] for one in container["volumeMounts"]] == ["/tmp"]


def test_the_job_finds_the_names_that_are_made_for_it() -> None:
    spec = job()["spec"]["template"]["spec"]
    made = {(one["kind"], one["metadata"]["name"]) for one in kubernetes()}
    named = {next(iter(one.values()))["name"] for one in spec["containers"][0]["envFrom"]}

    assert ("ServiceAccount", spec["serviceAccountName"]) in made
    assert ("ConfigMap", "formant-archive") in made
    assert named == {"formant-archive"}
    assert {one["metadata"].get("namespace") for one in kubernetes()} <= {None, job()["metadata"]["namespace"]}


def test_ecs_gives_the_key_by_reference_and_the_role_to_the_task() -> None:
    found = filled_in(DEPLOYMENTS / "ecs" / "base-job-template.json")
    (container,) = found["task_definition"]["containerDefinitions"]
    (secret,) = container["secrets"]

    assert secret["name"] == "FORMANT_API_KEY"
    assert secret["valueFrom"].startswith("arn:aws:secretsmanager:")
    assert container["user"] == values("USER")[-1]
    assert found["task_run_request"]["overrides"]["taskRoleArn"].endswith("-writer")


def test_the_charts_run_the_prefect_of_our_constraints() -> None:
    pinned = re.search(r"(?m)^prefect==(\S+)$", (ROOT / "constraints.txt").read_text())
    assert pinned
    server = yaml.safe_load((DEPLOYMENTS / "kubernetes" / "server-values.yaml").read_text())
    worker = yaml.safe_load((DEPLOYMENTS / "kubernetes" / "worker-values.yaml").read_text())

    assert server["global"]["prefect"]["image"]["prefectTag"] == f"{pinned[1]}-python3.11"
    assert worker["worker"]["image"]["prefectTag"] == f"{pinned[1]}-python3.11-kubernetes"
    assert "authString" not in json.dumps([server, worker])

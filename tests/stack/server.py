"""Prefect's server on PostgreSQL, and what it says through its own API; Prefect itself is not imported here."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from benchmarks.stage import free_port
from tests.stack.processes import Processes, wait_until

Json = dict[str, Any]
SCHEDULER_SECONDS = 2


class Prefect:
    """A server, and what it knows."""

    def __init__(self, processes: Processes, database: str) -> None:
        self._processes = processes
        self._settings = {
            "PREFECT_API_DATABASE_CONNECTION_URL": database,
            "PREFECT_SERVER_LOGGING_LEVEL": "DEBUG",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": str(SCHEDULER_SECONDS),
        }
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/api"
        self._http = httpx.Client(base_url=self.url, trust_env=False, timeout=60)
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        at = ["--host", "127.0.0.1", "--port", str(self._port)]
        home = str(self._processes.folder / "server-home")
        settings = {**self._settings, "PREFECT_HOME": home}
        self._process = self._processes.python("server", "prefect", "server", "start", *at, more=settings)
        wait_until(self._is_up, "Prefect's server answers")

    def stop(self) -> None:
        """Stop the server and all that it started, as an operator would."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        self._processes.kill("server")

    def _is_up(self) -> bool:
        try:
            return self._http.get("/health").is_success
        except httpx.TransportError:
            return False

    def _ask(self, path: str, **body: Any) -> list[Json]:
        answer = self._http.post(path, json=body)
        assert answer.is_success, answer.text
        found: list[Json] = answer.json()
        return found

    def deployments(self) -> list[Json]:
        return sorted(self._ask("/deployments/filter"), key=lambda one: str(one["name"]))

    def runs(self, deployment: str) -> list[Json]:
        """Give a deployment's runs."""
        return self._ask("/flow_runs/filter", deployments={"name": {"any_": [deployment]}}, limit=200)

    def artifact(self, key: str) -> Json | None:
        found = self._ask("/artifacts/latest/filter", artifacts={"key": {"any_": [key]}})
        return found[0] if found else None

    def begin_run(self, deployment: str, *states: str) -> str:
        """Begin a run, and bring it into states, one after the other, as a worker does; give its id."""
        (found,) = [one for one in self.deployments() if one["name"] == deployment]
        made = self._http.post(f"/deployments/{found['id']}/create_flow_run", json={})
        assert made.is_success, made.text
        run = str(made.json()["id"])
        for state in states:
            assert self._http.post(f"/flow_runs/{run}/set_state", json={"state": {"type": state}}).is_success
        return run

    def state(self, run: str) -> str:
        """Give the type of a run's state."""
        return str(self._http.get(f"/flow_runs/{run}").json()["state_type"])

    def emit(self, event: str, resource: Json, **more: Any) -> None:
        """Send an event, as a flow's process does."""
        common = {"id": str(uuid4()), "occurred": datetime.now(UTC).isoformat(), "payload": {}}
        answer = self._http.post("/events", json=[{**common, "event": event, "resource": resource, **more}])
        assert answer.is_success, answer.text

    def events_of(self, run: str, *names: str) -> list[Json]:
        """Give the events of these names that have to do with a run."""
        about = {"event": {"name": names}, "any_resource": {"id": [f"prefect.flow-run.{run}"]}}
        answer = self._http.post("/events/filter", json={"filter": about, "limit": 50})
        assert answer.is_success, answer.text
        found: list[Json] = answer.json()["events"]
        return found

    def pause_schedules(self) -> None:
        """Let nothing begin by the clock, so that what happens does not depend on the time of day."""
        for deployment in self.deployments():
            for schedule in deployment["schedules"]:
                path = f"/deployments/{deployment['id']}/schedules/{schedule['id']}"
                assert self._http.patch(path, json={"active": False}).is_success
        # Prefect's scheduler may have been at it: what it then adds would still come.
        time.sleep(2 * SCHEDULER_SECONDS)
        for run in self._ask("/flow_runs/filter", flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}}):
            assert self._http.delete(f"/flow_runs/{run['id']}").is_success

    @contextmanager
    def scheduled_once(self, name: str, parameters: Json) -> Iterator[None]:
        """Have a deployment run by the clock in a few seconds."""
        (deployment,) = [one for one in self.deployments() if one["name"] == name]
        path = f"/deployments/{deployment['id']}/schedules"
        first = datetime.now(UTC) + timedelta(seconds=5)
        yearly = {"interval": timedelta(days=365).total_seconds(), "anchor_date": first.isoformat()}
        wanted = {"schedule": yearly, "active": True, "parameters": parameters, "slug": "stack-test"}
        answer = self._http.post(path, json=[wanted])
        assert answer.is_success, answer.text
        (made,) = answer.json()
        try:
            yield
        finally:
            assert self._http.delete(f"{path}/{made['id']}").is_success


@contextmanager
def serving(processes: Processes, database: str) -> Iterator[Prefect]:
    server = Prefect(processes, database)
    server.start()
    try:
        yield server
    finally:
        server.stop()

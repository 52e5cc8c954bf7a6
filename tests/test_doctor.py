"""`formant-archive doctor`: what it finds, what it prints, how it ends; that it says no secret and hurts nothing."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from moto import mock_aws

from formant_archive import cli
from formant_archive.client import FormantClient
from formant_archive.crew import abreast
from formant_archive.doctor import Check, exit_code, pipeline
from formant_archive.doctor.check import clock, failure, ok, warning
from formant_archive.doctor.storage import Examination, examine
from formant_archive.errors import StoreRefused, StoreUnavailable
from formant_archive.simulator import Simulator
from formant_archive.stores import Terms
from formant_archive.stores.bucket import Bucket
from formant_archive.stores.s3 import connect
from tests.stores.memory import MemoryStore
from tests.stores.wire import on_request, refusal, reply
from tests.test_race import LooksFirst

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest, AWSResponse
    from mypy_boto3_s3 import S3Client

KEY = "simulated-key"


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.upper().startswith(("ARCHIVE_", "FORMANT_", "PREFECT_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    sim = Simulator(conversations=7)
    with sim.serve() as url:
        monkeypatch.setenv("FORMANT_BASE_URL", url)
        monkeypatch.setenv("FORMANT_API_KEY", KEY)
        yield sim


def run(*arguments: object) -> int:
    try:
        command = ["doctor", "--rounds", "3", *map(str, arguments)]
        return cli.exit_code(lambda: cli.app(command, exit_on_error=False, print_error=False))
    except SystemExit as end:
        return int(end.code or 0)


def examined(store: MemoryStore | Bucket, **more: Any) -> dict[str, Check]:
    it = Examination(store=store, name="one", each=abreast, rounds=3, **more)
    return {check.name: check for check in examine(it)}


# What a user types and sees


def test_a_folder_and_an_api_that_are_well_are_ready_with_exit_code_0(
    api: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "archive") == 0
    said = capsys.readouterr().out.splitlines()

    assert said[-1] == "READY"
    assert [line.split()[0] for line in said[:-1]].count("ok") == 6
    assert any(line.startswith("ok       one winner    3 rounds of 16 writers") for line in said)
    assert api.count() == 1, "one request is all that it costs"


def test_as_json_there_is_each_check_and_whether_it_is_ready(
    api: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "archive", "--json") == 0
    said = json.loads(capsys.readouterr().out)

    assert said["ready"] is True
    assert {check["state"] for check in said["checks"]} == {"ok", "skipped"}
    assert said["checks"][0].keys() == {"name", "state", "text"}


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_key_that_is_refused_is_a_failure_of_the_settings_and_is_not_shown(
    api: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: list[str],
) -> None:
    monkeypatch.setenv("FORMANT_API_KEY", "canary-0815")

    assert run(tmp_path / "archive", *form) == 2
    said = capsys.readouterr()

    assert "FORMANT_API_KEY" in said.out
    assert "canary-0815" not in said.out + said.err


def test_without_settings_there_is_one_line_that_says_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    said = capsys.readouterr().out.splitlines()

    assert len(said) == 2
    assert said[0].startswith("failure  settings      ARCHIVE_URL is not set")
    assert said[1] == "NOT READY: 1 failed, 0 to look at"


def test_a_key_that_prefect_may_have_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "archive", "--json") == 2
    capsys.readouterr()
    with prefect() as url:
        monkeypatch.setenv("PREFECT_API_URL", url)
        assert run(tmp_path / "archive", "--json") == 0
    found = {check["name"]: check["state"] for check in json.loads(capsys.readouterr().out)["checks"]}

    assert found["api"] == "warning"


def test_what_it_stores_lies_under_doctor_and_nowhere_else(api: Simulator, tmp_path: Path) -> None:
    run(tmp_path / "archive")
    run(tmp_path / "archive")

    files = [path.relative_to(tmp_path / "archive") for path in (tmp_path / "archive").rglob("*") if path.is_file()]
    assert len(files) == 2 * 4
    assert {path.parts[0] for path in files} == {"doctor"}
    assert len({path.parts[1] for path in files}) == 2, "an examination of its own each time"


@pytest.mark.parametrize(
    ("checks", "code"),
    [
        ([ok("a", "")], 0),
        ([warning("a", "")], 0),
        ([failure("a", "", 3)], 3),
        ([failure("a", "", 3), failure("b", "", 1)], 1),
        ([failure("a", "", 3), failure("b", "", 2), warning("c", "")], 2),
    ],
)
def test_what_is_known_to_be_wrong_decides_before_what_could_not_be_told(checks: list[Check], code: int) -> None:
    assert exit_code(checks) == code


@pytest.mark.parametrize(
    ("seconds", "state"), [(None, "skipped"), (-59.0, "ok"), (61.0, "warning"), (-900.0, "warning")]
)
def test_clocks_may_be_a_minute_apart(seconds: float | None, state: str) -> None:
    assert clock("clock", seconds).state == state


def test_the_client_knows_how_far_the_apis_clock_is_ahead() -> None:
    sim = Simulator(conversations=1)
    with sim.serve() as url, FormantClient(url, KEY) as client:
        assert client.skew is None
        client.list_page(agent_id=None, offset=0, limit=1)
        assert client.skew is not None
        assert abs(client.skew) < 3600


# Stores that are not as they should be


class Forgets(MemoryStore):
    """Lists nothing of what was just stored."""

    def list(self, prefix: str) -> Iterator[Any]:
        return iter(())


def test_a_store_that_lets_several_writers_win_is_a_failure() -> None:
    found = examined(LooksFirst(16))["one winner"]

    assert (found.state, found.code) == ("failure", 2)
    assert "in 3 of 3 rounds" in found.text


def test_a_store_that_is_lived_with_is_a_warning() -> None:
    assert examined(LooksFirst(16), allow_unsafe=True)["one winner"].state == "warning"


def test_a_store_that_does_not_list_what_it_holds_is_a_failure() -> None:
    assert examined(Forgets())["listing"].state == "failure"


@pytest.mark.parametrize(("error", "code"), [(StoreRefused("denied: do this"), 2), (StoreUnavailable("busy"), 3)])
def test_where_nothing_can_be_stored_nothing_else_is_tried(error: StoreRefused, code: int) -> None:
    store = MemoryStore()
    store.fail_next("put", error)
    found = examined(store)

    assert list(found) == ["write, read"]
    assert (found["write, read"].text, found["write, read"].code) == (str(error), code)


# A bucket


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> "Iterator[S3Client]":
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with mock_aws():
        made = connect()
        made.create_bucket(Bucket="calls", ObjectLockEnabledForBucket=True)
        made.create_bucket(Bucket="plain")
        yield made


def test_a_bucket_that_is_not_there_is_the_last_that_is_asked(client: "S3Client") -> None:
    found = examined(Bucket("other", "a", client))

    assert list(found) == ["bucket"]
    assert "no such bucket" in found["bucket"].text


def test_a_bucket_is_asked_for_versions_locks_and_rights(client: "S3Client") -> None:
    found = examined(Bucket("calls", "a", client), with_lock=True)

    assert found["versions"].state == "ok"
    assert found["retention"].state == "warning"
    assert found["rights"].text.startswith("this key may s3:DeleteObject and s3:DeleteObjectVersion")
    # moto looks at neither hash.
    assert (found["checksums"].state, found["checksums"].code) == ("failure", 2)
    assert found["object lock"].state == "warning"
    assert "BypassGovernanceRetention" in found["object lock"].text
    assert examined(Bucket("plain", "a", client))["versions"].state == "warning"


def test_a_pipeline_that_locks_needs_a_bucket_that_can(client: "S3Client") -> None:
    assert examined(Bucket("calls", "a", client), locks=True)["retention"].state == "ok"
    assert examined(Bucket("plain", "a", client), locks=True)["retention"].state == "failure"


def test_a_store_that_ignores_the_key_it_is_to_encrypt_with_is_a_failure(client: "S3Client") -> None:
    on_request(client, "HeadObject", lambda _: reply(200))

    found = examined(Bucket("calls", "a", client, terms=Terms(kms_key_id="alias/calls")))["write, read"]

    assert (found.state, found.code) == ("failure", 2)


def test_a_bucket_without_locks_refuses_one(client: "S3Client") -> None:
    found = examined(Bucket("plain", "a", client), with_lock=True)["object lock"]

    assert found.state == "failure"
    assert "when it is made" in found.text


def test_no_question_about_rights_leaves_or_takes_anything(client: "S3Client") -> None:
    bucket = Bucket("calls", "a", client)
    bucket.put("doctor/one/probe", b"", sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

    assert [bucket.may("s3:DeleteObject", "doctor/x"), bucket.may("s3:DeleteObjectVersion", "doctor/x")] == [True, True]

    found = client.list_object_versions(Bucket="calls")
    assert [one["Key"] for one in found["Versions"]] == ["a/doctor/one/probe"]
    assert "DeleteMarkers" not in found


@pytest.mark.parametrize(
    ("status", "code", "state"),
    [
        (403, "AccessDenied", "ok"),
        (412, "PreconditionFailed", "warning"),
        (404, "NoSuchKey", "warning"),
        (204, "", "warning"),
        (501, "NotImplemented", "warning"),
    ],
)
def test_rights_are_right_only_where_both_deletions_are_denied(
    client: "S3Client", status: int, code: str, state: str
) -> None:
    asked: list[AWSPreparedRequest] = []

    def meet(request: "AWSPreparedRequest") -> "AWSResponse":
        asked.append(request)
        return refusal(status, code) if code else reply(status)

    on_request(client, "DeleteObject", meet)

    assert examined(Bucket("calls", "a", client))["rights"].state == state
    of_object, of_version = asked
    assert of_object.headers["If-Match"], "it must meet nothing"
    assert of_version.url.endswith("/never-DeleteObjectVersion?versionId=null")


@pytest.mark.parametrize(("refused_at", "state"), [(1, "ok"), (2, "warning")])
def test_a_damaged_body_must_be_refused_by_its_hash_or_by_the_signature(
    client: "S3Client", refused_at: int, state: str
) -> None:
    seen: list[str] = []

    def meet(request: "AWSPreparedRequest") -> "AWSResponse | None":
        if "wrong-checksum" in request.url or "altered-body" in request.url:
            seen.append(request.url)
            return refusal(400, "BadDigest") if len(seen) == refused_at else None
        return None

    on_request(client, "PutObject", meet)

    assert examined(Bucket("calls", "a", client))["checksums"].state == state


# Prefect

DEPLOYED = [
    {
        "name": "archive",
        "entrypoint": "flows.archive.archive_conversations",
        "work_pool_name": "calls",
        "paused": False,
    },
    {"name": "audit", "entrypoint": "flows.audit.audit_archive", "work_pool_name": "calls", "paused": False},
]
POOL = {"status": "READY", "is_paused": False}


@contextmanager
def prefect(
    deployments: object = DEPLOYED,
    pool: object = POOL,
    version: str | None = "3.8.8",
    status: int = 200,
    version_at: str = "",
    heard: list[str] | None = None,
) -> Iterator[str]:
    """Answers as Prefect 3.8's server does; None is a 404. Notes who came with a key; may redirect to the version."""
    answers = {"/api/deployments/filter": deployments, "/api/work_pools/calls": pool, "/api/admin/version": version}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if heard is not None:
                heard.append(self.headers.get("Authorization", ""))
            is_elsewhere = version_at and self.path.endswith("/version")
            self.send_response(302 if is_elsewhere else 404 if found is None else status)
            self.send_header("Location", version_at)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        do_POST = do_GET  # noqa: N815  # the library's name

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        server.server_close()


def asked(url: str, **secrets: str) -> dict[str, Check]:
    return {check.name: check for check in pipeline.examine(pipeline.PrefectApi(url, **secrets))}


def test_prefect_is_not_asked_where_nobody_named_it() -> None:
    assert [check.state for check in pipeline.examine(None)] == ["skipped"]


def test_prefect_with_its_deployments_and_a_worker_is_well() -> None:
    with prefect() as url:
        assert {check.state for check in asked(url).values()} == {"ok"}


def test_prefect_cloud_tells_no_version() -> None:
    with prefect(version=None) as url:
        assert asked(url)["prefect"].state == "ok"


@pytest.mark.parametrize(
    ("told", "name", "state", "hint"),
    [
        ({"deployments": []}, "deployments", "warning", "prefect deploy --all"),
        ({"deployments": [{**DEPLOYED[0], "paused": True}]}, "deployments", "warning", "the archive's own runs"),
        ({"pool": None}, "work pool", "failure", "work-pool create"),
        ({"pool": {**POOL, "status": "NOT_READY"}}, "work pool", "warning", "prefect worker start --pool calls"),
        ({"pool": {**POOL, "is_paused": True}}, "work pool", "warning", "resume calls"),
        ({"version": "2.20.1"}, "prefect", "failure", "2.20.1"),
        ({"deployments": {"detail": "a page of somebody else's"}}, "prefect", "failure", "PREFECT_API_URL"),
        ({"deployments": [{"id": 1}]}, "prefect", "failure", "PREFECT_API_URL"),
        ({"pool": []}, "work pool", "failure", "PREFECT_API_URL"),
    ],
)
def test_what_prefect_lacks_is_said_with_what_to_do(told: dict[str, Any], name: str, state: str, hint: str) -> None:
    with prefect(**told) as url:
        found = asked(url)[name]

    assert found.state == state
    assert hint in found.text


def test_the_key_of_prefect_follows_no_redirect() -> None:
    heard: list[str] = []
    with prefect(heard=heard) as other, prefect(version_at=f"{other}/admin/version") as url:
        found = asked(url, key="canary-0815")["prefect"]

    assert found.state == "failure"
    assert heard == []


@pytest.mark.parametrize(("status", "code"), [(401, 2), (500, 2)])
def test_prefect_that_refuses_is_a_failure_that_does_not_show_the_key(status: int, code: int) -> None:
    with prefect(status=status) as url:
        (found,) = asked(url, key="canary-0815").values()

    assert (found.state, found.code) == ("failure", code)
    assert str(status) in found.text
    assert "canary" not in found.text


def test_prefect_that_is_not_there_could_not_be_told() -> None:
    with prefect() as url:
        pass
    (found,) = asked(url, auth="user:canary-0815").values()

    assert (found.state, found.code) == ("failure", 3)
    assert "canary" not in found.text

"""Settings: from the environment or `.env`, and what is wrong with them is said in one line that shows no value."""

import os
import pickle
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from formant_archive.errors import UsageError
from formant_archive.policy import Policy
from formant_archive.retention import Keeping, Rule
from formant_archive.settings import Settings, load_settings

KEY = "sk-very-secret-4711"


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine, and no `.env` but the test's own."""
    for name in os.environ:
        if name.upper().startswith(("ARCHIVE_", "FORMANT_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refusal(**overrides: object) -> str:
    """What is said of settings that are missing or wrong: one line, and no value anywhere."""
    with pytest.raises(UsageError) as caught:
        load_settings(**overrides)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert KEY not in str(caught.value.__context__)
    return str(caught.value)


def test_only_the_archives_address_has_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal().startswith("ARCHIVE_URL is not set. Set it in the environment or in .env")
    monkeypatch.setenv("ARCHIVE_URL", "/archive")

    assert load_settings().archive_url == "/archive"


def test_the_defaults_are_the_documented_ones() -> None:
    settings = load_settings(archive_url="a")

    assert settings.formant_api_key is None
    assert settings.formant_base_url == "https://api.voice.formantai.com"
    assert settings.archive_concurrency == 16
    assert settings.archive_allow_unsafe_store is False
    assert settings.policy == Policy(
        statuses=frozenset({"completed"}),
        grace=timedelta(hours=72),
        probe_interval=timedelta(minutes=15),
        results_wait=timedelta(minutes=30),
        overlap=timedelta(hours=6),
    )


def test_every_setting_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "FORMANT_API_KEY": KEY,
        "FORMANT_BASE_URL": "https://api.in.voice.formantai.com/",
        "ARCHIVE_URL": "s3://bucket/prefix",
        "ARCHIVE_STATUSES": " completed, failed ,,busy",
        "ARCHIVE_GRACE_HOURS": "1.5",
        "ARCHIVE_PROBE_MINUTES": "0",
        "ARCHIVE_RESULTS_WAIT_MINUTES": "0",
        "ARCHIVE_OVERLAP_HOURS": "12",
        "ARCHIVE_CONCURRENCY": "4",
        "ARCHIVE_ALLOW_UNSAFE_STORE": "true",
        "ARCHIVE_LOCK_MODE": "governance",
        "ARCHIVE_RETENTION_DAYS": "30",
        "ARCHIVE_RETENTION_POLICY": "",
        "ARCHIVE_RETENTION_CAP_DAYS": "60",
        "ARCHIVE_KMS_KEY_ID": "alias/calls",
        "ARCHIVE_BUCKET_KEY": "false",
        "ARCHIVE_STORAGE_CLASS": "STANDARD_IA",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    settings = load_settings()

    assert settings.formant_api_key is not None
    assert settings.formant_api_key.get_secret_value() == KEY
    assert settings.source == "https://api.in.voice.formantai.com"
    assert settings.archive_url == "s3://bucket/prefix"
    assert settings.archive_concurrency == 4
    assert settings.archive_allow_unsafe_store
    assert settings.policy == Policy(
        statuses=frozenset({"completed", "failed", "busy"}),
        grace=timedelta(hours=1.5),
        probe_interval=timedelta(0),
        results_wait=timedelta(0),
        overlap=timedelta(hours=12),
        keeping=Keeping("GOVERNANCE", (Rule(30),)),
    )
    assert {name.lower() for name in given} == set(Settings.model_fields), "a setting is missing here"


def test_settings_are_read_from_a_dotenv_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"# mine\nARCHIVE_URL='/né'\nexport FORMANT_API_KEY={KEY}\nSOMETHING_ELSE=1\n")

    settings = load_settings()

    assert settings.archive_url == "/né"
    assert settings.formant_api_key is not None
    assert settings.formant_api_key.get_secret_value() == KEY


def test_the_environment_outranks_the_dotenv_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ARCHIVE_URL=/file\nARCHIVE_CONCURRENCY=3\n")
    monkeypatch.setenv("ARCHIVE_URL", "/environment")

    assert load_settings().archive_url == "/environment"
    assert load_settings().archive_concurrency == 3
    assert load_settings(archive_url="/argument").archive_url == "/argument"


def test_an_argument_that_was_not_given_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_URL", "/environment")

    assert load_settings(archive_url=None).archive_url == "/environment"


@pytest.mark.parametrize("name", ["FORMANT_API_KEY", "FORMANT_BASE_URL", "ARCHIVE_STATUSES", "ARCHIVE_GRACE_HOURS"])
def test_an_empty_setting_is_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")

    assert load_settings(archive_url="a") == Settings(archive_url="a")


def test_an_empty_address_is_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ARCHIVE_URL", "")
    (tmp_path / ".env").write_text("ARCHIVE_URL=\n")

    assert "ARCHIVE_URL is not set" in refusal()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ARCHIVE_GRACE_HOURS", [KEY, "-1", "nan", "inf", "1e9", "72h"]),
        ("ARCHIVE_PROBE_MINUTES", [KEY, "-0.1", "nan", "inf", "1e9"]),
        ("ARCHIVE_RESULTS_WAIT_MINUTES", [KEY, "-1", "nan"]),
        ("ARCHIVE_OVERLAP_HOURS", [KEY, "-1", "nan", "-inf"]),
        ("ARCHIVE_CONCURRENCY", [KEY, "0", "-1", "1.5", "100000", "9" * 5000]),
        ("ARCHIVE_STATUSES", [",", " , ", " "]),
        ("ARCHIVE_ALLOW_UNSAFE_STORE", [KEY, "2", "maybe"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_setting_is_named_with_what_to_do_and_its_value_is_not_shown(
    name: str, values: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in values:
        monkeypatch.setenv(name, value)

        said = refusal(archive_url="a")

        assert said.startswith(f"{name}: ")
        assert ".env" in said
        assert len(said) < 300


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_CONCURRENCY", KEY)
    monkeypatch.setenv("ARCHIVE_GRACE_HOURS", KEY)

    said = refusal()

    assert all(name in said for name in ("ARCHIVE_URL", "ARCHIVE_CONCURRENCY", "ARCHIVE_GRACE_HOURS"))


@pytest.mark.parametrize(
    "content",
    [f"FORMANT_API_KEY={KEY}\nARCHIVE_URL=/a\n".encode("utf-16"), f"FORMANT_API_KEY={KEY}\xe9\n".encode("latin-1")],
    ids=["as PowerShell writes it", "in an old encoding"],
)
def test_a_dotenv_file_that_is_not_utf8_is_named_with_what_to_do(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(content)

    assert ".env" in refusal()


def test_the_key_is_in_no_text_that_the_settings_give() -> None:
    settings = load_settings(archive_url="a", formant_api_key=KEY)

    assert KEY not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert KEY not in f"{settings.formant_api_key!r} {settings.formant_api_key} {settings.policy}"


def test_the_settings_never_change() -> None:
    with pytest.raises(ValidationError):
        load_settings(archive_url="a").__setattr__("archive_url", "b")


def test_equal_settings_are_one_key_so_that_a_process_has_one_client() -> None:
    one, other = load_settings(archive_url="a"), load_settings(archive_url="a")

    assert len({one, other}) == 1
    assert pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize(
    ("status", "is_open"),
    [("completed", False), ("busy", False), ("in_progress", True), ("", True), ("COMPLETED", True), ("mine", False)],
)
def test_a_status_that_is_neither_documented_nor_chosen_is_a_call_in_progress(status: str, *, is_open: bool) -> None:
    assert load_settings(archive_url="a", archive_statuses="completed,mine").policy.is_open(status) == is_open


def test_an_overlap_is_whole_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_OVERLAP_HOURS", "0.0001")

    assert load_settings(archive_url="a").policy.overlap_ms == 360

"""The settings: one frozen object, built once from the environment or `.env`. Nothing else reads the environment."""

import os
import tomllib
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from formant_archive.errors import UsageError
from formant_archive.policy import Policy
from formant_archive.retention import (
    PRESETS,
    SETTING,
    Keeping,
    Mode,
    keeping_of_days,
    keeping_of_file,
    keeping_of_preset,
)

Text = Annotated[str, Field(min_length=1)]


class Settings(BaseSettings):
    """What the user decided.

    Attributes:
        formant_api_key: The key of one FormantAI workspace; not needed to read an archive.
        formant_base_url: Where the API is.
        archive_url: `s3://bucket/prefix`, `file:///path` or a plain path.
        archive_statuses: Conversations of these statuses are archived; separated by commas.
        archive_grace_hours: From the end of a call until what never came may be called absent.
        archive_probe_minutes: Between two questions for what was not there; doubles up to six hours.
        archive_results_wait_minutes: From the end of a call until a body without results is taken as it is.
        archive_overlap_hours: How far behind the watermark a listing looks again.
        archive_concurrency: Requests at once in a process.
        archive_lock_mode: `governance` or `compliance`: every object is locked when it is stored. By default none is.
        archive_retention_days: From the end of a call until its objects' lock ends.
        archive_retention_policy: In its place: a preset's name, or a TOML file of rules.
        archive_retention_cap_days: Nothing is locked for longer.
        archive_kms_key_id: The KMS key that encrypts every object: id, ARN or alias. By default the bucket decides.
        archive_bucket_key: Whether S3 may use one data key for many objects; only with `archive_kms_key_id`.
        archive_storage_class: Of payloads alone. Classes that must be restored before they can be read are refused.
        archive_allow_unsafe_store: Live with a store that ignores `If-None-Match: *`. One writer only, then.
    """

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    formant_api_key: SecretStr | None = None
    formant_base_url: Text = "https://api.voice.formantai.com"
    archive_url: Text
    archive_statuses: Annotated[frozenset[Text], NoDecode, Field(min_length=1)] = frozenset({"completed"})
    archive_grace_hours: Annotated[float, Field(ge=0, le=87_600)] = 72
    archive_probe_minutes: Annotated[float, Field(ge=0, le=525_600)] = 15
    archive_results_wait_minutes: Annotated[float, Field(ge=0, le=525_600)] = 30
    archive_overlap_hours: Annotated[float, Field(ge=0, le=87_600)] = 6
    archive_concurrency: Annotated[int, Field(ge=1, le=256)] = 16
    archive_lock_mode: Literal["governance", "compliance"] | None = None
    archive_retention_days: Annotated[int, Field(ge=1)] | None = None
    archive_retention_policy: Text | None = None
    archive_retention_cap_days: Annotated[int, Field(ge=1, le=36_525)] = 3653
    archive_kms_key_id: Text | None = None
    archive_bucket_key: bool = True
    archive_storage_class: (
        Literal["STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"] | None
    ) = None
    archive_allow_unsafe_store: bool = False

    @field_validator("archive_statuses", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return frozenset(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @property
    def source(self) -> str:
        """The API's base URL, as records and manifests name it."""
        return self.formant_base_url.rstrip("/")

    @property
    def policy(self) -> Policy:
        """The rules of waiting, as the core takes them."""
        return Policy(
            statuses=self.archive_statuses,
            grace=timedelta(hours=self.archive_grace_hours),
            probe_interval=timedelta(minutes=self.archive_probe_minutes),
            results_wait=timedelta(minutes=self.archive_results_wait_minutes),
            overlap=timedelta(hours=self.archive_overlap_hours),
            keeping=self.keeping,
        )

    @property
    def terms(self) -> dict[str, Any]:
        """What is asked of a bucket for every object, by the names of `stores.Terms`."""
        return {
            "kms_key_id": self.archive_kms_key_id,
            "bucket_key": self.archive_bucket_key,
            "storage_class": self.archive_storage_class,
        }

    @property
    def keeping(self) -> Keeping | None:
        """How long objects are locked; None where no lock was asked for.

        Raises:
            UsageError: The settings contradict each other, the policy cannot be read, or it goes beyond the cap.
        """
        days, policy, cap = self.archive_retention_days, self.archive_retention_policy, self.archive_retention_cap_days
        if self.archive_lock_mode is None:
            if days is None and policy is None:
                return None
            raise UsageError("ARCHIVE_LOCK_MODE is not set, and a retention is: set it to governance or compliance")
        mode: Mode = "GOVERNANCE" if self.archive_lock_mode == "governance" else "COMPLIANCE"
        if (days is None) == (policy is None):
            raise UsageError(f"ARCHIVE_LOCK_MODE needs ARCHIVE_RETENTION_DAYS or {SETTING}: set one of the two")
        if days is not None:
            return keeping_of_days(mode, days, cap_days=cap)
        if policy in PRESETS:
            return keeping_of_preset(mode, policy, cap_days=cap)
        return keeping_of_file(mode, _toml(Path(policy or "")), cap_days=cap)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        known = ", ".join(PRESETS)
        raise UsageError(f"{SETTING}: {path}: {fault.strerror}; no preset is called so either: {known}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise UsageError(f"{SETTING}: {path} is no TOML file") from None


class PrefectSettings(BaseSettings):
    """Where Prefect's API is, in Prefect's own variables: the doctor asks it.

    Attributes:
        api_url: None where the pipeline is not told of a server.
        api_key: Of Prefect Cloud.
        api_auth_string: `user:password` of a server of one's own.
    """

    model_config = SettingsConfigDict(
        env_prefix="PREFECT_", env_file=".env", extra="ignore", hide_input_in_errors=True, env_ignore_empty=True
    )

    api_url: Text | None = None
    api_key: SecretStr | None = None
    api_auth_string: SecretStr | None = None


def current_settings() -> Settings:
    """Give the process's settings: built once, and again only where its environment has changed.

    Raises:
        UsageError: As in `load_settings`.
    """
    names = Settings.model_fields.keys()
    return _built(frozenset(one for one in os.environ.items() if one[0].lower() in names))


@lru_cache(maxsize=1)
def _built(environment: frozenset[tuple[str, str]]) -> Settings:
    return load_settings()


def load_settings(**overrides: object) -> Settings:
    """Build the settings from the environment.

    Args:
        overrides: Settings that were given in another way, as on the command line; None means not given.

    Raises:
        UsageError: One is missing or wrong; it is named, its value is not shown.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as fault:
        raise UsageError(_sentence(fault)) from None
    except UnicodeDecodeError:
        raise UsageError(".env is not UTF-8 text: save it as UTF-8, or set the environment instead") from None


def _sentence(fault: ValidationError) -> str:
    """Name the settings that are missing or wrong, and what to do."""
    wrong = []
    for error in fault.errors(include_input=False, include_url=False, include_context=False):
        name = str(error["loc"][0]).upper()
        wrong.append(f"{name} is not set" if error["type"] == "missing" else f"{name}: {_lower(error['msg'])}")
    return f"{'; '.join(wrong)}. Set it in the environment or in .env; the README lists all settings"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]

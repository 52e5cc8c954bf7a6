"""The policies in `deployments/aws/policies` at work: IAM's way of judging, and an S3 on loopback that obeys it.

Only what these policies use is known here; anything else (`NotAction`, another operator) raises instead of being judged
wrongly. moto's own check is of no use for this: it knows no bucket policies, and takes a condition that does not apply
for a refusal. KMS is not played: the statements about the key are judged, not obeyed.
"""

import io
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, Final
from urllib.parse import parse_qs, unquote
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app

POLICIES = Path(__file__).resolve().parents[1] / "deployments" / "aws" / "policies"
BUCKET, PREFIX, ACCOUNT = "calls-archive", "calls", "123456789012"
REGION: Final = "eu-central-1"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd"
#: The four roles; an access key of the same name acts as the role.
ROLES = ("writer", "auditor", "hold-officer", "eraser")
ADMIN = "admin"

Statement = dict[str, Any]
Context = Mapping[str, str]


def role_arn(role: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{BUCKET}-{role}"


NAMES = {
    "bucket_arn": f"arn:aws:s3:::{BUCKET}",
    "archive_arn": f"arn:aws:s3:::{BUCKET}/{PREFIX}",
    "key_arn": KEY,
    "region": REGION,
    "eraser_arn": role_arn("eraser"),
    "hold_officer_arn": role_arn("hold-officer"),
    "retention_cap_days": "3653",
    "account": ACCOUNT,
    "service": "ecs-tasks.amazonaws.com",
    "person_arn": f"arn:aws:iam::{ACCOUNT}:user/somebody",
}


def text_of(name: str) -> str:
    """A policy with its names filled in, as Terraform's `templatefile` does."""
    return Template((POLICIES / f"{name}.json").read_text()).substitute(NAMES)


@cache
def statements(name: str) -> list[Statement]:
    found: list[Statement] = json.loads(text_of(name))["Statement"]
    return found


def listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


# Judging


@dataclass(frozen=True)
class Request:
    """One right that a call needs.

    Attributes:
        action: `s3:PutObject`.
        resource: Its ARN.
        role: Who calls.
        context: The condition keys that the call has.
    """

    action: str
    resource: str
    role: str
    context: Context = field(default_factory=dict)


#: Of somebody who may do anything in the account.
ALL_RIGHTS: list[Statement] = [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]
#: What a call over today's TLS has besides.
SECURE = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}


def allows(request: Request) -> bool:
    """Judge as IAM does within one account: a Deny counts, else an Allow, in the role's policy or the bucket's."""
    of_service = request.action.partition(":")[0]
    own = ALL_RIGHTS if request.role == ADMIN else statements(request.role)
    everything = own + (statements("bucket") if of_service == "s3" else [])
    effects = {one["Effect"] for one in everything if _applies(one, request)}
    return effects == {"Allow"}


def _applies(statement: Statement, request: Request) -> bool:
    unknown = statement.keys() - {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
    assert not unknown, f"not known here: {unknown}"
    assert statement.get("Principal", "*") == "*"
    return (
        any(_is_like(one.lower(), request.action.lower()) for one in listed(statement["Action"]))
        and any(_is_like(one, request.resource) for one in listed(statement["Resource"]))
        and all(
            _OPERATORS[operator](_value(request, key), expected)
            for operator, keys in statement.get("Condition", {}).items()
            for key, expected in keys.items()
        )
    )


def _is_like(pattern: str, text: str) -> bool:
    return _expression(pattern).fullmatch(text) is not None


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    parts = (".*" if each == "*" else "." if each == "?" else re.escape(each) for each in pattern)
    return re.compile("".join(parts), re.DOTALL)


def _value(request: Request, key: str) -> str | None:
    context = {**SECURE, "aws:PrincipalArn": role_arn(request.role), **request.context}
    return {name.lower(): value for name, value in context.items()}.get(key.lower())


# A key that is not there: no match, but what must *not* match does.
_OPERATORS: dict[str, Callable[[str | None, str], bool]] = {
    "Null": lambda value, expected: (value is None) == (expected == "true"),
    "Bool": lambda value, expected: value == expected,
    "StringEquals": lambda value, expected: value == expected,
    "StringNotEquals": lambda value, expected: value != expected,
    "ArnNotEquals": lambda value, expected: value is None or not _is_like(expected, value),
    "NumericLessThan": lambda value, expected: value is not None and float(value) < float(expected),
    "NumericGreaterThan": lambda value, expected: value is not None and float(value) > float(expected),
}


# What a request over the wire needs

_LOCK, _HOLD = "x-amz-object-lock-mode", "x-amz-object-lock-legal-hold"
#: Method, whether it is about an object, and the query's word that says what of it.
_ACTIONS = {
    ("PUT", True, ""): "PutObject",
    ("POST", True, "uploads"): "PutObject",
    ("PUT", True, "uploadId"): "PutObject",
    ("POST", True, "uploadId"): "PutObject",
    ("PUT", True, "retention"): "PutObjectRetention",
    ("PUT", True, "legal-hold"): "PutObjectLegalHold",
    ("GET", True, ""): "GetObject",
    ("HEAD", True, ""): "GetObject",
    ("GET", True, "versionId"): "GetObjectVersion",
    ("GET", True, "retention"): "GetObjectRetention",
    ("GET", True, "legal-hold"): "GetObjectLegalHold",
    ("DELETE", True, ""): "DeleteObject",
    ("DELETE", True, "versionId"): "DeleteObjectVersion",
    ("POST", False, "delete"): "DeleteObject",
    ("HEAD", False, ""): "ListBucket",
    ("GET", False, "list-type"): "ListBucket",
    ("GET", False, "versions"): "ListBucketVersions",
    ("GET", False, "object-lock"): "GetBucketObjectLockConfiguration",
    ("GET", False, "policy"): "GetBucketPolicy",
    ("GET", False, "publicAccessBlock"): "GetBucketPublicAccessBlock",
    ("GET", False, "versioning"): "GetBucketVersioning",
    ("GET", False, "encryption"): "GetEncryptionConfiguration",
    ("GET", False, "lifecycle"): "GetLifecycleConfiguration",
    ("PUT", False, "policy"): "PutBucketPolicy",
    ("DELETE", False, "policy"): "DeleteBucketPolicy",
    ("PUT", False, "object-lock"): "PutBucketObjectLockConfiguration",
    ("PUT", False, "versioning"): "PutBucketVersioning",
    ("PUT", False, "lifecycle"): "PutLifecycleConfiguration",
    ("DELETE", False, ""): "DeleteBucket",
}
_ABOUT = {about for _, _, about in _ACTIONS} - {""}


def needed(method: str, path: str, query: str, headers: Context, role: str, body: str = "") -> list[Request]:
    """Give the rights that a request needs, each with its condition keys."""
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    words = parse_qs(query, keep_blank_values=True)
    # What a version is asked for says more than that one is: `?retention&versionId=…`.
    about = next(iter(sorted(words.keys() & _ABOUT, key=lambda word: word == "versionId")), "")
    arn = f"arn:aws:s3:::{bucket}" + (f"/{key}" if key else "")
    action = _ACTIONS[method, bool(key), about]
    if about == "delete":
        arn += "/*"
    context = _context(method, about, headers, body)
    return [Request(f"s3:{one}", arn, role, context) for one in (action, *_besides(action, headers))]


def _besides(action: str, headers: Context) -> Iterator[str]:
    if action == "PutObject" and _LOCK in headers:
        yield "PutObjectRetention"
    if action == "PutObject" and _HOLD in headers:
        yield "PutObjectLegalHold"
    if headers.get("x-amz-bypass-governance-retention", "").lower() == "true":
        yield "BypassGovernanceRetention"


def _context(method: str, about: str, headers: Context, body: str) -> dict[str, str]:
    found = {f"s3:{name}": headers[name] for name in headers if name.startswith("x-amz-server-side-encryption")}
    if "if-none-match" in headers:
        found["s3:if-none-match"] = headers["if-none-match"]
    # Creating an upload and putting its parts creates no object yet.
    if method in ("PUT", "POST"):
        found["s3:ObjectCreationOperation"] = str(about == "" or (method, about) == ("POST", "uploadId")).lower()
    hold = headers.get(_HOLD) or _between(body, "<Status>", "<")
    if hold:
        found["s3:object-lock-legal-hold"] = hold
    until = headers.get("x-amz-object-lock-retain-until-date") or _between(body, "<RetainUntilDate>", "<")
    if until:
        days = (datetime.fromisoformat(until) - datetime.now(UTC)).days
        found["s3:object-lock-remaining-retention-days"] = str(days)
    return found


def _between(text: str, start: str, end: str) -> str:
    return text.partition(start)[2].partition(end)[0]


# An S3 that obeys


class GuardedS3:
    """moto's S3 behind the policies: who calls is told by the access key, and every call is judged and noted.

    One request at a time: moto looks and then writes without a lock.
    """

    def __init__(self) -> None:
        self._app: WSGIApplication = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self.used: dict[str, set[str]] = {role: set() for role in ROLES}
        self.url = ""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with self._lock:
            role = _between(environ.get("HTTP_AUTHORIZATION", ""), "Credential=", "/")
            if role not in ROLES:
                return self._app(environ, start_response)
            if not all(self._grants(one) for one in _needed_by(environ, role)):
                return _denied(start_response)
            if environ["REQUEST_METHOD"] == "GET" and "retention" in environ["QUERY_STRING"]:
                return self._retention(environ, start_response)
            return self._answer(environ, start_response, role)

    def _retention(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer what moto 5 does not know, from what its HEAD tells."""
        head = {**environ, "REQUEST_METHOD": "HEAD", "QUERY_STRING": ""}
        _, _, headers = run_wsgi_app(self._app, head, buffered=True)
        told = {name.lower(): value for name, value in headers}
        start_response("200 OK", [("Content-Type", "application/xml")])
        until = told.get("x-amz-object-lock-retain-until-date", "")
        inner = f"<Mode>{told[_LOCK]}</Mode><RetainUntilDate>{until}</RetainUntilDate>" if _LOCK in told else ""
        return [f"<?xml version='1.0'?><Retention>{inner}</Retention>".encode()]

    def _grants(self, request: Request) -> bool:
        granted = allows(request)
        if granted:
            self.used[request.role].add(request.action)
        return granted

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse, role: str) -> Iterable[bytes]:
        body, status, headers = run_wsgi_app(self._app, environ, buffered=True)
        arn = f"arn:aws:s3:::{unquote(environ['PATH_INFO']).lstrip('/')}"
        reads = environ["REQUEST_METHOD"] in ("GET", "HEAD")
        # S3 tells who may not list neither that an object is missing nor, without a right of its own, how it is locked.
        if reads and status.startswith("404") and not self._grants(Request("s3:ListBucket", NAMES["bucket_arn"], role)):
            return _denied(start_response)
        hidden = {
            word
            for word, right in ((_LOCK, "s3:GetObjectRetention"), (_HOLD, "s3:GetObjectLegalHold"))
            if reads
            and any(name.lower() == word for name, _ in headers)
            and not self._grants(Request(right, arn, role))
        }
        if _LOCK in hidden:
            hidden.add("x-amz-object-lock-retain-until-date")
        start_response(status, [one for one in headers if one[0].lower() not in hidden])
        return body


def _needed_by(environ: WSGIEnvironment, role: str) -> list[Request]:
    headers = {name[5:].lower().replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")}
    body = ""
    if environ["REQUEST_METHOD"] == "PUT" and environ["QUERY_STRING"].startswith(("retention", "legal-hold")):
        raw = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        # moto reads it once more.
        environ["wsgi.input"], body = io.BytesIO(raw), raw.decode()
    return needed(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"], headers, role, body)


def _denied(start_response: StartResponse) -> Iterable[bytes]:
    start_response("403 Forbidden", [("Content-Type", "application/xml")])
    return [b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"]


@contextmanager
def serving() -> Iterator[GuardedS3]:
    """Serve on a free port of loopback."""
    guarded = GuardedS3()
    server = make_server("127.0.0.1", 0, guarded, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    guarded.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield guarded
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

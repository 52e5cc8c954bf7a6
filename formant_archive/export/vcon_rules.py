"""The rules of the vCon draft that its JSON Schema does not check, and those of our own that make a vCon worth having.

From draft-ietf-vcon-vcon-core-03 (editors' source, 1 July 2026, commit 2341aba). The schema accepts a reference without
a hash, a party that is not there, a failed call without a reason, an address that is not https and a UUID of any kind.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import RFC_4122, UUID

#: RFC 8620, 1.4, to which the draft refers: seconds are cut only where there is a part of one.
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.(?!000)\d{3})?Z", re.ASCII)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_CONTENT_HASH = re.compile(r"sha512-[A-Za-z0-9_-]{86}")
_DISPOSITIONS = {"no-answer", "congestion", "failed", "busy", "hung-up", "voicemail-no-message"}
_CONTENT = {"body", "encoding", "url", "content_hash"}


def faults(vcon: Mapping[str, Any]) -> Iterator[str]:
    """Say which rules an unsigned vCon breaks, without what is in it."""
    parties, dialogs = vcon.get("parties", []), vcon.get("dialog", [])
    yield from _identity(vcon)
    yield from (f"{path} is null or empty" for path in _empties(vcon, ""))
    for kind in ("dialog", "analysis", "attachments"):
        for number, one in enumerate(vcon.get(kind, [])):
            yield from (f"{kind} {number} {fault}" for fault in _content(one))
            yield from (f"{kind} {number} {fault}" for fault in _references(kind, one, len(parties), len(dialogs)))
    for number, one in enumerate(dialogs):
        yield from (f"dialog {number} {fault}" for fault in _kind(one))


def _identity(vcon: Mapping[str, Any]) -> Iterator[str]:
    for name in (vcon.get("uuid", ""), vcon.get("amended", vcon).get("uuid", "")):
        if not _is_uuid_8(name):
            yield "has a uuid that is not one of version 8"
    if not _DATE.fullmatch(vcon.get("created_at", "")):
        yield "has no created_at in UTC"


def _is_uuid_8(text: str) -> bool:
    try:
        found = UUID(text)
    except ValueError:
        return False
    return str(found) == text and found.variant == RFC_4122 and found.version == 8


def _empties(value: Mapping[str, Any], path: str) -> Iterator[str]:
    """Find what says nothing and should be left out; what is in a body is data, and may say nothing."""
    for name, one in value.items():
        if one is None or one == "" or one == [] or one == {}:
            yield f"{path}{name}"
        for inner in one if isinstance(one, list) else [one]:
            if name != "body" and isinstance(inner, dict):
                yield from _empties(inner, f"{path}{name}.")


def _content(one: Mapping[str, Any]) -> Iterator[str]:
    if "body" in one and "url" in one:
        yield "has its content twice"
    if ("body" in one) != ("encoding" in one) or ("url" in one) != ("content_hash" in one):
        yield "has half a content: body goes with encoding, url with content_hash"
    if "url" in one and not str(one["url"]).startswith("https://"):
        yield "has a url that is not https"
    if "content_hash" in one and not _CONTENT_HASH.fullmatch(str(one["content_hash"])):
        yield "has a content_hash that is no SHA-512"
    if "encoding" in one and not _is_encoded(one.get("body"), one["encoding"]):
        yield "has a body that is not encoded as it says"
    if "body" in one and "mediatype" not in one:
        yield "has a body without a mediatype"


def _is_encoded(body: object, encoding: str) -> bool:
    if encoding == "base64url":
        return isinstance(body, str) and bool(_BASE64URL.fullmatch(body)) and len(body) % 4 != 1
    return encoding == "json" or (encoding == "none" and isinstance(body, str))


def _kind(dialog: Mapping[str, Any]) -> Iterator[str]:
    is_incomplete = dialog.get("type") == "incomplete"
    if is_incomplete and _CONTENT & dialog.keys():
        yield "is incomplete and has content"
    if is_incomplete != ("disposition" in dialog):
        yield "has no disposition although it is incomplete, or one although it is not"
    if is_incomplete and dialog.get("disposition") not in _DISPOSITIONS:
        yield "has a disposition that the draft does not know"


def _references(kind: str, one: Mapping[str, Any], parties: int, dialogs: int) -> Iterator[str]:
    """Find what points to a party or dialog that is not there, and starts that are no time in UTC."""
    if kind != "analysis" and not _DATE.fullmatch(str(one.get("start", ""))):
        yield "has no start in UTC"
    named = {"dialog": ("parties", "originator"), "attachments": ("party",), "analysis": ()}[kind]
    if not all(0 <= index < parties for name in named for index in _indices(one.get(name))):
        yield "names a party that is not there"
    if not all(0 <= index < dialogs for index in _indices(one.get("dialog"))):
        yield "names a dialog that is not there"


def _indices(value: object) -> Iterator[int]:
    """Take an index, or all in a list of them; a channel may have a list of its own, or null for nobody."""
    if isinstance(value, list):
        for one in value:
            yield from _indices(one)
    elif isinstance(value, int):
        yield value

"""A conversation's body, `conversation.json`: parsed, and what was said in it for a person to read.

The API's documented form is `{"data": {…, "transcript": [{"role": "agent" or "human", "message"}], "results": {…}}}`.
What has another form is kept as it came, and shown as it came.
"""

import json
from typing import Any, NamedTuple

from formant_archive.errors import PayloadRefused
from formant_archive.records import as_id


class Turn(NamedTuple):
    """What one of them said. `role` is the API's word, `agent` or `human`; empty where it gave none."""

    role: str
    message: str


def read_conversation(body: bytes, conversation_id: str) -> dict[str, Any]:
    """Parse a conversation's body, and give its `data`.

    Raises:
        PayloadRefused: It is not JSON, not of the documented form, or another conversation's.
    """
    is_json, parsed = True, None
    try:
        parsed = json.loads(body)
    # Dropped here, and nothing is raised in its place: the parser's error holds the body.
    except (ValueError, RecursionError):
        is_json = False
    if not is_json:
        raise PayloadRefused("not_json", "the conversation's body is not JSON")
    data = parsed.get("data") if isinstance(parsed, dict) else None
    if not isinstance(data, dict):
        raise PayloadRefused("not_a_conversation", "the conversation's body has no `data` object")
    if as_id(data.get("conversation_id")) != conversation_id:
        raise PayloadRefused("wrong_conversation", "the API answered with another conversation's body")
    return data


def has_transcript(data: dict[str, Any]) -> bool:
    """Whether there is anything in it, in whatever form; a number or `true` is nothing."""
    transcript = data.get("transcript")
    return isinstance(transcript, list | dict | str) and bool(transcript)


def turns(data: dict[str, Any]) -> list[Turn]:
    """List what was said; what is not of the documented form is one turn of whatever is there."""
    if not has_transcript(data):
        return []
    transcript = data["transcript"]
    return [_turn(one) for one in transcript] if isinstance(transcript, list) else [_turn(transcript)]


def _turn(one: object) -> Turn:
    if isinstance(one, dict) and isinstance(one.get("message"), str):
        role = one.get("role")
        return Turn(role if isinstance(role, str) else "", one["message"])
    return Turn("", one if isinstance(one, str) else json.dumps(one, ensure_ascii=False))

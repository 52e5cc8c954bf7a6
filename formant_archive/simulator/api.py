"""FormantAI's documented answers: the key, the rate limit, the list, one conversation, its recording."""

import re
import threading
import urllib.parse
from collections.abc import Callable

from formant_archive.simulator.answers import WAV, Answer, envelope
from formant_archive.simulator.conversations import as_json
from formant_archive.simulator.dice import dice
from formant_archive.simulator.faults import FaultBook
from formant_archive.simulator.rate import RateWindow
from formant_archive.simulator.routing import PRESIGNED_PATH, Ask
from formant_archive.simulator.workspace import Workspace

DEFAULT_LIMIT = 20

_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")
_NO_SUCH_KEY = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code></Error>'


class Api:
    """Answers requests about one workspace, faulty where that was ordered. Safe to use from many threads."""

    def __init__(
        self,
        workspace: Workspace,
        faults: FaultBook,
        window: RateWindow,
        *,
        key: str,
        page_limit: int,
        seed: int,
    ) -> None:
        self.before_page: Callable[[int], object] | None = None
        self._workspace = workspace
        self._faults = faults
        self._window = window
        self._authorization = f"Bearer {key}"
        self._page_limit = page_limit
        self._seed = seed
        self._lock = threading.Lock()
        self._presigned: dict[str, str] = {}

    def answer(self, ask: Ask) -> Answer:
        """Answers a request, which counts for the rate limit unless it is for a presigned URL."""
        if ask.kind == "presigned":
            return self._perhaps_faulty(ask, self._presigned.get(ask.name, ""))
        spent = self._window.spend()
        if ask.authorization != self._authorization:
            answer = envelope(401, "Missing or invalid API key")
        elif spent.exceeded:
            answer = envelope(429, "API rate limit exceeded")
        else:
            self._announce_page(ask)
            answer = self._perhaps_faulty(ask, ask.name)
        return answer.with_headers(spent.headers)

    def _perhaps_faulty(self, ask: Ask, conversation_id: str) -> Answer:
        fault = self._faults.take(ask.kind, conversation_id, f"{ask.path}?{ask.query}")
        if fault is None:
            return self._regular(ask, conversation_id)
        return fault.spoil(
            regular=lambda: self._regular(ask, conversation_id),
            presign=lambda: self._presign(ask.origin, conversation_id),
        )

    def _regular(self, ask: Ask, conversation_id: str) -> Answer:
        if ask.method != "GET":
            return envelope(405, "Only GET is simulated")
        if ask.kind == "list":
            return self._list(ask.query)
        if ask.kind == "conversation":
            return self._conversation(conversation_id)
        if ask.kind == "other":
            return envelope(404, "Not found")
        return self._recording(conversation_id) or (
            envelope(404, "Recording not found")
            if ask.kind == "recording"
            else Answer(404, _NO_SUCH_KEY, "application/xml")
        )

    def _conversation(self, conversation_id: str) -> Answer:
        found = self._workspace.find(conversation_id)
        return Answer(200, found.conversation_json) if found else envelope(404, "Conversation not found")

    def _recording(self, conversation_id: str) -> Answer | None:
        found = self._workspace.find(conversation_id)
        recording = found.recording if found else None
        return None if recording is None else Answer(200, recording, WAV)

    def _list(self, query: str) -> Answer:
        try:
            agent_id, offset, limit = self._page_wanted(query)
        except ValueError as error:
            return envelope(400, str(error))
        rows, total = self._workspace.page(agent_id, offset, limit)
        return Answer(200, as_json({"data": rows, "has_more": offset + len(rows) < total, "total": total}))

    def _page_wanted(self, query: str) -> tuple[int | None, int, int]:
        given = urllib.parse.parse_qs(query, keep_blank_values=True)
        limit = _whole_number(given, "limit", DEFAULT_LIMIT)
        if limit == 0:
            raise ValueError("limit must be at least 1")
        agent_id = _whole_number(given, "agent_id", 0) if "agent_id" in given else None
        return agent_id, _whole_number(given, "offset", 0), min(limit, self._page_limit)

    def _announce_page(self, ask: Ask) -> None:
        if ask.kind != "list" or self.before_page is None:
            return
        try:
            _, offset, limit = self._page_wanted(ask.query)
        except ValueError:
            return
        self.before_page(offset // limit + 1)

    def _presign(self, origin: str, conversation_id: str) -> str:
        with self._lock:
            random_numbers = dice(self._seed, "presigned", len(self._presigned))
            token = f"{random_numbers.getrandbits(96):024x}"
            self._presigned[token] = conversation_id
        return f"{origin}{PRESIGNED_PATH}{token}?X-Amz-Signature={random_numbers.getrandbits(256):064x}"


def _whole_number(given: dict[str, list[str]], name: str, default: int) -> int:
    """Reads a parameter.

    Raises:
        ValueError: It is not a whole number of 0 or more.
    """
    text = given.get(name, [str(default)])[-1]
    if not _WHOLE_NUMBER.fullmatch(text):
        raise ValueError(f"{name} must be a non-negative integer")
    return int(text)

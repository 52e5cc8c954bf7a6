"""FormantAI's API as a case has it: in process, or on a real socket."""

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import httpx

from formant_archive.client import FormantClient
from tests.corpus.cases import HEALTHY, KEY, OTHER, Answer, Case, Step, page
from tests.plain import Clock

LIST = "/v1/conversations"


class Api:
    """Answers as the case says, until it is mended; whatever is not about the healthy one is about the sick one."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._answers = case.answers
        self.is_mended = False
        self.asked: Counter[str] = Counter()
        self.paths: set[str] = set()
        self.requests_to_links: list[httpx.Request] = []

    def mend(self) -> None:
        self.is_mended = True

    def answer(self, path: str) -> Answer | None:
        """The answer to a request for this path; None where the case's `wire` is to be sent."""
        self.paths.add(path)
        name, is_recording = path.removeprefix(f"{LIST}/"), path.endswith("/recording")
        if name in (HEALTHY, f"{HEALTHY}/recording"):
            body = OTHER.recording if is_recording else OTHER.conversation
            return Answer(body=body, sent=body)
        return self._next("list" if path == LIST else "recording" if is_recording else "conversation")

    def _next(self, payload: str) -> Answer | None:
        if self.is_mended:
            sound = self._case.sound
            rows = page([sound.row, OTHER.row])
            body = {"list": rows, "conversation": sound.conversation, "recording": sound.recording}[payload]
            return Answer(body=body, sent=body)
        answers, number = self._answers[payload], self.asked[payload]
        self.asked[payload] += 1
        if payload == self._case.said.get("payload"):
            return None
        return answers[min(number, len(answers) - 1)]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = self.answer(request.url.raw_path.decode().partition("?")[0])
        assert answer is not None
        return _response(answer)

    def follow(self, request: httpx.Request) -> httpx.Response:
        self.requests_to_links.append(request)
        answers = self._answers["link"]
        return _response(answers[min(len(self.requests_to_links), len(answers)) - 1])


class _Once(httpx.SyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self._content


def _response(answer: Answer) -> httpx.Response:
    return httpx.Response(answer.status, headers=dict(answer.headers), stream=_Once(answer.sent))


@contextmanager
def in_process(api: Api, clock: Clock, base: str) -> Iterator[FormantClient]:
    """A client of the API in process; time passes only where it sleeps."""
    with FormantClient(
        base,
        KEY,
        transport=httpx.MockTransport(api),
        redirect_transport=httpx.MockTransport(api.follow),
        clock=lambda: clock.at.timestamp(),
        wall_clock=clock,
        sleep=lambda seconds: clock.go(seconds=seconds),
        random=lambda: 0.5,
    ) as client:
        yield client


@contextmanager
def on_a_socket(api: Api, case: Case, clock: Clock) -> Iterator[FormantClient]:
    """A client of the API on loopback, one connection after the other, with real deadlines."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        serving = threading.Thread(target=_serve, args=(listening, api, case.replies), daemon=True)
        serving.start()
        seconds = case.said.get("seconds", 10)
        with FormantClient(
            f"http://127.0.0.1:{listening.getsockname()[1]}",
            KEY,
            json_seconds=seconds,
            recording_seconds=seconds,
            wall_clock=clock,
            sleep=lambda _: None,
        ) as client:
            yield client
        listening.shutdown(socket.SHUT_RDWR)
        serving.join(5)


def _serve(listening: socket.socket, api: Api, replies: list[list[Step]]) -> None:
    played = 0
    with suppress(OSError):
        while True:
            connection, _ = listening.accept()
            with closing(connection), suppress(OSError):
                path = connection.recv(65536).split(b" ")[1].decode().partition("?")[0]
                if answer := api.answer(path):
                    connection.sendall(_head(answer) + answer.sent)
                    continue
                reply = replies[min(played, len(replies) - 1)]
                played += 1
                for step in reply:
                    _take(step, connection)


def _head(answer: Answer) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer.sent)}\r\nConnection: close\r\n\r\n".encode()


def _take(step: Step, connection: socket.socket) -> None:
    match step.verb:
        case "send":
            connection.sendall(step.content)
        case "drip":
            for letter in step.content:
                connection.sendall(bytes([letter]))
                time.sleep(step.pause)
        case "wait":
            connection.recv(1)
        case "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

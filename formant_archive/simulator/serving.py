"""A WSGI application on a port of this machine, and off it again."""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

CLOSING = "formant_archive.simulator.closing"
"""The environ's key of the `threading.Event` that is set when the server closes."""

# Idle threads cost nothing, and a client that is made to wait by a fault occupies one.
_THREADS = 64


@contextlib.contextmanager
def on_port(application: WSGIApplication, port: int) -> Iterator[str]:
    """Serves on 127.0.0.1 for as long as the context lasts.

    A `ConnectionResetError` of the application closes the connection, unanswered if there was no answer yet.

    Args:
        application: What to serve.
        port: The port, or 0 for any free one.

    Yields:
        The base URL.

    Raises:
        OSError: The port is taken.
    """
    from waitress import wasyncore
    from waitress.server import create_server

    # Its warnings are about what the simulator does on purpose: a deep queue, and a body that is too short.
    logging.getLogger("waitress").setLevel(logging.ERROR)
    closing, closed = threading.Event(), threading.Event()
    # Bound first, because waitress starts its threads before it finds a port taken, and then forgets them.
    listening = socket.create_server(("127.0.0.1", port))
    sockets: dict[int, Any] = {}
    server: Any = create_server(
        _breakable(application, closing),
        map=sockets,
        sockets=[listening],
        threads=_THREADS,
        connection_limit=1000,
        asyncore_use_poll=True,
    )

    def loop() -> None:
        while not closed.is_set():
            wasyncore.loop(timeout=1, use_poll=True, map=sockets, count=1)

    looping = threading.Thread(target=loop, name="simulator", daemon=True)
    looping.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        closing.set()
        server.task_dispatcher.shutdown()
        closed.set()
        server.pull_trigger()
        looping.join()
        wasyncore.close_all(sockets)


def _breakable(application: WSGIApplication, closing: threading.Event) -> WSGIApplication:
    from waitress.channel import ClientDisconnected

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[CLOSING] = closing
        try:
            chunks = application(environ, start_response)
        except ConnectionResetError as error:
            raise ClientDisconnected from error
        return chunks if isinstance(chunks, list) else _guarded_chunks(chunks, ClientDisconnected)

    return guarded


def _guarded_chunks(chunks: Iterable[bytes], disconnected: Callable[[], Exception]) -> Iterator[bytes]:
    try:
        yield from chunks
    except ConnectionResetError as error:
        raise disconnected() from error

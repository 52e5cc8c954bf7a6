"""S3 on loopback in a process of its own: moto's emulator, not a real store. `python -m tests.stack.s3 <bucket>`.

One request at a time: moto looks and then writes without a lock, so two writers of one key could both win. It prints
its address, and serves until its standard input ends.
"""

import sys
import threading
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


def main() -> None:
    app, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with lock:
            answer: Iterable[bytes] = app(environ, start_response)
            return answer

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)  # noqa: T201  # its parent reads it
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()

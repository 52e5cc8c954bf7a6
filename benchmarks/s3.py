"""S3 on loopback in a process of its own: moto's emulator, not a real store. `python -m benchmarks.s3 <bucket> …`.

One request at a time: moto looks and then writes without a lock, so two writers of one key could both win. It makes the
buckets that it is told, prints its address, answers each line on standard input with the sizes of what a bucket of that
name holds, as JSON, and serves until its standard input ends.
"""

import json
import sys
import threading
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


def main() -> None:
    """Serve."""
    app, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with lock:
            answer: Iterable[bytes] = app(environ, start_response)
            return answer

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    for bucket in sys.argv[1:]:
        client.create_bucket(Bucket=bucket)
    print(url, flush=True)
    for line in sys.stdin:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=line.strip())
        sizes = {found["Key"]: found["Size"] for page in pages for found in page.get("Contents", ())}
        print(json.dumps(sizes), flush=True)
    server.shutdown()


if __name__ == "__main__":
    main()

"""What goes over the wire: botocore's own event just before a request is sent, to look at it and to answer it."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from urllib3 import HTTPResponse

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Answer = Callable[[AWSPreparedRequest], AWSResponse | None]


def on_request(client: "S3Client", operation: str, answer: Answer) -> None:
    """Let `answer` see every request of an operation; what it returns or raises is the server's answer."""

    def handler(request: AWSPreparedRequest, **_: object) -> Any:
        return answer(request)

    client.meta.events.register(f"before-send.s3.{operation}", cast("Callable[..., None]", handler))


def reply(status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> AWSResponse:
    """An answer with a body, or with the first part of one that says to be longer."""
    headers["content-length"] = str(len(body) if length is None else length)
    raw = HTTPResponse(io.BytesIO(body), headers, status, preload_content=False)
    return AWSResponse("http://127.0.0.1/", status, cast("Any", raw.headers), raw)


def refusal(status: int, code: str, message: str = "", **more: str) -> AWSResponse:
    """An error in S3's own words."""
    parts = {"Code": code, "Message": message, **more}
    words = "".join(f"<{name}>{value}</{name}>" for name, value in parts.items())
    return reply(status, f"<?xml version='1.0'?><Error>{words}</Error>".encode())

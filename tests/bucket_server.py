"""An S3 server on this machine, moto's, with faults on request and a count of what is asked of it."""

import io
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from urllib.request import Request, urlopen

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

KEY_ID, SECRET = "AKIALABELRTESTKEYID0", "labelr-test-secret/with+characters"
"""Credentials that must appear nowhere."""
Fault = Callable[[str], str | None]
"""The fault of a request for an object by its key: ``"500"``, ``"403"``, ``"stall"``, ``"cut"``, or None."""


class BucketServer:
    """A server with one bucket, ``photos``, in a thread of this process.

    Attributes:
        requests: The method and the path of each request so far.
        fault: Chooses a fault for each GET of an object; None for none.
        write_fault: Chooses a fault for each PUT and DELETE of an object; None for none.
        stall_seconds: How long a stalled answer takes.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.fault: Fault | None = None
        self.write_fault: Fault | None = None
        self.stall_seconds = 3.0
        self._stalled, self._lock = 0, threading.Lock()
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        # moto keeps what is stored in the process, so that another server would show the objects of this one
        urlopen(Request(f"{self.url}/moto-api/reset", method="POST")).close()
        self.client: Any = boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )  # fmt: skip
        self.client.create_bucket(Bucket="photos")
        self.requests.clear()

    def close(self) -> None:
        self.client.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which programs find the server."""
        return {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket="photos", Key=key, Body=content)

    def put_folder(self, folder: Path, prefix: str) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="photos", Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket="photos", Key=key)["Body"].read()
        return content

    def empty(self) -> None:
        self.fault = self.write_fault = None
        while self._stalled:  # of a process that was killed: it may still write
            time.sleep(0.02)
        for key in self.keys():
            self.client.delete_object(Bucket="photos", Key=key)
        self.requests.clear()

    @property
    def read(self) -> list[str]:
        """The keys of the objects that were read since `requests` was cleared, once for each request."""
        return [path.removeprefix("/photos/") for method, path in self.requests if method == "GET" and path[8:]]

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], unquote(environ["PATH_INFO"])
        self.requests.append((method, path))
        _, is_object, key = path.partition("/photos/")
        choose = {"GET": self.fault, "PUT": self.write_fault, "DELETE": self.write_fault}.get(method)
        fault = choose(key) if choose and is_object and key else None
        if fault in ("500", "403"):
            start_response(f"{fault} Fault", [("Content-Type", "application/xml")])
            code = "InternalError" if fault == "500" else "AccessDenied"
            return [f"<Error><Code>{code}</Code><Message>on request</Message></Error>".encode()]
        if fault == "stall":
            with self._lock:
                self._stalled += 1
            time.sleep(self.stall_seconds)
        try:
            answer: Any = self._app(environ, start_response)
        finally:
            if fault == "stall":
                with self._lock:
                    self._stalled -= 1
        if fault != "cut":
            return answer  # type: ignore[no-any-return]
        content = b"".join(answer)
        return io.BytesIO(content[: len(content) // 2])

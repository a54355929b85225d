"""A server that speaks S3 as far as pyarrow's client needs it. It holds objects in memory, and may lie about names."""

from __future__ import annotations

import itertools
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape


class S3:
    """A bucket for every name. `objects` maps "BUCKET/KEY" to bytes; `signed` holds what requests were signed with."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.signed: list[str] = []
        self.numbers = itertools.count()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"s3": self}))
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def uri(self, path: str) -> str:
        return f"s3://{path}?scheme=http&region=us-east-1&endpoint_override=127.0.0.1%3A{self.http.server_port}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    s3: S3

    def log_message(self, *args: Any) -> None:
        pass

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        self.s3.signed.append(self.headers.get("Authorization") or "")
        named = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        path = unquote(parts.path)[1:]
        return path if path.count("/") != 1 else path.removesuffix("/"), named  # a bucket, or BUCKET/KEY

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return _unchunked(body) if "aws-chunked" in (self.headers.get("Content-Encoding") or "") else body

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _xml(self, text: str, status: int = 200) -> None:
        self._send(status, f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode(), Content_Type="application/xml")

    def do_GET(self) -> None:
        path, asked = self._asked()
        if "list-type" in asked:
            return self._list(path, asked)
        if path not in self.s3.objects:
            return self._xml("<Error><Code>NoSuchKey</Code></Error>", 404)
        body = self.s3.objects[path]
        if not (span := self.headers.get("Range")):
            return self._send(200, body, ETag='"x"')
        first, last = (int(one) for one in span.removeprefix("bytes=").split("-"))
        part = body[first : last + 1]
        end = first + len(part) - 1
        return self._send(206, part, ETag='"x"', Content_Range=f"bytes {first}-{end}/{len(body)}")

    def do_HEAD(self) -> None:
        path, _ = self._asked()
        if "/" not in path:
            return self._send(200)  # every bucket exists
        if path not in self.s3.objects:
            return self._send(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.s3.objects[path])))
        self.send_header("Last-Modified", "Wed, 01 Jan 2025 00:00:00 GMT")
        self.end_headers()
        return None

    def do_PUT(self) -> None:
        path, asked = self._asked()
        body = self._body()
        if "uploadId" in asked:
            self.s3.parts[asked["uploadId"]][int(asked["partNumber"])] = body
        elif "/" in path:
            self.s3.objects[path] = body
        self._send(200, ETag='"x"')

    def do_POST(self) -> None:
        path, asked = self._asked()
        self._body()
        if "uploads" in asked:
            number = str(next(self.s3.numbers))
            self.s3.parts[number] = {}
            bucket, _, key = path.partition("/")
            self._xml(f"<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{escape(key)}</Key>"
                      f"<UploadId>{number}</UploadId></InitiateMultipartUploadResult>")  # fmt: skip
        else:
            parts = self.s3.parts.pop(asked["uploadId"])
            self.s3.objects[path] = b"".join(parts[number] for number in sorted(parts))
            self._xml("<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")

    def do_DELETE(self) -> None:
        path, _ = self._asked()
        self.s3.objects.pop(path, None)
        self._send(204)

    def _list(self, bucket: str, asked: dict[str, str]) -> None:
        prefix, encoded = asked.get("prefix", ""), asked.get("encoding-type") == "url"
        keys = sorted(one.partition("/")[2] for one in [*self.s3.objects] if one.startswith(f"{bucket}/{prefix}"))
        if asked.get("delimiter"):
            keys = [key for key in keys if "/" not in key[len(prefix) :]]
        found = "".join(
            f"<Contents><Key>{quote(key) if encoded else escape(key)}</Key>"
            f"<Size>{len(self.s3.objects[f'{bucket}/{key}'])}</Size>"
            "<LastModified>2025-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in keys
        )
        self._xml(f"<ListBucketResult><Name>{bucket}</Name><KeyCount>{len(keys)}</KeyCount>"
                  f"<IsTruncated>false</IsTruncated>{found}</ListBucketResult>")  # fmt: skip


def _unchunked(body: bytes) -> bytes:
    """Return the content of AWS's own chunked encoding, without the signatures and the checksum."""
    content = b""
    while body:
        head, _, body = body.partition(b"\r\n")
        size = int(head.partition(b";")[0], 16)
        if not size:
            break
        content, body = content + body[:size], body[size + 2 :]
    return content

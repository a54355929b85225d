"""The HTTP server of `espalier ui`, on 127.0.0.1 alone, for the user who started it.

Against other users of the machine, every address begins with a token. Against web sites that are open in the user's
browser: the Host header must be this machine's own name (a site can point its own name to 127.0.0.1, "DNS rebinding"),
what changes something is a POST of JSON from a page of this server (the Origin header), and no other page may frame it.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from sweeps.commands.ui.site import Site
from sweeps.report.page import vega
from trainables.bad_input import BadInput

OWN_NAMES = ("127.0.0.1", "localhost", "::1")  # at any port: a tunnel may have another one
LONGEST_BODY = 64 * 1024  # bytes
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address has the token
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
HTML, TEXT, JSON, SCRIPT = "text/html", "text/plain", "application/json", "text/javascript"


@dataclass(frozen=True)
class Reply:
    status: HTTPStatus
    body: str = ""
    kind: str = TEXT
    headers: dict[str, str] = field(default_factory=dict)


NO_TOKEN = Reply(HTTPStatus.FORBIDDEN, "Open the address that `espalier ui` printed: it has the key.\n")
OTHER_HOST = Reply(HTTPStatus.FORBIDDEN, "This server answers to localhost and 127.0.0.1 only.\n")
OTHER_ORIGIN = Reply(HTTPStatus.FORBIDDEN, "Only a page of this server may change something.\n")
NO_PAGE = Reply(HTTPStatus.NOT_FOUND, "There is no such page.\n")


@contextmanager
def serving_pages(site: Site, port: int) -> Iterator[ThreadingHTTPServer]:
    """Serve the pages until the end of the block; at port 0, at any that is free."""
    handler = type("Handler", (_Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    site: Site
    timeout = 30  # seconds without a byte
    server_version, sys_version = "espalier", ""

    def do_GET(self) -> None:
        self._send(self._refusal() or self._get())

    def do_POST(self) -> None:
        self._send(self._refusal() or self._post())

    def log_message(self, *_: Any) -> None:
        """Print nothing for a request."""

    def _refusal(self) -> Reply | None:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or _host(hosts[0]) not in OWN_NAMES:
            return OTHER_HOST
        token = self.path.split("/")[1] if self.path.startswith("/") and self.path.count("/") > 1 else ""
        known = secrets.compare_digest(token.encode(), self.site.token.encode())
        return None if known else NO_TOKEN

    @property
    def _place(self) -> str:
        """The path below the token."""
        return unquote(urlsplit(self.path).path).removeprefix(self.site.home)

    def _get(self) -> Reply:
        if self._place == "vega.js":
            return Reply(HTTPStatus.OK, vega(), SCRIPT, {"Cache-Control": "private, max-age=86400"})
        kind, _, name = self._place.partition("/")
        try:
            if not self._place:
                tag, page = self.site.index()
            elif kind == "runs":
                tag, page = self.site.sweep(name)
            else:
                return NO_PAGE
        except KeyError:
            return NO_PAGE
        except BadInput as error:
            return Reply(HTTPStatus.INTERNAL_SERVER_ERROR, f"{error}\n")
        if self.headers.get("If-None-Match") == tag:
            return Reply(HTTPStatus.NOT_MODIFIED, headers={"ETag": tag})
        return Reply(HTTPStatus.OK, page, HTML, {"ETag": tag})

    def _post(self) -> Reply:
        if self.headers.get("Origin") != f"http://{self.headers['Host']}":
            return OTHER_ORIGIN
        kind, _, rest = self._place.partition("/")
        name, _, verb = rest.rpartition("/")
        if kind != "runs":
            return NO_PAGE
        try:
            return _said(HTTPStatus.OK, self.site.act(name, verb, self._asked()))
        except KeyError:
            return NO_PAGE
        except BadInput as error:
            return _said(HTTPStatus.BAD_REQUEST, str(error))

    def _asked(self) -> dict[str, Any]:
        """Return the body of a request. Raises BadInput unless it is a small JSON object."""
        length = self.headers.get("Content-Length", "")
        kind = self.headers.get_content_type()
        if kind != JSON or not length.isdecimal() or int(length) > LONGEST_BODY:
            raise BadInput(f"send a JSON object of at most {LONGEST_BODY} bytes as application/json")
        try:
            asked = json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise BadInput("the request is no JSON") from error
        if not isinstance(asked, dict):
            raise BadInput("the request is no JSON object")
        return asked

    def _send(self, reply: Reply) -> None:
        body = reply.body.encode()
        self.send_response(reply.status)
        for name, value in (HEADERS | reply.headers).items():
            self.send_header(name, value)
        if reply.status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Type", f"{reply.kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _host(header: str) -> str | None:
    """Return the name in a Host header without its port; None for what is no name."""
    try:
        return urlsplit(f"//{header}").hostname if "@" not in header else None
    except ValueError:
        return None


def _said(status: HTTPStatus, text: str) -> Reply:
    return Reply(status, json.dumps({"said": text}), JSON)

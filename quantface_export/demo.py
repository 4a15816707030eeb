"""Serve the browser page and a bundle to this machine. Never imports torch."""

from __future__ import annotations

import re
import sys
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from quantface_export.bundle import MANIFEST, Bundle
from quantface_export.errors import QuantfaceError
from quantface_export.interrupt import Interrupted

HEADERS = "_headers"
"""File of the page that says what every answer carries, in the form of static hosts."""

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
"""Not asked of the system, whose table may say otherwise."""

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def built_page() -> Path:
    """Folder of the built page, in the package ``mobile_demo``.

    Raises:
        QuantfaceError: It was not built.
    """
    found = find_spec("mobile_demo")
    roots = [] if found is None else list(found.submodule_search_locations or ())
    folders = [Path(root, "web", "dist") for root in roots]
    for folder in folders:
        if (folder / "index.html").is_file():
            return folder
    where = folders[0] if folders else "the package mobile_demo"
    raise QuantfaceError(
        f"the page is not built: {where} has no index.html; `make web-build` in a checkout makes it"
    )


def served_files(page: Path, bundle: Bundle) -> dict[str, Path]:
    """Every file that is served, by its address; nothing else is looked for on the disk.

    Raises:
        QuantfaceError: ``page`` is not a built page.
    """
    if not (page / "index.html").is_file() or not (page / HEADERS).is_file():
        raise QuantfaceError(
            f"{page} is not a built page: it needs index.html and {HEADERS}; `make web-build` in a "
            "checkout makes it as mobile_demo/web/dist"
        )
    files = {f"/{p.relative_to(page).as_posix()}": p for p in page.rglob("*") if p.is_file()}
    files["/"] = files["/index.html"]
    names = [MANIFEST, *bundle.manifest["files"]]
    return files | {f"/bundle/{name}": bundle.path / name for name in names}


def page_headers(page: Path) -> dict[str, str]:
    """Content security policy, cross-origin isolation and so on, of ``_headers``."""
    lines = (page / HEADERS).read_text().splitlines()
    pairs = (line.split(":", 1) for line in lines if line.startswith("  "))
    return {name.strip(): value.strip() for name, value in pairs}


def open_server(page: Path, bundle: Bundle, port: int) -> ThreadingHTTPServer:
    """A server of this machine alone, not yet serving.

    Args:
        page: The built page.
        bundle: A loaded bundle, served below ``/bundle/``.
        port: 0 takes a free one.

    Raises:
        QuantfaceError: ``page`` is not a built page, or the port is taken.
    """
    handler = partial(Handler, served_files(page, bundle), page_headers(page))
    try:
        return Server(("127.0.0.1", port), handler)
    except OSError as e:
        raise QuantfaceError(
            f"port {port} can't be opened ({e.strerror}); choose another --port, 0 for any"
        ) from e


class Server(ThreadingHTTPServer):
    """Ends when it is asked to, also while a request comes in."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing is said of connections that browsers drop, any other error is printed."""
        error = sys.exc_info()[1]
        if isinstance(error, Interrupted):
            raise error
        if not isinstance(error, ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, also for a part of a file, so that downloads can go on."""

    protocol_version = "HTTP/1.1"
    server_version = "quantface-export"
    sys_version = ""

    def __init__(self, files: dict[str, Path], headers: dict[str, str], *args: object) -> None:
        self.files, self.common = files, headers
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Headers and body."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Headers alone."""
        self._answer(body=False)

    def end_headers(self) -> None:
        """Every answer carries the common headers, errors too."""
        for name, value in self.common.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not worth a line each."""

    def _answer(self, *, body: bool) -> None:
        path = self.path.split("?", 1)[0]
        file = self.files.get(path)
        if file is None or not file.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        total = file.stat().st_size
        begin, end = 0, total
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is not None:
            begin = int(asked[1])
            end = min(total, int(asked[2]) + 1) if asked[2] else total
            if begin >= end:
                self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                return
        self.send_response(HTTPStatus.OK if asked is None else HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Type", TYPES.get(file.suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(end - begin))
        self.send_header("Accept-Ranges", "bytes")
        if asked is not None:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{total}")
        hashed = path.startswith("/assets/")
        self.send_header(
            "Cache-Control", "public, max-age=31536000, immutable" if hashed else "no-cache"
        )
        self.end_headers()
        if body:
            with file.open("rb") as source:
                source.seek(begin)
                self._send(source, end - begin)

    def _send(self, source: BinaryIO, count: int) -> None:
        while count > 0:
            piece = source.read(min(count, 1 << 16))
            if not piece:
                break
            self.wfile.write(piece)
            count -= len(piece)

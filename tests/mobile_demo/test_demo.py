"""``quantface-export demo``: what is served, to whom, and with which headers."""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from quantface_export.bundle import load_bundle, write_manifest
from quantface_export.demo import built_page, open_server, page_headers, served_files
from quantface_export.errors import QuantfaceError
from quantface_export.interrupt import Interrupted
from quantface_export.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
HEADERS = ROOT / "mobile_demo" / "web" / "public" / "_headers"
WEIGHTS = bytes(range(256)) * 8

Get = Callable[..., tuple[HTTPResponse, bytes]]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder that passes for a bundle."""
    folder = tmp_path / "bundle"
    for stage in STAGES:
        (folder / stage).mkdir(parents=True)
        (folder / stage / "model.onnx").write_bytes(b"model")
    (folder / "unet" / "model.onnx.data").write_bytes(WEIGHTS)
    write_manifest(folder, {"size": 128})
    (folder / "private.txt").write_text("not listed")
    return folder


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A folder that passes for a built page, with the real page's headers."""
    folder = tmp_path / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "assets" / "worker-1.js").write_text("0")
    (folder / "assets" / "glue-1.mjs").write_text("0")
    (folder / "assets" / "run-1.wasm").write_bytes(b"\0asm")
    (folder / "_headers").write_text(HEADERS.read_text())
    return folder


@pytest.fixture
def get(bundle: Path, page: Path) -> Iterator[Get]:
    """``get("/path", method="HEAD", Range="bytes=0-9")`` on a running server."""
    with open_server(page, load_bundle(bundle), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def request(path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
            with closing(HTTPConnection("127.0.0.1", server.server_port, timeout=10)) as connection:
                connection.request(method, path, headers=headers)
                answer = connection.getresponse()
                return answer, answer.read()

        yield request
        server.shutdown()
        thread.join()


def test_page_and_bundle_are_served(get: Get) -> None:
    assert get("/")[1] == get("/index.html")[1] == b"<!doctype html>"
    assert json.loads(get("/bundle/quantface.json")[1])["size"] == 128
    assert get("/bundle/unet/model.onnx.data")[1] == WEIGHTS
    assert get("/bundle/unet/model.onnx.data?again")[0].status == 200


@pytest.mark.parametrize(
    "path",
    ["/bundle/private.txt", "/../bundle/private.txt", "/assets/", "/bundle", "/%2e%2e/private.txt"],
)
def test_nothing_else_is(get: Get, path: str) -> None:
    assert get(path)[0].status == 404


@pytest.mark.parametrize("path", ["/", "/bundle/vre/model.onnx", "/nothing"])
def test_every_answer_isolates_the_page(get: Get, path: str) -> None:
    headers = get(path)[0].headers
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "connect-src 'self';" in headers["Content-Security-Policy"]


def test_the_policy_names_no_other_host_and_no_eval(page: Path) -> None:
    policy = page_headers(page)["Content-Security-Policy"]
    assert "http" not in policy and "*" not in policy
    assert "'unsafe-" not in policy.replace("'wasm-unsafe-eval'", "")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("worker-1.js", "text/javascript; charset=utf-8"),
        ("glue-1.mjs", "text/javascript; charset=utf-8"),
        ("run-1.wasm", "application/wasm"),
    ],
)
def test_types_are_what_browsers_insist_on(get: Get, name: str, kind: str) -> None:
    assert get(f"/assets/{name}")[0].headers["Content-Type"] == kind


@pytest.mark.parametrize(
    ("asked", "status", "begin", "end"),
    [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=2000-", 206, 2000, 2048),
        ("bytes=2040-9999", 206, 2040, 2048),
        ("bytes=2048-2050", 416, None, None),
        ("bytes=-5", 200, 0, 2048),
        ("lines=1-2", 200, 0, 2048),
    ],
)
def test_a_part_of_a_file(
    get: Get, asked: str, status: int, begin: int | None, end: int | None
) -> None:
    answer, body = get("/bundle/unet/model.onnx.data", Range=asked)
    assert answer.status == status
    if begin is not None:
        assert body == WEIGHTS[begin:end]
    if status == 206 and end is not None:
        assert answer.headers["Content-Range"] == f"bytes {begin}-{end - 1}/2048"


@pytest.mark.parametrize("sent", [b"", b"GET /bundle/unet/model.onnx.data HTTP/1.1\r\n\r\n"])
def test_nothing_is_said_of_a_dropped_connection(
    page: Path, bundle: Path, sent: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_server(page, load_bundle(bundle), 0) as server:
        client = socket.create_connection(server.server_address)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(sent)
        request = server.get_request()
        client.close()  # with a reset
        server.process_request_thread(*request)
    assert capsys.readouterr().err == ""


def test_other_errors_are_printed_and_being_stopped_goes_on_up(
    page: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def handle(error: Exception) -> None:
        try:
            raise error
        except type(error):  # as socketserver does
            server.handle_error(None, ("127.0.0.1", 1))

    with open_server(page, load_bundle(bundle), 0) as server:
        handle(ValueError("broken"))
        with pytest.raises(Interrupted):
            handle(Interrupted("asked to stop"))
    told = capsys.readouterr().err
    assert "broken" in told
    assert "asked to stop" not in told


def test_head_has_no_body_and_post_is_refused(get: Get) -> None:
    answer, body = get("/bundle/unet/model.onnx.data", method="HEAD")
    assert (answer.headers["Content-Length"], body) == ("2048", b"")
    assert get("/", method="POST")[0].status == 501


def test_a_page_that_is_not_built(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(QuantfaceError, match=r"not a built page.*make web-build"):
        served_files(tmp_path, load_bundle(bundle))


def test_the_page_is_looked_for_beside_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantface_export.demo.find_spec", lambda name: None)
    with pytest.raises(QuantfaceError, match=r"not built: the package mobile_demo .*web-build"):
        built_page()


def test_a_port_that_is_taken(page: Path, bundle: Path) -> None:
    loaded = load_bundle(bundle)
    with (
        open_server(page, loaded, 0) as server,
        pytest.raises(QuantfaceError, match=f"port {server.server_port} can't be opened"),
    ):
        open_server(page, loaded, server.server_port)


def test_the_command_serves_until_it_is_stopped(page: Path, bundle: Path, tmp_path: Path) -> None:
    told = tmp_path / "demo.json"
    command = [sys.executable, "-m", "quantface_export", "demo", bundle, "--page", page]
    process = subprocess.Popen(
        [*map(str, command), "--port", "0", "--no-open", "--json", str(told)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not told.exists() or not told.read_text().endswith("}\n"):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        url = json.loads(told.read_text())["url"]
        with closing(HTTPConnection(url.split("/")[2], timeout=10)) as connection:
            connection.request("GET", "/bundle/quantface.json")
            assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate()

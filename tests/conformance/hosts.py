"""The hosts of load-balanced endpoints, ``https://ID.…``: they exist on Runpod only, so a test plays them.

Official clients take ``HTTPS_PROXY`` for the way out. This proxy goes nowhere: it answers every host itself,
with a certificate that the client is told to trust, and passes the request on to the engine.
"""

from __future__ import annotations

import contextlib
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx


@contextlib.contextmanager
def endpoint_hosts(engine_url: str, folder: Path) -> Iterator[dict[str, str]]:
    """Play the hosts; give the variables by which a client finds them.

    Args:
        engine_url: Where the engine's HTTP door is.
        folder: For the certificate.
    """
    domain = engine_url.removeprefix("http://").partition(":")[0]
    certificate, key = _certificate(folder, f"*.{domain}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Played(_Host):
        engine = engine_url

    class Proxy(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            assert self.rfile.readline().startswith(b"CONNECT ")
            while self.rfile.readline().strip():
                pass
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with contextlib.suppress(OSError), context.wrap_socket(self.request, server_side=True) as tls:
                Played(tls, self.client_address, self.server)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "HTTPS_PROXY": f"http://127.0.0.1:{server.server_address[1]}",
            "SSL_CERT_FILE": str(certificate),
            "REQUESTS_CA_BUNDLE": str(certificate),
        }
        server.shutdown()


class _Host(BaseHTTPRequestHandler):
    """A host: the first part of its name is an endpoint."""

    engine = ""

    def _pass_on(self) -> None:
        endpoint = self.headers["Host"].partition(".")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kept = {
            name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers
        }
        url = f"{self.engine}/{endpoint}{self.path}"
        answer = httpx.request(self.command, url, content=body, headers=kept, timeout=60, trust_env=False)
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("content-type", "text/plain"))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = _pass_on  # noqa: N815 - the standard library's names

    def log_message(self, *_: object) -> None:
        pass


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    certificate, key = folder / "hosts.pem", folder / "hosts.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=endpoint hosts of a test", "-addext", f"subjectAltName=DNS:{name}"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key

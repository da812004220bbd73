"""Artifacts: the files of builds, and the addresses where they are brought and fetched.

==================== =============================================================================
``PUT artifacts/ID`` takes an artifact that was prepared: once, so many bytes as were announced
``GET artifacts/ID`` gives the artifact of a build
==================== =============================================================================

Clients of Runpod bring no key to such an address: it holds a signature, for this file, this method and a
time. It is made with the engine's token, which cannot be told from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import shutil
import time
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from flash_nb.engine.apps import Upload
from flash_nb.engine.channel import private_folder
from flash_nb.engine.gate import RefusalError, check_name, same
from flash_nb.errors import BackendError

if TYPE_CHECKING:
    from flash_nb.engine.server import Server

DOWNLOAD_S = 3600.0
WRITE_BYTES = 1_000_000
GZIP = b"\x1f\x8b"


class Artifacts:
    """Keeps the files of builds.

    Args:
        server: The engine.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._folder = server.settings.home / "artifacts"
        self._receiving: set[str] = set()

    @property
    def routes(self) -> list[Route]:
        """Its paths."""
        return [
            Route("/artifacts/{artifact}", self._take, methods=["PUT"]),
            Route("/artifacts/{artifact}", self._give, methods=["GET"]),
        ]

    # --- files --------------------------------------------------------------------------------

    def file(self, artifact: str) -> Path:
        """Return where an artifact lies."""
        return self._folder / f"{artifact}.tar.gz"

    def is_gzip(self, artifact: str) -> bool:
        """Say if an artifact is of the format."""
        with contextlib.suppress(OSError), self.file(artifact).open("rb") as file:
            return file.read(len(GZIP)) == GZIP
        return False

    def remove(self, artifact: str) -> None:
        """Delete an artifact; harmless if there is none."""
        self.file(artifact).unlink(missing_ok=True)

    def remove_unknown(self, known: Container[str]) -> None:
        """Delete the files of all artifacts but these, halves too."""
        if self._folder.is_dir():
            for file in self._folder.iterdir():
                if file.name.partition(".")[0] not in known:
                    file.unlink(missing_ok=True)

    def check_room(self, size: int) -> None:
        """Refuse what the disk cannot hold, packed and unpacked.

        Raises:
            BackendError: It cannot.
        """
        private_folder(self._folder)
        free = shutil.disk_usage(self._folder).free
        if free < size:
            raise BackendError(
                f"The artifact has {size / 1e6:,.0f} MB, and {self._folder} has room for {free / 1e6:,.0f}."
            )

    # --- addresses ----------------------------------------------------------------------------

    def upload_url(self, upload: Upload) -> str:
        """Return where an artifact is to be put."""
        return self._signed("PUT", upload.id, upload.expires_at)

    def download_url(self, artifact: str) -> tuple[str, float]:
        """Return where an artifact can be fetched, and until when, in seconds since 1970."""
        expires_at = float(round(time.time() + DOWNLOAD_S))
        return self._signed("GET", artifact, expires_at), expires_at

    def _signed(self, method: str, artifact: str, expires_at: float) -> str:
        signature = self._signature(method, artifact, str(int(expires_at)))
        url = self._server.http_url()
        return f"{url}/artifacts/{artifact}?expires={int(expires_at)}&signature={signature}"

    def _signature(self, method: str, artifact: str, expires: str) -> str:
        message = f"{method} {artifact} {expires}".encode()
        return hmac.new(self._server.token.encode(), message, hashlib.sha256).hexdigest()

    def _admit(self, request: Request) -> str:
        """Return the artifact that a request may have.

        Raises:
            RefusalError: 403.
        """
        check_name(request)
        artifact: str = request.path_params["artifact"]
        expires = request.query_params.get("expires", "")
        given = request.query_params.get("signature", "")
        if not same(given, self._signature(request.method, artifact, expires)):
            raise RefusalError(403, "The signature of this address is missing or wrong.")
        if int(expires) < time.time():
            raise RefusalError(403, "This address has expired: ask for a new one.")
        self._server.stay_awake()
        return artifact

    # --- taking and giving --------------------------------------------------------------------

    async def _take(self, request: Request) -> Response:
        artifact = self._admit(request)
        upload = self._server.apps.uploads.get(artifact)
        if upload is None or upload.received or artifact in self._receiving:
            raise RefusalError(409, "This address was used: an artifact is put once. Prepare another upload.")
        announced = request.headers.get("content-length")
        if announced is not None and announced != str(upload.size):
            raise _wrong_size(upload, int(announced))
        self._receiving.add(artifact)
        try:
            await self._write(request, upload)
        finally:
            self._receiving.discard(artifact)
        self._server.apps.receive(artifact)
        return JSONResponse({"size": upload.size})

    async def _write(self, request: Request, upload: Upload) -> None:
        """Write a body to its file, which is there when it is whole.

        Raises:
            RefusalError: It has another size than announced.
        """
        private_folder(self._folder)
        unfinished = self.file(upload.id).with_suffix(".part")
        size, waiting = 0, bytearray()
        try:
            with unfinished.open("wb") as file:
                async for piece in request.stream():
                    size += len(piece)
                    if size > upload.size:
                        raise _wrong_size(upload, size)
                    waiting += piece
                    if len(waiting) > WRITE_BYTES:
                        await asyncio.to_thread(file.write, bytes(waiting))
                        waiting.clear()
                        self._server.stay_awake()
                file.write(waiting)
            if size < upload.size:
                raise _wrong_size(upload, size)
            if upload.id not in self._server.apps.uploads:
                raise RefusalError(409, "Nobody expects this artifact any more.")
            unfinished.rename(self.file(upload.id))
        except ClientDisconnect:
            raise RefusalError(400, "The client left in the middle.") from None
        finally:
            unfinished.unlink(missing_ok=True)

    async def _give(self, request: Request) -> Response:
        file = self.file(self._admit(request))
        if not file.exists():
            raise RefusalError(404, "This artifact was deleted.")
        return FileResponse(file, media_type="application/gzip")


def _wrong_size(upload: Upload, size: int) -> RefusalError:
    status = 413 if size > upload.size else 400
    return RefusalError(status, f"{upload.size:,} bytes were announced, not {size:,}.")

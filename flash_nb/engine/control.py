"""The control plane: what kernels and the command line ask the engine, apart from jobs.

Each public method of `Control` whose name starts with ``do_`` is one call of the channel.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flash_nb.engine import declaration
from flash_nb.engine.apps import environment_in
from flash_nb.engine.events import EndpointDeleted, EndpointSaved
from flash_nb.engine.machine import counters
from flash_nb.engine.state import Needs, Scaling
from flash_nb.errors import BackendError, EndpointNotFoundError, did_you_mean
from flash_nb.version import __version__

if TYPE_CHECKING:
    from flash_nb.engine.server import Server

REPLACES_WORKERS = ("env", "gpu_count", "volume", "app", "requirements", "system", "python")


class Control:
    """Answers calls; keeps the specs of the endpoints, by id.

    A spec is a JSON object: what `flash_nb.backends.base.EndpointSpec` holds, with all that scales
    under ``scaling``.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.endpoints: dict[str, dict[str, Any]] = {}

    def restore(self) -> None:
        """Take over the endpoints of an engine that went before."""
        for endpoint_id, spec in self._server.store.endpoints().items():
            self._save(endpoint_id, spec)
        if self._server.port_file.exists():  # somebody may know the address: a client, a worker
            self._server.http_url()

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """Run one call.

        Raises:
            BackendError: There is no such call.
        """
        answer = getattr(self, f"do_{method}", None)
        if answer is None:
            raise BackendError(f"The engine (version {__version__}) has no call {method!r}.")
        return await answer(**params)

    def why_nothing_runs(self, endpoint_id: str) -> str:
        """Return why no worker of ours can take jobs of an endpoint; empty if they can."""
        spec = self.endpoints[endpoint_id]
        if reason := self._server.deployments.why_not_served(spec):
            return reason
        image = spec.get("image", "")
        if spec["app"] or not image or declaration.is_live(image):
            return ""
        return (
            f"{spec['name']} runs the image {image!r}, and the engine runs no images: say what stands for it "
            f'with @flash_nb.stand_in("{image}"), or attach a worker of the image'
        )

    async def do_ensure(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Create the endpoint of this name and kind, or bring it up to date."""
        endpoint_id = self.id_of(spec)
        created = endpoint_id not in self.endpoints
        self.save(endpoint_id, spec)
        return {
            "id": endpoint_id,
            "created": created,
            "url": f"{self._server.http_url()}/{endpoint_id}" if spec["balanced"] else "",
            "simulated": bool(spec["gpu_count"]) and not self._server.gpus,
        }

    def id_of(self, spec: dict[str, Any]) -> str:
        """Return the id of the endpoint of this name, kind and environment, be it there or not.

        It follows from them: kernels know it, even if the engine's memory is lost. Only an endpoint that
        was renamed keeps the id of its former name.
        """
        identity = _identity(spec)
        for endpoint_id, known in self.endpoints.items():
            if _identity(known) == identity:
                return endpoint_id
        endpoint_id = _hashed("/".join(identity))
        while endpoint_id in self.endpoints:
            endpoint_id = _hashed(endpoint_id)
        return endpoint_id

    def python_of(self, spec: Mapping[str, Any]) -> str:
        """Return the interpreter of an endpoint's workers: a path, or a version."""
        return spec.get("python") or self._server.settings.python

    def save(self, endpoint_id: str, spec: dict[str, Any]) -> None:
        """Create an endpoint, or bring it up to date."""
        if self.endpoints.get(endpoint_id) != spec:
            self._server.store.save_endpoint(endpoint_id, spec)
            self._save(endpoint_id, spec)

    def provide(self, endpoint_id: str, body: bytes) -> None:
        """Have the workers of a live load-balanced endpoint get the packages that a request names."""
        spec = self.endpoints[endpoint_id]
        if spec["app"] != declaration.EXECUTE or b"dependencies" not in body:
            return
        needed = declaration.dependencies_of(body)
        if not needed <= set(spec["requirements"]):
            self.save(endpoint_id, {**spec, "requirements": sorted(needed.union(spec["requirements"]))})

    async def do_http(self) -> str:
        """Return where the HTTP door is; it is opened when somebody first asks."""
        return self._server.http_url()

    async def do_endpoints(self) -> list[dict[str, Any]]:
        """List the endpoints, values of their environment variables left out."""
        return [self._describe(endpoint_id) for endpoint_id in self.endpoints]

    async def do_delete(self, endpoint_id: str) -> None:
        """Delete an endpoint with its workers; its unfinished jobs are cancelled."""
        if endpoint_id not in self.endpoints:
            raise EndpointNotFoundError(f"The engine has no endpoint {endpoint_id!r}.")
        self._server.post(EndpointDeleted(endpoint_id))
        environment_id = environment_in(self.endpoints.pop(endpoint_id))
        self._server.store.delete_endpoint(endpoint_id)
        self._server.deployments.tell(environment_id)
        await self._server.forget_requests(endpoint_id)

    async def do_health(self, endpoint_id: str) -> dict[str, int]:
        """Count an endpoint's workers and waiting jobs."""
        if endpoint_id not in self.endpoints:
            raise EndpointNotFoundError(f"The engine has no endpoint {endpoint_id!r}.")
        return dict(counters(self._server.machine, endpoint_id))

    async def do_worker_environment(self, endpoint: str) -> dict[str, str]:
        """Return the variables that an external worker needs to take an endpoint's jobs; with the token.

        Args:
            endpoint: Its id or its name.
        """
        found = self._find(endpoint)
        if self.endpoints[found]["balanced"]:
            raise BackendError(f"The endpoint {endpoint!r} has no queue: no worker can take jobs from it.")
        from flash_nb.engine.takers import worker_environment  # it needs what serves HTTP

        worker_id = f"{self.endpoints[found]['name']}-{secrets.token_hex(4)}"
        worker_id = re.sub(r"[^A-Za-z0-9_-]", "-", worker_id)
        return worker_environment(self._server.http_url(), found, f"x-{worker_id}", self._server.token)

    async def do_retry(self, job_id: str, client_id: str) -> None:
        """Run a job again that failed, timed out or was cancelled, for this client."""
        await self._server.retry(job_id, client_id)

    async def do_jobs(self, limit: int = 100) -> list[dict[str, Any]]:
        """List the newest jobs."""
        from flash_nb.engine.server import snapshot

        await self._server.store.flushed()
        return [snapshot(job) for job in self._server.store.jobs(limit)]

    async def do_status(self) -> dict[str, Any]:
        """Say what the engine is and what it is doing."""
        machine = self._server.machine
        return {
            "pid": os.getpid(),
            "version": __version__,
            "url": self._server.url,
            "uptime_s": round(time.time() - self._server.started_at, 1),
            "endpoints": len(self.endpoints),
            "jobs": len(machine.jobs),
            "workers": {w.id: w.status.value for w in machine.workers.values()},
            "gpus": [gpu.name for gpu in self._server.gpus],
        }

    async def do_stop(self) -> None:
        """End the engine."""
        self._server.stop()

    def _save(self, endpoint_id: str, spec: dict[str, Any]) -> None:
        known = self.endpoints.get(endpoint_id)
        self.endpoints[endpoint_id] = spec
        replace = known is not None and any(known.get(key) != spec.get(key) for key in REPLACES_WORKERS)
        bounds = {"workers_min": 0, "workers_max": 0} if self.why_nothing_runs(endpoint_id) else {}
        self._server.post(
            EndpointSaved(
                endpoint_id,
                Scaling(**{**spec["scaling"], **bounds}),
                Needs(self.python_of(spec), frozenset(spec["requirements"]), frozenset(spec["system"])),
                replace_workers=replace,
                balanced=spec["balanced"],
            )
        )

    def _find(self, endpoint: str) -> str:
        """Return the id of an endpoint.

        Raises:
            EndpointNotFoundError: There is none of this id or name.
            BackendError: Several have this name.
        """
        if endpoint in self.endpoints:
            return endpoint
        names = {spec["name"] for spec in self.endpoints.values()}
        found = [each for each, spec in self.endpoints.items() if spec["name"] == endpoint]
        if not found:
            raise EndpointNotFoundError(
                f"The engine has no endpoint {endpoint!r}{did_you_mean(endpoint, names) or '.'}"
            )
        if len(found) > 1:
            raise BackendError(
                f"Several endpoints are called {endpoint!r}: give an id, {' or '.join(found)}."
            )
        return found[0]

    def _describe(self, endpoint_id: str) -> dict[str, Any]:
        spec = self.endpoints[endpoint_id]
        return {
            "id": endpoint_id,
            **{key: spec[key] for key in ("name", "kind", "hardware", "scaling")},
            "env": sorted(spec["env"]),
            "counts": dict(counters(self._server.machine, endpoint_id)),
        }


def _identity(spec: dict[str, Any]) -> list[str]:
    return [*filter(None, [environment_in(spec)]), spec["kind"], spec["name"]]


def _hashed(identity: str) -> str:
    return f"ep-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"

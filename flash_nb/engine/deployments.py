"""Deployments: the endpoints of an environment serve its active build.

An endpoint says by ``flashEnvironmentId`` where it belongs, and by the variable ``FLASH_RESOURCE_NAME``
which resource of the manifest it is. Such an endpoint's app is the unpacked artifact. When another build
becomes active, the app of each endpoint changes, and so its workers are replaced, one after the other, as
for any change.

Layout, under the engine's home::

    artifacts/<id>.tar.gz             see `flash_nb.engine.artifacts`
    builds/<build>/                   an artifact unpacked, while an environment serves it and a day longer
    environments/<environment>/flash_manifest.json
                                      the active manifest, with the addresses of this environment's endpoints

What a client says of addresses in a manifest is for clients; workers get those of this engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flash_nb.engine import declaration, serving
from flash_nb.engine.apps import RESOURCE, Build, Environment, environment_in
from flash_nb.engine.channel import private_folder
from flash_nb.errors import did_you_mean
from flash_nb.unpack import unpack

if TYPE_CHECKING:
    from flash_nb.engine.server import Server

MANIFEST = "flash_manifest.json"


class Deployments:
    """Brings builds to the endpoints of environments.

    Args:
        server: The engine.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._builds = server.settings.home / "builds"
        self._environments = server.settings.home / "environments"
        self._unpacking = asyncio.Lock()

    def restore(self) -> None:
        """Have every endpoint serve what it should: an engine that went before may have been cut short."""
        for environment_id in self._server.apps.environments:
            self._serve(environment_id)

    async def deploy(self, environment_id: str, build_id: str) -> Environment:
        """Have an environment serve a build; return it once its endpoints have begun to change.

        Raises:
            BackendError: The build cannot be deployed there; the environment goes on as before.
        """
        apps = self._server.apps
        build = apps.check_deployable(environment_id, build_id)
        async with self._unpacking:
            if not self._folder(build).exists():
                await asyncio.to_thread(self._unpack, build)
        former = apps.environment(environment_id).build
        environment = apps.activate(environment_id, build_id)
        if former and former != build_id and former in apps.builds:
            with contextlib.suppress(FileNotFoundError):
                os.utime(self._folder(apps.build(former)))  # its last day begins: jobs may still run from it
        self._serve(environment_id)
        return environment

    def save(self, endpoint_id: str, spec: dict[str, Any]) -> None:
        """Create an endpoint or bring it up to date, with what its environment serves."""
        former = environment_in(self._server.control.endpoints.get(endpoint_id, {}))
        self._server.control.save(endpoint_id, self.served(spec))
        for environment_id in {former, environment_in(spec)} - {""}:
            self.tell(environment_id)

    def served(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Return the spec of an endpoint with what the active build of its environment has for it."""
        build, key = self._active(spec), spec["env"].get(RESOURCE)
        if build is None or key not in build.manifest["resources"]:
            return declaration.undeployed(spec)
        python = self._server.settings.python
        return {**spec, **serving.served(self._folder(build), key, build.manifest, python=python)}

    def why_not_served(self, spec: Mapping[str, Any]) -> str:
        """Return why an endpoint of an environment serves nothing; empty if it does, or is of none."""
        build, key = self._active(spec), spec["env"].get(RESOURCE)
        if build is None or not key or key in build.manifest["resources"]:
            return ""
        environment = self._server.apps.environment(environment_in(spec))
        near = did_you_mean(key, build.manifest["resources"]) or "."
        return (
            f"{spec['name']} is the resource {key!r} of {environment.name!r}, and the build that is deployed "
            f"there has no such resource{near}"
        )

    def variables(self, spec: Mapping[str, Any]) -> dict[str, str]:
        """Return what workers of an endpoint find in their environment about where they are.

        The engine's token is among it, but for resources of which the manifest says that they call no others.
        """
        build, key = self._active(spec), spec["env"].get(RESOURCE)
        if build is None or key not in build.manifest["resources"]:
            return {}
        environment_id = environment_in(spec)
        found = {
            "FLASH_ENVIRONMENT_ID": environment_id,
            "FLASH_MANIFEST_PATH": str(self._manifest(environment_id)),
        }
        if build.manifest["resources"][key].get("makes_remote_calls", True):
            url = self._server.http_url()
            found |= {
                "RUNPOD_API_KEY": self._server.token,
                "RUNPOD_API_BASE_URL": url,
                "RUNPOD_ENDPOINT_BASE_URL": f"{url}/v2",
            }
        return found

    def changed(self, build_id: str) -> None:
        """Take note that the manifest of a build is another one."""
        for environment in self._server.apps.environments.values():
            if environment.build == build_id:
                self.tell(environment.id)

    def tell(self, environment_id: str) -> None:
        """Write the manifest that the workers of an environment read: who is where."""
        environment = self._server.apps.environments.get(environment_id)
        if environment is None or environment.build is None:
            return
        control = self._server.control
        url = self._server.http_url()
        addresses = {}
        for endpoint_id in self._server.apps.members(environment_id):
            spec = control.endpoints[endpoint_id]
            if resource := spec["env"].get(RESOURCE):
                addresses[resource] = (
                    f"{url}/{endpoint_id}" if spec["balanced"] else f"{url}/v2/{endpoint_id}"
                )
        manifest = dict(self._server.apps.build(environment.build).manifest)
        manifest["resources_endpoints"] = addresses
        file = self._manifest(environment_id)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".half")
        unfinished.write_text(json.dumps(manifest, indent=2))
        unfinished.replace(file)

    async def delete_app(self, app_id: str) -> None:
        """Delete an app with all that lies on disk for it.

        Raises:
            BackendError: It still has endpoints.
        """
        builds = self._server.apps.delete_app(app_id)
        self._server.artifacts.remove_unknown(self._server.apps.artifacts)
        self._remove_environments()
        for build in builds:
            await asyncio.to_thread(shutil.rmtree, self._folder(build), ignore_errors=True)

    def delete_environment(self, environment_id: str) -> None:
        """Delete an environment.

        Raises:
            BackendError: It still has endpoints.
        """
        self._server.apps.delete_environment(environment_id)
        self._remove_environments()

    async def remove_unused(self, before: float) -> None:
        """Delete what nobody needs: uploads that never ended, builds that are not served since a time."""
        apps = self._server.apps
        apps.forget_expired()
        self._server.artifacts.remove_unknown(apps.artifacts)
        self._remove_environments()
        for folder in [*self._builds.iterdir()] if self._builds.is_dir() else []:
            if folder.name not in apps.active and folder.stat().st_mtime < before:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _remove_environments(self) -> None:
        if self._environments.is_dir():
            for folder in self._environments.iterdir():
                if folder.name not in self._server.apps.environments:
                    shutil.rmtree(folder, ignore_errors=True)

    def _serve(self, environment_id: str) -> None:
        """Have the endpoints of an environment serve its active build."""
        control = self._server.control
        for endpoint_id in self._server.apps.members(environment_id):
            control.save(endpoint_id, self.served(control.endpoints[endpoint_id]))
        self.tell(environment_id)

    def _active(self, spec: Mapping[str, Any]) -> Build | None:
        environment = self._server.apps.environments.get(environment_in(spec))
        return (
            None
            if environment is None or not environment.build
            else self._server.apps.build(environment.build)
        )

    def _folder(self, build: Build) -> Path:
        return self._builds / build.id

    def _manifest(self, environment_id: str) -> Path:
        return self._environments / environment_id / MANIFEST

    def _unpack(self, build: Build) -> None:
        """Unpack a build; its folder is there when it is whole."""
        private_folder(self._builds)
        unfinished = self._builds / f"{build.id}.half"
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            unpack(self._server.artifacts.file(build.artifact), unfinished)
            serving.complete(unfinished, build.manifest)
            unfinished.rename(self._folder(build))
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

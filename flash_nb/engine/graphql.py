"""Endpoints and apps over HTTP: the part of Runpod's GraphQL that the engine serves, ``POST /graphql``.

An endpoint is known by its kind and its name, as our own kernels know it, and by its environment. So two
clients that save the same name at once end with one endpoint, where Runpod would make two. With an ``id``
that endpoint is changed, its name too. Official clients remember ids and do not mind; to save an endpoint is
also to ask for its id.
"""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cache
from typing import TYPE_CHECKING, Any

import graphql
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flash_nb.engine import declaration
from flash_nb.engine.apps import App, Build, Environment, environment_in, object_key
from flash_nb.engine.gate import RefusalError, admit, body_of, object_of
from flash_nb.engine.schema import SCHEMA
from flash_nb.engine.volumes import known_volumes
from flash_nb.errors import BackendError, EndpointNotFoundError

if TYPE_CHECKING:
    from flash_nb.engine.server import Server

MAX_BODY_BYTES = 10_000_000


class GraphQL:
    """Answers the requests of Runpod's clients for endpoints.

    Args:
        server: The engine.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def routes(self) -> list[Route]:
        """Its path."""
        return [Route("/graphql", self._serve, methods=["POST"])]

    async def _serve(self, request: Request) -> Response:
        admit(request, self._server)
        body = object_of(await body_of(request, MAX_BODY_BYTES))
        query, variables = body.get("query"), body.get("variables") or {}
        if not isinstance(query, str) or not isinstance(variables, dict):
            raise RefusalError(400, 'The body must be {"query": TEXT, "variables": {…}}.')
        result = await graphql.graphql(
            _schema(),
            query,
            _Root(self._server),
            variable_values=variables,
            operation_name=body.get("operationName"),
        )
        status = (
            400 if result.data is None and any(error.path is None for error in result.errors or ()) else 200
        )
        return JSONResponse(result.formatted, status_code=status)


Answer = dict[str, Any]


class _Root:
    """The root fields: graphql-core calls the method of a field's name."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._control = server.control
        self._apps = server.apps

    def myself(self, _: Any) -> Answer:
        return {
            "id": "local",
            "endpoints": [self._endpoint(endpoint_id) for endpoint_id in self._control.endpoints],
            "flashApps": [self._app(app) for app in self._apps.apps.values()],
        }

    # --- endpoints ----------------------------------------------------------------------------

    def saveEndpoint(self, _: Any, input: Answer) -> Answer:
        control = self._control
        endpoint_id = input.get("id")
        if endpoint_id:
            self._check_endpoint(endpoint_id)
        else:
            spec = declaration.spec_of(input)
            endpoint_id = control.id_of(spec)
        spec = declaration.spec_of(input, control.endpoints.get(endpoint_id))
        if environment_id := environment_in(spec):
            self._apps.environment(environment_id)
        self._server.deployments.save(endpoint_id, spec)
        return self._endpoint(endpoint_id)

    async def deleteEndpoint(self, _: Any, id: str) -> None:
        await self._control.do_delete(id)

    def podTemplate(self, _: Any, id: str) -> Answer:
        template: Answer = self._endpoint(self._with_template(id))["template"]
        return template

    def saveTemplate(self, info: Any, input: Answer) -> Answer:
        """Save the template of an endpoint: there are no others here."""
        template = dict(input)
        endpoint_id = self._with_template(template.pop("id"))
        saved: Answer = self.saveEndpoint(info, {"id": endpoint_id, "template": template})["template"]
        return saved

    # --- apps ---------------------------------------------------------------------------------

    def flashApp(self, _: Any, flashAppId: str) -> Answer:
        return self._app(self._apps.app(flashAppId))

    def flashAppByName(self, _: Any, flashAppName: str) -> Answer:
        return self._app(self._apps.app_of(flashAppName))

    def createFlashApp(self, _: Any, input: Answer) -> Answer:
        return self._app(self._apps.create_app(input["name"]))

    async def deleteFlashApp(self, _: Any, flashAppId: str) -> bool:
        await self._server.deployments.delete_app(flashAppId)
        return True

    # --- environments -------------------------------------------------------------------------

    def flashEnvironment(self, _: Any, flashEnvironmentId: str) -> Answer:
        return self._environment(self._apps.environment(flashEnvironmentId))

    def flashEnvironmentByName(self, _: Any, input: Answer) -> Answer:
        return self._environment(self._apps.environment_of(input["flashAppId"], input["name"]))

    def createFlashEnvironment(self, _: Any, input: Answer) -> Answer:
        return self._environment(self._apps.create_environment(input["flashAppId"], input["name"]))

    def updateFlashEnvironment(self, _: Any, input: Answer) -> Answer:
        return self._environment(self._apps.set_state(input["flashEnvironmentId"], input["status"]))

    def deleteFlashEnvironment(self, _: Any, flashEnvironmentId: str) -> bool:
        self._server.deployments.delete_environment(flashEnvironmentId)
        return True

    def addEndpointToFlashEnvironment(self, info: Any, input: Answer) -> Answer:
        self._check_endpoint(input["endpointId"])
        given = {"id": input["endpointId"], "flashEnvironmentId": input["flashEnvironmentId"]}
        return self.saveEndpoint(info, given)

    def addNetworkVolumeToFlashEnvironment(self, _: Any, input: Answer) -> Answer:
        volume_id = input["networkVolumeId"]
        known = {volume["id"]: volume for volume in known_volumes(self._server.settings.home)}
        if volume_id not in known:
            raise BackendError(f"Network volume not found: {volume_id!r}")
        environment = self._apps.add_volume(input["flashEnvironmentId"], volume_id)
        return {**known[volume_id], "flashEnvironmentId": environment.id}

    # --- builds -------------------------------------------------------------------------------

    def flashBuild(self, _: Any, flashBuildId: str) -> Answer:
        return _build(self._apps.build(flashBuildId))

    def prepareFlashArtifactUpload(self, _: Any, input: Answer) -> Answer:
        self._server.artifacts.check_room(input["tarballSize"])
        upload = self._apps.prepare(input["flashAppId"], input["tarballSize"])
        return {
            "uploadUrl": self._server.artifacts.upload_url(upload),
            "objectKey": upload.object_key,
            "expiresAt": _when(upload.expires_at),
        }

    def finalizeFlashArtifactUpload(self, _: Any, input: Answer) -> Answer:
        upload = self._apps.upload_of(input["flashAppId"], input["objectKey"])
        manifest = _manifest(input["manifest"])
        if not self._server.artifacts.is_gzip(upload.id):
            self._apps.discard(upload)
            self._server.artifacts.remove(upload.id)
            raise BackendError(
                f"The artifact {upload.object_key!r} is not in the gzip format: upload a .tar.gz."
            )
        build = self._apps.finalize(upload, manifest)
        self._server.artifacts.remove_unknown(self._apps.artifacts)
        return _build(build)

    async def deployBuildToEnvironment(self, _: Any, input: Answer) -> Answer:
        return self._environment(
            await self._server.deployments.deploy(input["flashEnvironmentId"], input["flashBuildId"])
        )

    def updateFlashBuildManifest(self, _: Any, input: Answer) -> Answer:
        build = self._apps.set_manifest(input["flashBuildId"], _manifest(input["manifest"]))
        self._server.deployments.changed(build.id)
        return _build(build)

    # --- answers ------------------------------------------------------------------------------

    def _check_endpoint(self, endpoint_id: str) -> None:
        if endpoint_id not in self._control.endpoints:
            raise EndpointNotFoundError(f"The engine has no endpoint {endpoint_id!r}.")

    def _with_template(self, template_id: str) -> str:
        """Return the endpoint of a template."""
        for endpoint_id in self._control.endpoints:
            if self._endpoint(endpoint_id)["templateId"] == template_id:
                return endpoint_id
        raise EndpointNotFoundError(f"No endpoint of the engine has a template {template_id!r}.")

    def _endpoint(self, endpoint_id: str) -> Answer:
        spec = self._control.endpoints[endpoint_id]
        answer = declaration.answer_of(endpoint_id, spec)
        environment = self._apps.environments.get(environment_in(spec))
        return answer if environment is None else {**answer, "activeBuildid": environment.build}

    def _app(self, app: App) -> Answer:
        return {
            "id": app.id,
            "name": app.name,
            "createdAt": _when(app.created_at),
            "flashEnvironments": [self._environment(each) for each in self._apps.environments_of(app.id)],
            "flashBuilds": [_build(build) for build in self._apps.builds_of(app.id)],
        }

    def _environment(self, environment: Environment) -> Answer:
        known = {volume["id"]: volume for volume in known_volumes(self._server.settings.home)}
        return {
            "id": environment.id,
            "flashAppId": environment.app,
            "name": environment.name,
            "state": environment.state,
            "createdAt": _when(environment.created_at),
            "activeBuildId": environment.build,
            "activeArtifact": lambda _: self._artifact(environment),
            "endpoints": [self._endpoint(each) for each in self._apps.members(environment.id)],
            "networkVolumes": [known[volume] for volume in environment.volumes if volume in known],
        }

    def _artifact(self, environment: Environment) -> Answer | None:
        if environment.build is None:
            return None
        build = self._apps.build(environment.build)
        url, expires_at = self._server.artifacts.download_url(build.artifact)
        key = object_key(build.app, build.artifact)
        return {"objectKey": key, "downloadUrl": url, "expiresAt": _when(expires_at)}


def _build(build: Build) -> Answer:
    return {
        "id": build.id,
        "flashAppId": build.app,
        "objectKey": object_key(build.app, build.artifact),
        "createdAt": _when(build.created_at),
        "manifest": build.manifest,
    }


def _manifest(given: Any) -> Answer:
    resources = given.get("resources") if isinstance(given, dict) else None
    if not isinstance(resources, dict) or not all(isinstance(each, dict) for each in resources.values()):
        raise BackendError('A manifest is an object with "resources" by name: flash build writes it.')
    return dict(given)


def _when(seconds: float) -> str:
    """Return a time as Runpod writes it: UTC, with milliseconds."""
    text = datetime.fromtimestamp(seconds, tz=timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


@cache
def _schema() -> graphql.GraphQLSchema:
    return graphql.build_schema(SCHEMA)

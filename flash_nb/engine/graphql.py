"""Endpoints over HTTP: the part of Runpod's GraphQL that the engine serves, ``POST /graphql``.

An endpoint is known by its kind and its name, as our own kernels know it. So two clients that save the same
name at once end with one endpoint, where Runpod would make two. With an ``id`` that endpoint is changed,
its name too. Official clients remember ids and do not mind; to save an endpoint is also to ask for its id.

Apps and environments are refused with a sentence.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import graphql
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flash_nb.engine import declaration
from flash_nb.engine.gate import RefusalError, admit, body_of, object_of
from flash_nb.errors import EndpointNotFoundError

if TYPE_CHECKING:
    from flash_nb.engine.server import Server

MAX_BODY_BYTES = 10_000_000

SCHEMA = """
scalar JSON

type Query {
  myself: User!
}

type Mutation {
  saveEndpoint(input: EndpointInput!): Endpoint!
  deleteEndpoint(id: String!): JSON
}

type User {
  id: String!
  endpoints: [Endpoint!]!
}

input EndpointInput {
  id: String
  name: String
  type: String
  gpuIds: String
  gpuCount: Int
  allowedCudaVersions: String
  minCudaVersion: String
  instanceIds: [String!]
  locations: String
  workersMin: Int
  workersMax: Int
  workersStandby: Int
  workersPFBTarget: Int
  idleTimeout: Int
  executionTimeoutMs: Int
  scalerType: String
  scalerValue: Int
  networkVolumeId: String
  networkVolumeIds: JSON
  template: PodTemplateInput
  templateId: String
  flashBootType: String
  flashEnvironmentId: String
  activeBuildid: String
  aiKey: String
  computeType: String
  createdAt: String
  hubRelease: JSON
  repo: JSON
  userId: String
}

input PodTemplateInput {
  id: String
  name: String
  imageName: String
  env: [EnvironmentVariableInput!]
  advancedStart: Boolean
  config: JSON
  containerDiskInGb: Int
  containerRegistryAuthId: String
  dockerArgs: String
  ports: String
  readme: String
  startScript: String
  volumeInGb: Int
}

input EnvironmentVariableInput {
  key: String!
  value: String!
}

type Endpoint {
  id: String!
  name: String!
  type: String!
  gpuIds: String!
  gpuCount: Int!
  allowedCudaVersions: String!
  minCudaVersion: String
  instanceIds: [String!]!
  locations: String!
  workersMin: Int!
  workersMax: Int!
  workersStandby: Int!
  workersPFBTarget: Int!
  idleTimeout: Int!
  executionTimeoutMs: Int!
  scalerType: String!
  scalerValue: Int!
  networkVolumeId: String
  networkVolumeIds: [EndpointVolume!]!
  networkVolume: NetworkVolume
  template: PodTemplate!
  templateId: String!
  env: [EnvironmentVariable!]!
  flashBootType: String
  flashEnvironmentId: String
  activeBuildid: String
  aiKey: String
  computeType: String
  createdAt: String
  idePodId: String
  userId: String!
  version: Int!
}

type NetworkVolume {
  id: String!
  dataCenterId: String
}

type EndpointVolume {
  networkVolumeId: String!
  dataCenterId: String
}

type PodTemplate {
  id: String!
  name: String
  imageName: String!
  env: [EnvironmentVariable!]!
  containerDiskInGb: Int!
  dockerArgs: String!
}

type EnvironmentVariable {
  key: String!
  value: String!
}
"""


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
        if later := _flash_field(query):
            message = f"{later} is not available yet: the local engine has no apps and environments."
            return JSONResponse({"data": None, "errors": [{"message": message}]})
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


class _Root:
    """The root fields: graphql-core calls the method of a field's name."""

    def __init__(self, server: Server) -> None:
        self._control = server.control

    def myself(self, _: Any) -> dict[str, Any]:
        endpoints = self._control.endpoints.items()
        return {"id": "local", "endpoints": [declaration.answer_of(*found) for found in endpoints]}

    def saveEndpoint(self, _: Any, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002, N802 - wire names
        control = self._control
        endpoint_id = input.get("id")
        if endpoint_id and endpoint_id not in control.endpoints:
            raise EndpointNotFoundError(f"The engine has no endpoint {endpoint_id!r}.")
        if not endpoint_id:
            spec = declaration.spec_of(input)
            endpoint_id = control.id_of(spec)
        spec = declaration.spec_of(input, control.endpoints.get(endpoint_id))
        control.save(endpoint_id, spec)
        return declaration.answer_of(endpoint_id, spec)

    async def deleteEndpoint(self, _: Any, id: str) -> None:  # noqa: A002, N802 - wire names
        await self._control.do_delete(id)


def _flash_field(query: str) -> str:
    """Return the first root field that is about apps, environments and builds; empty if none is."""
    try:
        document = graphql.parse(query)
    except graphql.GraphQLSyntaxError:
        return ""
    for definition in document.definitions:
        if isinstance(definition, graphql.OperationDefinitionNode):
            for field in definition.selection_set.selections:
                name = field.name.value if isinstance(field, graphql.FieldNode) else ""
                if "flash" in name.lower() or name == "deployBuildToEnvironment":
                    return name
    return ""


@cache
def _schema() -> graphql.GraphQLSchema:
    return graphql.build_schema(SCHEMA)

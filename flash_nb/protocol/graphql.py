"""Runpod's control API: the documents that we send, and what their answers say.

Only fields are asked for that the official SDK asks for too: one that the service does not know
would spoil the whole answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flash_nb.errors import GraphQLError, GraphQLMutationError, GraphQLQueryError


@dataclass(frozen=True)
class Document:
    """A GraphQL document.

    Attributes:
        name: Its operation's name; also its root field.
        text: What is sent.
        changes: It is a mutation.
    """

    name: str
    text: str
    changes: bool

    def body(self, **variables: Any) -> dict[str, Any]:
        """Return the body of the request."""
        return {"query": self.text, "variables": variables}


SAVE_ENDPOINT = Document(
    "saveEndpoint",
    """mutation saveEndpoint($input: EndpointInput!) {
  saveEndpoint(input: $input) { id name type templateId networkVolumeId workersMin workersMax }
}""",
    changes=True,
)

DELETE_ENDPOINT = Document(
    "deleteEndpoint",
    """mutation deleteEndpoint($id: String!) {
  deleteEndpoint(id: $id)
}""",
    changes=True,
)

ENDPOINTS = Document(
    "myself",
    """query {
  myself { endpoints { id name type instanceIds workersMin workersMax } }
}""",
    changes=False,
)


@dataclass(frozen=True)
class Listed:
    """An endpoint as the service lists it."""

    id: str
    name: str
    is_load_balanced: bool
    is_cpu: bool
    workers_min: int
    workers_max: int


def root(document: Document, answer: object, *, status: int = 200) -> Any:
    """Return the root field of an answer.

    Args:
        document: What was sent.
        answer: The JSON that came back; None if it was none.
        status: The HTTP status that it came with.

    Raises:
        GraphQLQueryError, GraphQLMutationError: The service reports errors, or the field is not there.
    """
    kind: type[GraphQLError] = GraphQLMutationError if document.changes else GraphQLQueryError
    told = answer if isinstance(answer, Mapping) else {}
    if errors := told.get("errors"):
        raise kind(f"Runpod refused {document.name}: {words(errors)}")
    data = told.get("data")
    if not isinstance(data, Mapping) or document.name not in data:
        raise kind(f"Runpod answered {document.name} with status {status} and without {document.name!r}.")
    return data[document.name]


def words(errors: object) -> str:
    """Return the messages of a list of errors in one line."""
    listed = errors if isinstance(errors, list) else [errors]
    found = [str(each.get("message", each)) if isinstance(each, Mapping) else str(each) for each in listed]
    return "; ".join(found)


def listed(answer: object) -> list[Listed]:
    """Return the endpoints of an answer to `ENDPOINTS`.

    Raises:
        GraphQLQueryError: There is no list of endpoints in it.
    """
    endpoints = answer.get("endpoints") if isinstance(answer, Mapping) else None
    if not isinstance(endpoints, list):
        raise GraphQLQueryError("Runpod did not say which endpoints there are.")
    return [
        Listed(
            id=str(each["id"]),
            name=str(each.get("name") or ""),
            is_load_balanced=each.get("type") == "LB",
            is_cpu=bool(each.get("instanceIds")),
            workers_min=int(each.get("workersMin") or 0),
            workers_max=int(each.get("workersMax") or 0),
        )
        for each in endpoints
    ]


def saved_id(answer: object) -> str:
    """Return the id of a saved endpoint.

    Raises:
        GraphQLMutationError: There is none.
    """
    found = answer.get("id") if isinstance(answer, Mapping) else None
    if not found:
        raise GraphQLMutationError("Runpod saved an endpoint, but did not say under which id.")
    return str(found)

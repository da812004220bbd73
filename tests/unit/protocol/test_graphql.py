"""What Runpod's control API is told, and what its answers say."""

from __future__ import annotations

import pytest

from flash_nb.errors import GraphQLMutationError, GraphQLQueryError
from flash_nb.protocol import graphql


def test_a_body_is_a_document_with_its_variables():
    body = graphql.DELETE_ENDPOINT.body(id="ep1")
    assert body["variables"] == {"id": "ep1"}
    assert "deleteEndpoint(id: $id)" in body["query"]


def test_a_null_is_an_answer():
    assert graphql.root(graphql.DELETE_ENDPOINT, {"data": {"deleteEndpoint": None}}) is None


@pytest.mark.parametrize(
    ("document", "kind"),
    [(graphql.ENDPOINTS, GraphQLQueryError), (graphql.SAVE_ENDPOINT, GraphQLMutationError)],
)
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"errors": [{"message": "no GPU"}, {"message": "no luck"}]}, "no GPU; no luck"),
        ({"data": None, "errors": "odd"}, "odd"),
        ({"data": {}}, "without"),
        (None, "status 200"),
        ([], "status 200"),
    ],
)
def test_errors_bring_the_words_of_the_service(document, kind, answer, words):
    with pytest.raises(kind, match=words):
        graphql.root(document, answer)


def test_endpoints_are_listed_whatever_is_null():
    (found,) = graphql.listed({"endpoints": [{"id": "e", "name": None, "type": None, "instanceIds": None}]})
    assert found == graphql.Listed("e", "", False, False, 0, 0)
    with pytest.raises(GraphQLQueryError):
        graphql.listed(None)
    with pytest.raises(GraphQLMutationError):
        graphql.saved_id({})

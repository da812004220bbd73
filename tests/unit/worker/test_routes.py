"""Where the parameters of a route are in its request."""

from __future__ import annotations

from typing import Annotated

import fastapi
import pydantic
import pytest

from flash_nb.worker.routes import placeholders, places, signature_of


class Model(pydantic.BaseModel):
    x: int


def plain(x, y=1): ...
def typed(x: int, tags: list[str], options: dict | None = None): ...
def model(item: Model): ...
def two(item: Model, x: int): ...
def marked(q: Annotated[int, fastapi.Query()], h: str = fastapi.Header(), b: str = fastapi.Body()): ...
def made(request: fastapi.Request, user: str = fastapi.Depends(plain), x: int = 0): ...
def upload(file: fastapi.UploadFile, note: str = fastapi.Form()): ...


@pytest.mark.parametrize(
    ("function", "method", "path", "expected"),
    [
        (plain, "POST", "/p", {"x": "body", "y": "body"}),
        (plain, "PUT", "/p", {"x": "body", "y": "body"}),
        (plain, "PATCH", "/p", {"x": "body", "y": "body"}),
        (plain, "GET", "/p", {"x": "query", "y": "query"}),
        (plain, "DELETE", "/p", {"x": "query", "y": "query"}),
        (plain, "POST", "/p/{x}", {"x": "path", "y": "body"}),
        (plain, "GET", "/p/{x}/q/{y:path}", {"x": "path", "y": "path"}),
        (typed, "POST", "/p", {"x": "body", "tags": "body", "options": "body"}),
        (model, "POST", "/p", {"item": "whole body"}),
        (model, "GET", "/p", {"item": "query"}),
        (two, "POST", "/p", {"item": "body", "x": "body"}),
        (marked, "POST", "/p", {"q": "query", "h": "header", "b": "body"}),
        (made, "POST", "/p", {"request": "injected", "user": "injected", "x": "body"}),
        (upload, "POST", "/p", {"file": "upload", "note": "upload"}),
    ],
)
def test_places(function, method, path, expected):
    assert places(signature_of(function), method, path) == expected


def test_placeholders():
    assert placeholders("/a/{b}/{c:path}") == ["b", "c"]
    assert placeholders("/a") == []


def test_an_annotation_that_cannot_be_evaluated_is_no_obstacle():
    def function(x: NotHere): ...  # noqa: F821 - that is the point

    assert places(signature_of(function), "POST", "/p") == {"x": "body"}

"""The application that a load-balanced worker serves, asked through ASGI."""

from __future__ import annotations

import asyncio
import textwrap

import httpx
import pytest

from flash_nb.worker.app import build


def item(source: str, name: str, **fields) -> dict:
    return {
        "name": name,
        "source": textwrap.dedent(source).strip(),
        "filename": "c",
        "first_line": 1,
        **fields,
    }


def served(source: str, name: str, method: str = "POST", path: str = "/p"):
    """Return an application with one route."""
    group = {
        "namespace": [item(source, name)],
        "buffers": [],
        "routes": [{"method": method, "path": path, "function": name}],
    }
    return build({"kind": "routes", "title": "test", "groups": [group]})


def ask(app, method: str, path: str, **fields) -> httpx.Response:
    async def main():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **fields)

    return asyncio.run(main())


def test_fields_of_the_body_are_the_parameters():
    app = served("async def f(x: int, y: int = 2):\n    return {'sum': x + y}", "f")
    assert ask(app, "POST", "/p", json={"x": 1}).json() == {"sum": 3}
    assert ask(app, "POST", "/p", json={"x": "5", "y": 1}).json() == {"sum": 6}


def test_a_lone_parameter_is_a_field_too():
    app = served("def f(text):\n    return text.upper()", "f")
    assert ask(app, "POST", "/p", json={"text": "hi"}).json() == "HI"


def test_a_required_parameter_after_one_with_a_default():
    app = served("def f(*, x: int = 1, y: int):\n    return x + y", "f")
    assert ask(app, "POST", "/p", json={"y": 2}).json() == 3


@pytest.mark.parametrize(("body", "where"), [({}, "x"), ({"x": "a"}, "x"), ([1], None)])
def test_what_does_not_fit_is_refused_with_its_place(body, where):
    app = served("def f(x: int):\n    return x", "f")
    response = ask(app, "POST", "/p", json=body)
    assert response.status_code == 422
    if where:
        assert response.json()["detail"][0]["loc"] == ["body", where]


def test_query_and_path():
    app = served(
        "def f(item: int, q: str = 'no', flag: bool = False):\n    return [item, q, flag]",
        "f",
        "GET",
        "/i/{item}",
    )
    assert ask(app, "GET", "/i/3?q=a&flag=true").json() == [3, "a", True]
    assert ask(app, "GET", "/i/x").status_code == 422
    assert ask(app, "POST", "/i/3").status_code == 405
    assert ask(app, "GET", "/nowhere").status_code == 404


def test_an_exception_is_a_500_with_type_message_and_traceback():
    app = served("def f():\n    raise KeyError('gone')", "f")
    response = ask(app, "POST", "/p")
    assert response.status_code == 500
    told = response.json()
    assert (told["type"], told["message"]) == ("KeyError", "'gone'")
    assert "line 2, in f" in told["traceback"]


def test_a_return_annotation_without_a_schema_is_no_obstacle():
    app = served("class Odd: ...\ndef f() -> Odd:\n    return {'x': 1}", "f")
    assert ask(app, "POST", "/p").json() == {"x": 1}


def test_ping_and_the_openapi_page():
    app = served("def f(x: int):\n    'Doubles.'\n    return x", "f")
    assert ask(app, "GET", "/ping").json() == {"status": "healthy"}
    schema = ask(app, "GET", "/openapi.json").json()
    assert list(schema["paths"]) == ["/p"]
    assert schema["paths"]["/p"]["post"]["description"] == "Doubles."
    page = ask(app, "GET", "/docs").text
    assert "http" not in page.partition("<script>")[0].replace("http-equiv", ""), "no file from elsewhere"


def test_functions_of_a_group_share_their_globals():
    source = """
        seen = []
        def put(x: int):
            seen.append(x)
        def get():
            return seen
        """
    group = {
        "namespace": [item(source, "get")],
        "buffers": [],
        "routes": [
            {"method": "POST", "path": "/put", "function": "put"},
            {"method": "GET", "path": "/get", "function": "get"},
        ],
    }
    app = build({"kind": "routes", "title": "test", "groups": [group]})
    ask(app, "POST", "/put", json={"x": 7})
    assert ask(app, "GET", "/get").json() == [7]


def test_an_application_of_the_users_own():
    source = """
        def make():
            from starlette.applications import Starlette
            from starlette.responses import PlainTextResponse
            from starlette.routing import Route

            return Starlette(routes=[Route("/", lambda request: PlainTextResponse("mine"))])
        """
    group = {"namespace": [item(source, "make")], "buffers": [], "function": "make"}
    assert ask(build({"kind": "asgi", "group": group}), "GET", "/").text == "mine"

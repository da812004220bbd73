"""The application of a load-balanced worker, made from what its endpoint says.

``{"kind": "routes", "title": …, "groups": [{"namespace": [item…], "buffers": [base64…], "routes":
[{"method", "path", "function"}…]}…]}``: functions that came as source, served by FastAPI. The
functions of a group share one namespace, as they do in the notebook.

A group's ``modules``, if it has some, are files of the user's that its functions import; see
`flash_nb.worker.modules`.

``{"kind": "asgi", "group": {"namespace", "buffers", "function"}}``: a function that returns an ASGI
application of the user's own.

``{"kind": "asgi", "artifact": {"folder", "module"}}``: the application of a deployed project's endpoint.

``{"kind": "execute"}``: what Flash's own image serves; see `flash_nb.worker.execute`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import artifact
from .execute import Execute
from .interface import Application
from .modules import MODULES
from .namespace import attribute, fill, new_main
from .serving import Served, serve


def build(app: Mapping[str, Any]) -> Application:
    """Return the ASGI application; executes the user's definitions."""
    if app["kind"] == "asgi" and "artifact" in app:
        served: Application = artifact.load(app["artifact"], "app")
        return served
    if app["kind"] == "asgi":
        group = app["group"]
        provide([group])
        made: Application = load(group, group["function"])()
        return made
    return Execute() if app["kind"] == "execute" else _serve_routes(app)


def provide(groups: Iterable[Mapping[str, Any]]) -> None:
    """Let the functions of groups, which all stay, import the modules that came with them."""
    items = {item["name"]: item for group in groups for item in group.get("modules", ())}
    MODULES.provide([*items.values()])


def load(group: Mapping[str, Any], function: str | None = None) -> Any:
    """Execute a group's definitions in a namespace of their own; return it, or one function of it."""
    module = new_main()
    fill(module.__dict__, group["namespace"], [base64.b64decode(text) for text in group["buffers"]])
    return module if function is None else attribute(module, function.split("."))


def _serve_routes(app: Mapping[str, Any]) -> Application:
    from fastapi_offline import FastAPIOffline

    provide(app["groups"])
    served: Application = serve(FastAPIOffline(title=app["title"], redoc_url=None), _routes(app["groups"]))
    return served


def _routes(groups: Iterable[Mapping[str, Any]]) -> Iterator[Served]:
    for group in groups:
        module = load(group)
        for route in group["routes"]:
            yield route["method"], route["path"], attribute(module, route["function"].split("."))

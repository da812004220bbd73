"""An app: the code that an endpoint's workers serve, where jobs and requests do not bring it.

It stands in an endpoint's spec, so it is JSON: values are base64 of what `flash_nb.worker.codec`
encodes.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from flash_nb.worker.modules import ModuleItem
from flash_nb.worker.namespace import Item


class Route(TypedDict):
    """A function and the requests that call it."""

    method: str
    path: str
    function: str


class Files(TypedDict, total=False):
    """Modules that come as source, for code that imports some."""

    modules: list[ModuleItem]


class Group(Files):
    """Definitions that share a namespace, with the values that they read."""

    namespace: list[Item]
    buffers: list[str]


class RouteGroup(Group):
    """… and the functions among them that are served."""

    routes: list[Route]


class FunctionGroup(Group):
    """… and the one function among them that is called."""

    function: str


class Artifact(TypedDict):
    """A built project: its folder, and the file in it that starts an endpoint's workers, without ``.py``."""

    folder: str
    module: str


class RoutesApp(TypedDict):
    """Functions behind HTTP routes, served by FastAPI."""

    kind: Literal["routes"]
    title: str
    groups: list[RouteGroup]


class AsgiApp(TypedDict):
    """A function that returns an ASGI application."""

    kind: Literal["asgi"]
    group: FunctionGroup


class HandlerApp(TypedDict):
    """A function that is called with each job, as Runpod calls handlers: ``{"id": …, "input": …}``."""

    kind: Literal["handler"]
    group: FunctionGroup


class ArtifactApp(TypedDict):
    """A built project's endpoint: the ``handler`` of its file, or its ASGI ``app``."""

    kind: Literal["handler", "asgi"]
    artifact: Artifact


class ExecuteApp(TypedDict):
    """What Flash's own load-balanced image serves: ``/ping`` and ``/execute``."""

    kind: Literal["execute"]


App = RoutesApp | AsgiApp | HandlerApp | ArtifactApp | ExecuteApp

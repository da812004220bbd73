"""Where the arguments of a route travel in an HTTP request. Both ends decide it here.

A Python call and ``curl`` must agree: ``await process(x=1, y=2)`` on a POST route is the JSON body
``{"x": 1, "y": 2}``. That differs from FastAPI's own reading, which takes plain parameters from the
query, so the worker rewrites the signature by what `places` says.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

Place = Literal["path", "query", "header", "body", "whole body", "injected", "upload"]

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_PLACEHOLDER = re.compile(r"{(\w+)(?::\w+)?}")
_MARKERS: Mapping[str, Place] = {
    "Path": "path",
    "Query": "query",
    "Header": "header",
    "Body": "body",
    "Form": "upload",
    "File": "upload",
}


def placeholders(path: str) -> list[str]:
    """Return the names between braces: ``["item"]`` for ``/items/{item}``."""
    return _PLACEHOLDER.findall(path)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return a function's signature, its annotations evaluated if they can be."""
    try:
        return inspect.signature(function, eval_str=True)
    except Exception:  # noqa: BLE001 - evaluating an annotation runs whatever it says
        return inspect.signature(function)


def places(signature: inspect.Signature, method: str, path: str) -> dict[str, Place]:
    """Return where each parameter of a route is in its request.

    * a name between braces in the path: ``path``
    * what FastAPI marks (``Query()``, ``Header()``, ``Depends()``, ``Request`` …): as marked; what the
      server makes itself is ``injected``
    * POST, PUT, PATCH: a field of the JSON ``body``; a lone pydantic model is the ``whole body``
    * GET, DELETE: ``query``
    """
    in_path = placeholders(path)
    found: dict[str, Place] = {}
    for name, parameter in signature.parameters.items():
        marked = "path" if name in in_path else _marked(parameter)
        found[name] = marked or ("body" if method in _WITH_BODY else "query")
    fields = [name for name, place in found.items() if place == "body"]
    if len(fields) == 1 and _is_model(signature.parameters[fields[0]].annotation):
        found[fields[0]] = "whole body"
    return found


def _marked(parameter: inspect.Parameter) -> Place | None:
    """Return the place that FastAPI's own words for a parameter name; None if there are none."""
    for marker in (parameter.default, *getattr(parameter.annotation, "__metadata__", ())):
        if _is_fastapi(type(marker)):
            return _MARKERS.get(type(marker).__name__, "injected")
    if _is_fastapi(parameter.annotation):
        return "upload" if parameter.annotation.__name__ == "UploadFile" else "injected"
    return None


def _is_fastapi(kind: Any) -> bool:
    return isinstance(kind, type) and kind.__module__.split(".")[0] in {"fastapi", "starlette"}


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and hasattr(annotation, "model_validate")

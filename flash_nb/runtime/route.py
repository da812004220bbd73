"""A route in production: a function behind ``METHOD path`` of a load-balanced endpoint."""

from __future__ import annotations

import inspect
import json
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from .client import Answer
from .errors import RemoteExecutionError, SerializationError
from .plain import given, given_each, jsonable
from .production import ProductionWrapper, called
from .registry import registry
from .request import check_size
from .routes import places, signature_of


class RemoteRoute(ProductionWrapper):
    """A function behind ``METHOD path``.

    Attributes:
        method, path: Of its route.
    """

    def __init__(self, target: Any, resource: Any, *, local: bool, method: str, path: str) -> None:
        super().__init__(target, resource, local=local)
        self.method, self.path = method, path

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Return a coroutine for the value."""
        return called(self._name, self._run(args, kwargs))

    @property
    def url(self) -> str:
        """Where others call it."""
        return registry.url(self.resource.name) + self.path

    async def _run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if self.is_here:
            result = self.target(*map(given, args), **given_each(kwargs))
            return await result if inspect.isawaitable(result) else result
        signature = signature_of(self.target)
        bound = signature.bind(*map(given, args), **given_each(kwargs))
        target, headers, body = self._request(bound.arguments, places(signature, self.method, self.path))
        answer = await self._client().request(self.method, target, headers, body)
        return _value(answer, f"{self.method} {self.path} of {self.resource.name}")

    def _request(
        self, arguments: Mapping[str, Any], where: Mapping[str, str]
    ) -> tuple[str, dict[str, str], bytes | None]:
        """Return path with query, headers and body."""
        path, query, headers = self.path, [], {}
        fields: dict[str, Any] = {}
        whole: Any = None
        for name, value in arguments.items():
            sent = jsonable(f"Argument {name} of {self._name}", value)
            match where[name]:
                case "path":
                    path = path.replace(f"{{{name}}}", quote(str(_word(sent)), safe=""))
                    path = path.replace(f"{{{name}:path}}", quote(str(_word(sent))))
                case "query":
                    query += [(name, _word(item)) for item in (sent if isinstance(sent, list) else [sent])]
                case "header":
                    headers[name.replace("_", "-")] = str(_word(sent))
                case "body":
                    fields[name] = sent
                case "whole body":
                    whole = sent
                case _:
                    raise SerializationError(
                        f"{self._name}: a Python call cannot give the parameter {name}.",
                        hint=f"Send it over HTTP: {self.path}",
                    )
        body = None
        if any(place in ("body", "whole body") for place in where.values()):
            headers["content-type"] = "application/json"
            body = json.dumps(fields if whole is None else whole).encode()
            check_size(f"the arguments of {self._name}", len(body))
        told = urlencode([pair for pair in query if pair[1] is not None])
        return path + (f"?{told}" if told else ""), headers, body


def _value(answer: Answer, route: str) -> Any:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip()
    if kind == "application/json":
        value = json.loads(answer.body) if answer.body else None
    elif kind.startswith("text/"):
        value = answer.body.decode(errors="replace")
    else:
        value = answer.body or None
    if answer.status < 400:  # noqa: PLR2004 - where HTTP's errors begin
        return value
    told = value if isinstance(value, dict) else {"detail": value}
    detail = told.get("detail", value)
    raise RemoteExecutionError(
        f"{route} answered {answer.status}: {detail}",
        remote_type=str(told.get("type", "")),
        remote_message=str(told.get("message", detail)),
        remote_traceback=str(told.get("traceback", "")),
    )


def _word(value: Any) -> Any:
    """Return a JSON value as it stands in a query; None stays None and is left out."""
    return value if value is None or isinstance(value, str) else json.dumps(value)

"""Live requests: functions and classes that official Flash clients send, as their workers answer them.

A request is their *FunctionRequest*: source text with arguments that are base64 of cloudpickle, or JSON with
``"serialization_format": "json"``. The answer is their *FunctionResponse*: what the user's code raises is an
answer too, with ``"success": false``. ``stdout`` is left None: what is printed travels as events, and the
engine adds it.

Unlike the official worker, an object with an ``instance_id`` keeps its state between calls, a generator
function may be called (its items travel as they come, and the result is their list), and None is a value.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import pickle
import sys
import tempfile
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any

from .codec import MAIN, EncodeError, encode, never_portable
from .namespace import remember_source
from .raised import formatted, message

Request = Mapping[str, Any]


class LiveError(Exception):
    """A live request cannot be served as it is."""


@dataclass(slots=True)
class _Instance:
    """An object that lives between calls, with the module of its class."""

    value: Any
    module: types.ModuleType
    class_name: str
    created_at: str
    last_used: str = ""
    method_calls: int = 0

    def info(self) -> dict[str, Any]:
        """Return what the official answer says about it; times in ISO 8601, UTC."""
        return {
            "class_name": self.class_name,
            "created_at": self.created_at,
            "method_calls": self.method_calls,
            "last_used": self.last_used,
        }


class Live:
    """Serves live requests; keeps their objects and modules.

    Args:
        new_namespace: Returns a fresh ``__main__`` and makes it the current one.
        finish: Returns the value that a call's result comes to: of an awaitable, of a generator.
    """

    def __init__(self, new_namespace: Callable[[], types.ModuleType], finish: Callable[[Any], Any]) -> None:
        self._new_namespace = new_namespace
        self._finish = finish
        self._modules = _Modules()
        self._instances: dict[str, _Instance] = {}

    @property
    def instances(self) -> tuple[str, ...]:
        """Ids of the objects that live here, as the engine knows them."""
        return tuple(self._instances)

    def drop(self, instance_id: str) -> None:
        """Forget an object."""
        self._instances.pop(instance_id, None)

    def answer(self, request: Request, instance_id: str | None) -> bytes:
        """Serve a request; return its *FunctionResponse* as JSON.

        Args:
            request: The *FunctionRequest*.
            instance_id: The object that it is for, as the engine knows it; None: one for this call only.
        """
        response: dict[str, Any] = {
            "success": False,
            "result": None,
            "error": None,
            "stdout": None,
            "instance_id": None,
            "instance_info": None,
        }
        try:
            self._modules.provide(request.get("modules") or {})
            value = self._call(request, instance_id)
            response |= {"success": True, **_encoded(value, request)}
        except KeyboardInterrupt:
            raise
        except LiveError as error:
            response["error"] = str(error)
        except BaseException as error:  # noqa: BLE001 - SystemExit is an outcome too
            response["error"] = f"{message(error)}\n{formatted(error)}"
        if instance_id is not None and (instance := self._instances.get(instance_id)):
            response |= {"instance_id": request["instance_id"], "instance_info": instance.info()}
        return json.dumps(response).encode()

    def _call(self, request: Request, instance_id: str | None) -> Any:
        if request.get("execution_type", "function") == "class":
            target = self._method(request, instance_id)
        else:
            target = _defined(self._executed(request, "function"), request, "function")
        return self._finish(target(*_args(request, "args"), **_kwargs(request, "kwargs")))

    def _method(self, request: Request, instance_id: str | None) -> Callable[..., Any]:
        instance = self._instances.get(instance_id or "")
        if instance is None or request.get("create_new_instance", True):
            module = self._executed(request, "class")
            kind = _defined(module, request, "class")
            value = kind(*_args(request, "constructor_args"), **_kwargs(request, "constructor_kwargs"))
            instance = _Instance(value, module, request["class_name"], _now())
            if instance_id is not None:
                self._instances[instance_id] = instance
        sys.modules[MAIN] = instance.module
        instance.method_calls += 1
        instance.last_used = _now()
        method: Callable[..., Any] = getattr(instance.value, request.get("method_name") or "__call__")
        return method

    def _executed(self, request: Request, what: str) -> types.ModuleType:
        source = request.get(f"{what}_code")
        if not isinstance(source, str):
            raise LiveError(
                f"The request brings no {what}_code. Functions of a deployed project are not served here: "
                "send the source, as a live endpoint's client does."
            )
        filename = f"<{request.get(f'{what}_name')}>"
        remember_source(filename, source)
        module = self._new_namespace()
        exec(compile(source, filename, "exec", dont_inherit=True), module.__dict__)
        return module


class _Modules:
    """Modules that requests bring along: files in a folder that comes first in ``sys.path``.

    The same files are imported once; other files replace those before.
    """

    def __init__(self) -> None:
        self._digest = ""
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def provide(self, sources: Mapping[str, str]) -> None:
        """Make these modules importable: relative path to source text."""
        digest = hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()
        if not sources or digest == self._digest:
            return
        folder = tempfile.TemporaryDirectory(prefix="flash-modules-")
        for place, source in sources.items():
            _write(Path(folder.name), place, source)
        if self._folder is not None:
            sys.path.remove(self._folder.name)
        names = {PurePosixPath(place).parts[0].removesuffix(".py") for place in sources}
        for name in [name for name in sys.modules if name.partition(".")[0] in names]:
            del sys.modules[name]
        sys.path.insert(0, folder.name)
        importlib.invalidate_caches()
        self._digest, self._folder = digest, folder


def _write(folder: Path, place: str, source: str) -> None:
    path = PurePosixPath(place)
    if path.is_absolute() or ".." in path.parts or not place:
        raise LiveError(f"The module path {place!r} does not stay within the project.")
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(source)


def _defined(module: types.ModuleType, request: Request, what: str) -> Callable[..., Any]:
    name = request.get(f"{what}_name")
    found: Callable[..., Any] | None = module.__dict__.get(str(name))
    if found is None:
        raise LiveError(f"The {what}_code does not define {name!r}.")
    return found


def _args(request: Request, name: str) -> Sequence[Any]:
    return [_decoded(value, request) for value in request.get(name) or ()]


def _kwargs(request: Request, name: str) -> Mapping[str, Any]:
    return {key: _decoded(value, request) for key, value in (request.get(name) or {}).items()}


def _decoded(value: Any, request: Request) -> Any:
    return value if _is_json(request) else pickle.loads(base64.b64decode(value))


def _encoded(value: Any, request: Request) -> dict[str, Any]:
    """Return the fields of a response that hold its value.

    Raises:
        LiveError: It cannot be sent.
    """
    if _is_json(request):
        try:
            return {"json_result": json.loads(json.dumps(value, allow_nan=False))}
        except (TypeError, ValueError) as error:
            raise LiveError(f"The result cannot be sent as JSON: {error}") from error
    try:
        (pickled,) = encode(value, never_portable, in_band=True)
    except EncodeError as error:
        raise LiveError(f"The result cannot be sent: {error.cause}") from error.cause
    return {"result": base64.b64encode(pickled).decode("ascii")}


def _is_json(request: Request) -> bool:
    return request.get("serialization_format") == "json"


def _now() -> str:
    return datetime.now(tz=timezone.utc).isoformat()

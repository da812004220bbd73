"""A request: what the input of a job asks for, and the answer to it.

Four forms are understood. Plain JSON is for people and ``curl``::

    {"x": 1, "y": 2}                                     the arguments of the only function
    {"method": "predict", "x": 1}                        … of a method of the only class
    {"function_name": "f", "kwargs": {"x": 1}}           … of one of several; also with the arguments inline

and is answered with the value. Flash's *FunctionRequest* is what programs send, the runtime of another
endpoint too: ``execution_type`` or ``serialization_format`` tell it. Its values are base64 of cloudpickle, or
JSON with ``"serialization_format": "json"``; it is answered with a *FunctionResponse*.
"""

from __future__ import annotations

import base64
import binascii
import pickle
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import PayloadTooLargeError, RemoteExecutionError, SerializationError
from .plain import given, jsonable

MAX_PAYLOAD_BYTES = 10_000_000
EMPTY = "__empty"  # clients send it in place of an empty input, which Runpod would drop
_TARGET = frozenset({"function_name", "class_name", "method"})
_SELECTION = frozenset(
    {
        "function_name", "class_name", "method", "method_name", "args", "kwargs", "constructor_args",
        "constructor_kwargs", "instance_id", "create_new_instance", "execution_type", "serialization_format",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Call:
    """What is to be called, and how it is answered.

    Attributes:
        name: A function or a class; empty for the only one.
        method: Of the class; empty for its only one.
        made_with: Arguments of the class: positional, by name.
        instance: Names an object; empty: the one that is made with `made_with`.
        is_new: Make the object anew.
        form: ``"value"``: the answer is the value. ``"pickle"`` or ``"json"``: a *FunctionResponse*.
    """

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    method: str = ""
    made_with: tuple[Sequence[Any], Mapping[str, Any]] = ((), {})
    instance: str = ""
    is_new: bool = False
    form: str = "value"


def read(given_input: Any, parameters: Collection[str] | None = None) -> Call:
    """Return what an input asks for.

    Args:
        given_input: The ``input`` of a job.
        parameters: Names that the only function, or the only method of the only class, takes: then these
            words are its arguments. None: there are several to choose from.

    Raises:
        RemoteExecutionError: It is no object.
        SerializationError: An argument cannot be read.
    """
    if given_input is None:
        given_input = {}
    if not isinstance(given_input, Mapping):
        raise RemoteExecutionError(
            f"The input of a job is an object, not {type(given_input).__name__}.",
            hint='Name the arguments: {"input": {"x": 1}}',
        )
    words = {name: value for name, value in given_input.items() if name != EMPTY}
    names_target = "function_name" in words or "class_name" in words
    if names_target and ("execution_type" in words or "serialization_format" in words):
        return _function_request(words)
    own = set(parameters or ())
    if not (_TARGET & words.keys()) - own:
        return Call("", (), words)
    args, kwargs = words.get("args"), words.get("kwargs")
    if not (isinstance(args, list) and "args" not in own):
        args = []
    if not (isinstance(kwargs, Mapping) and "kwargs" not in own):
        reserved = _SELECTION - (own - _TARGET)
        kwargs = {name: value for name, value in words.items() if name not in reserved}
    return Call(
        _text(words, "function_name") or _text(words, "class_name"),
        args,
        kwargs,
        method=_text(words, "method") or _text(words, "method_name"),
        made_with=(_part(words, "constructor_args", list), _part(words, "constructor_kwargs", dict)),
        instance=_text(words, "instance_id"),
    )


def _function_request(words: Mapping[str, Any]) -> Call:
    is_class = words.get("execution_type") == "class" or not words.get("function_name")
    is_json = words.get("serialization_format") == "json"

    def positional(name: str) -> list[Any]:
        return [value if is_json else unpickled(value) for value in _part(words, name, list)]

    def named(name: str) -> dict[str, Any]:
        found = _part(words, name, dict)
        return {key: value if is_json else unpickled(value) for key, value in found.items()}

    made_with = (positional("constructor_args"), named("constructor_kwargs")) if is_class else ((), {})
    return Call(
        _text(words, "class_name" if is_class else "function_name"),
        positional("args"),
        named("kwargs"),
        method=(_text(words, "method_name") or "__call__") if is_class else "",
        made_with=made_with,
        instance=_text(words, "instance_id"),
        is_new=bool(words.get("instance_id")) and bool(words.get("create_new_instance", True)),
        form="json" if is_json else "pickle",
    )


def answer(call: Call, value: Any, instance: Mapping[str, Any] | None = None) -> Any:
    """Return the output of a job: JSON.

    Args:
        call: What was asked for.
        value: What came of it.
        instance: What is known of the object that was called.

    Raises:
        SerializationError: The value cannot be sent.
    """
    if call.form != "pickle":
        value = given(value)  # a function may return what it awaited
    if call.form == "value":
        return jsonable("The returned value", value)
    return {
        "success": True,
        "result": pickled("the returned value", value) if call.form == "pickle" else None,
        **({"json_result": jsonable("The returned value", value)} if call.form == "json" else {}),
        "error": None,
        "stdout": None,  # it is in the worker's log
        "instance_id": call.instance or None,
        "instance_info": dict(instance) if instance else None,
    }


@dataclass(frozen=True)
class FunctionRequest:
    """A call of a function or a method on another endpoint, with pickled values.

    Attributes:
        name: The function, or the class.
        args, kwargs: Arguments; a `JobOutput` stands for its output.
        method: Of the class; empty for a function.
        made_with: Arguments of the class.
        instance: Names the object.
    """

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    method: str = ""
    made_with: tuple[Sequence[Any], Mapping[str, Any]] = field(default=((), {}))
    instance: str = ""

    def wire(self) -> dict[str, Any]:
        """Return it as the input of a job.

        Raises:
            SerializationError: An argument cannot be pickled.
            PayloadTooLargeError: All of them are over `MAX_PAYLOAD_BYTES`.
        """
        wire: dict[str, Any] = {
            "execution_type": "class" if self.method else "function",
            "args": self._positional(self.args),
            "kwargs": self._named(self.kwargs),
            "serialization_format": "cloudpickle",
        }
        if self.method:
            wire |= {
                "class_name": self.name,
                "method_name": self.method,
                "constructor_args": self._positional(self.made_with[0]),
                "constructor_kwargs": self._named(self.made_with[1]),
                "instance_id": self.instance,
                "create_new_instance": False,
            }
        else:
            wire["function_name"] = self.name
        check_size(f"the arguments of {self.name}", _text_size(wire))
        return wire

    def _positional(self, values: Sequence[Any]) -> list[str]:
        return [self._pickled(str(place), value) for place, value in enumerate(values, 1)]

    def _named(self, values: Mapping[str, Any]) -> dict[str, str]:
        return {name: self._pickled(name, value) for name, value in values.items()}

    def _pickled(self, label: str, value: Any) -> str:
        return pickled(f"argument {label} of {self.name}", given(value))


def check_size(label: str, size: int) -> None:
    """Refuse what is too large for a request.

    Raises:
        PayloadTooLargeError: `size` is over `MAX_PAYLOAD_BYTES`.
    """
    if size > MAX_PAYLOAD_BYTES:
        raise PayloadTooLargeError(
            f"{label[:1].upper()}{label[1:]} have {size / 1e6:.1f} MB as they are sent, and "
            f"{MAX_PAYLOAD_BYTES / 1e6:.0f} MB is the limit.",
            hint="Send a URL, or the path of a file on a network volume.",
        )


def pickled(label: str, value: Any) -> str:
    """Return a value as base64 of cloudpickle.

    Raises:
        SerializationError: It cannot be pickled.
    """
    import cloudpickle

    try:
        return base64.b64encode(cloudpickle.dumps(value)).decode("ascii")
    except Exception as error:
        raise SerializationError(
            f"{label[:1].upper()}{label[1:]} cannot be sent: {type(error).__name__}: {error}.",
            hint="Send plain data, an array or a table instead.",
        ) from error


def unpickled(text: Any) -> Any:
    """Return the value in base64 of a pickle.

    Raises:
        SerializationError: It cannot be read.
    """
    try:
        return pickle.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, TypeError) as error:
        raise SerializationError(
            f"A value is no base64 of a pickle: {error}.",
            hint='Send JSON and say so: "serialization_format": "json".',
        ) from error
    except Exception as error:
        raise SerializationError(
            f"A value cannot be read here: {type(error).__name__}: {error}.",
            hint="The package that it comes from must be in the artifact: add it to dependencies.",
        ) from error


def _part(words: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return a list or an object of an input; an empty one if it is absent.

    Raises:
        RemoteExecutionError: It is something else.
    """
    found = words.get(name)
    if found is not None and not isinstance(found, kind):
        what = "a list" if kind is list else "an object"
        raise RemoteExecutionError(f"In the input of a job {name} is {what}, not {type(found).__name__}.")
    return kind() if found is None else found


def _text(words: Mapping[str, Any], name: str) -> str:
    value = words.get(name)
    return value if isinstance(value, str) else ""


def _text_size(value: Any) -> int:
    """Return how long the texts in a request are in all."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_text_size(part) for part in value.values())
    return sum(map(_text_size, value)) if isinstance(value, list) else 0

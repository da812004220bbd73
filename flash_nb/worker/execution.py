"""Running one request: a cell, a function call, or a method of a remote object.

A request is a header (see `flash_nb.protocol.channel`) and its buffers; so is the result.
The user's code runs in the main thread, so that ``asyncio``, signals and figures behave as they do
in a notebook.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import hashlib
import inspect
import json
import selectors
import sys
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import failure
from .codec import MAIN, EncodeError, Encoder, Portable, decode, encode
from .culprit import SerializationError, find_culprit, type_name
from .frames import Buffer, Frame, Header
from .handler import Handler, answer
from .live import Live
from .modules import MODULES, ModuleItem
from .namespace import Item, attribute, compile_item, fill, new_main, remember_source
from .shell import SHELL, run_shell

ShowValue = Callable[[Any], None]
SendItem = Callable[[int, Buffer, Header], None]

_WITH_CODE = frozenset({"cell", "function", "class"})
MAX_ITEM_BYTES = 10_000_000
_LOOP_CODE = (str(Path(asyncio.__file__).parent), selectors.__file__)

_IMMUTABLE = (bool, int, float, complex, str, bytes, type(None), types.ModuleType, types.FunctionType, type)


class Executor:
    """Runs requests one after the other; keeps remote objects and one event loop between them.

    Args:
        show_value: Displays the value of a cell's last expression.
        send_item: Sends what a generator yields, pickled, with its place among the items; and as ``json``
            where it is for others too.
        finish_cell: Called when a cell's code has run, e.g. to show open figures.
        handler: Answers requests that bring no code.
    """

    def __init__(
        self,
        *,
        show_value: ShowValue,
        send_item: SendItem,
        finish_cell: Callable[[], None],
        handler: Handler | None = None,
    ) -> None:
        self._show_value = show_value
        self._send_item = send_item
        self._finish_cell = finish_cell
        self._handler = handler
        self._instances: dict[str, tuple[Any, types.ModuleType, Sequence[ModuleItem]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._awaited: asyncio.Task[Any] | None = None
        self._loop_interrupted = False
        self._code: dict[tuple[str, str], types.CodeType] = {}
        self._live = Live(_new_namespace, lambda result: self._finished(result, _portable(frozenset())))

    @property
    def instances(self) -> tuple[str, ...]:
        """Ids of the remote objects that live here."""
        return (*self._instances, *self._live.instances)

    def drop(self, instance_id: str) -> None:
        """Forget a remote object."""
        self._instances.pop(instance_id, None)
        self._live.drop(instance_id)

    def wake(self) -> None:
        """Let an event loop that waits look up; for an interrupt that another thread sent."""
        loop = self._loop
        if loop is not None and loop.is_running():
            loop.call_soon_threadsafe(lambda: None)

    def run(self, request: Header, buffers: Sequence[Buffer]) -> Frame:
        """Run one request and return its result; what the user's code raises becomes a result too."""
        portable = _portable(_definition_names(request))
        resting = self._tasks()
        try:
            if request["execution_type"] in _WITH_CODE:
                MODULES.provide(self._modules(request))
            if request["execution_type"] == "cell":
                return self._run_cell(request, buffers, portable)
            if request["execution_type"] == "handler":
                return self._run_handler(request, portable)
            if request["execution_type"] == "live":
                response = self._live.answer(request["input"], request["instance"])
                return {"ok": True, "json": True, "live": True, "counts": [1]}, [response]
            return self._run_call(request, buffers, portable)
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are outcomes too
            described, pickles = failure.describe(error, portable)
            kind = {"json": True} if request["execution_type"] == "handler" else {}
            counts = [0, len(pickles)]
            return {"ok": False, **kind, "error": described, "namespace": [], "counts": counts}, pickles
        finally:
            if not self._is_for_instance(request):  # a remote object may keep tasks of its own
                self._cancel(self._tasks() - resting)

    def _modules(self, request: Header) -> Sequence[ModuleItem]:
        """Return the modules that came; for a remote object that exists, those that it was made with."""
        made = self._instances.get(request.get("instance") or "")
        items: Sequence[ModuleItem] = request.get("modules", ()) if made is None else made[2]
        return items

    @staticmethod
    def _is_for_instance(request: Header) -> bool:
        return request["execution_type"] == "class" or request.get("instance") is not None

    # --- cells --------------------------------------------------------------------------------

    def _run_cell(self, request: Header, buffers: Sequence[Buffer], portable: Portable) -> Frame:
        module = _new_namespace()
        names = module.__dict__
        inputs = _fill_inputs(names, request, _Split(buffers))
        before = {name: _digest(value, portable) for name, value in inputs.items() if _is_mutable(value)}
        remember_source(request["filename"], request["cell"])
        described: dict[str, Any] | None = None
        pickles: list[Buffer] = []
        try:
            self._execute(request, names)
            self._finish_cell()
        except BaseException as error:  # noqa: BLE001 - what was bound before comes back all the same
            described, pickles = failure.describe(error, portable)
        changed = [
            name
            for name, digest in before.items()
            if name in names and name not in request["outputs"] and _digest(names[name], portable) != digest
        ]
        back = request["outputs"] if _is_item(request) else [*request["outputs"], *changed]
        outputs = Outputs(back, names, portable)
        header = {
            "ok": described is None,
            "error": described,
            "namespace": outputs.items,
            "changed": changed,
            "unbound": outputs.unbound,
            "defined": [name for name in request["definitions"] if name in names],
            "deleted": [n for n in request["inputs"] if n not in names],
            "sizes": outputs.sizes,
            "counts": [len(outputs.buffers), len(pickles)],
        }
        return header, [*outputs.buffers, *pickles]

    def _execute(self, request: Header, names: dict[str, Any]) -> None:
        filename = request["filename"]
        tree = ast.parse(request["source"], filename)
        last = tree.body[-1] if tree.body and request["show_value"] else None
        if isinstance(last, ast.Expr):
            tree.body.pop()
        self._evaluate(tree, filename, names)
        if isinstance(last, ast.Expr):
            value = self._evaluate(ast.Expression(last.value), filename, names)
            if _is_item(request):
                names[request["value"]] = value
            else:
                self._show_value(value)

    def _evaluate(self, tree: ast.Module | ast.Expression, filename: str, names: dict[str, Any]) -> Any:
        mode = "exec" if isinstance(tree, ast.Module) else "eval"
        code = compile(tree, filename, mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        result = eval(code, names)  # noqa: S307 - a cell is the user's own code
        return self._await(result) if code.co_flags & inspect.CO_COROUTINE else result

    # --- calls --------------------------------------------------------------------------------

    def _run_call(self, request: Header, buffers: Sequence[Buffer], portable: Portable) -> Frame:
        split = _Split(buffers)
        namespace = split.take(request["namespace_buffers"])
        if request["execution_type"] == "class":
            target, module = self._instance(request, namespace, split)
        else:
            module = _new_namespace()
            self._fill(module, request, namespace)
            target = _resolve(module, request["function"])
        args, kwargs = split.arguments(request["args"], request["kwargs"], lambda n: _resolve(module, n))
        result = target(*args, **kwargs)
        if inspect.iscoroutine(result):
            result = self._await(result)
        header: Header = {"ok": True}
        if inspect.isgenerator(result) or inspect.isasyncgen(result):
            result = self._stream(result, portable)
            header["items"] = len(result)
        in_band = request.get("in_band", False)
        if in_band:
            header["in_band"] = True
            if _is_plain(result):
                header["json_result"] = result
        value = _encode("returned", result, portable, in_band=in_band)
        return {**header, "counts": [len(value)]}, value

    def _run_handler(self, request: Header, portable: Portable) -> Frame:
        if self._handler is None:
            raise RuntimeError("this endpoint has no handler: its jobs must bring their code")
        job = {**request.get("extra", {}), "id": request["id"], "input": request["input"]}
        result = self._finished(self._handler.call(job), portable)
        return {"ok": True, "json": True, "counts": [1]}, [answer(result)]

    def _finished(self, result: Any, portable: Portable) -> Any:
        """Return what a result comes to: awaited, or exhausted with its items sent as JSON too."""
        if inspect.iscoroutine(result):
            result = self._await(result)
        if inspect.isgenerator(result) or inspect.isasyncgen(result):
            result = self._stream(result, portable, with_json=True)
        return result

    def _stream(
        self,
        generator: Generator[Any, Any, Any] | AsyncGenerator[Any, Any],
        portable: Portable,
        *,
        with_json: bool = False,
    ) -> list[Any]:
        """Send each item as soon as it is there; return them all, for who only wants the end.

        Whatever happens, the generator is closed here, so that its ``finally`` blocks run now.
        """
        items: list[Any] = []

        def take(item: Any) -> None:
            (pickled,) = _encode("yielded", item, portable, in_band=True)
            if (size := memoryview(pickled).nbytes) > MAX_ITEM_BYTES:
                raise ValueError(
                    f"item {len(items)} has {size / 1e6:.1f} MB, and one that is yielded may have "
                    f"{MAX_ITEM_BYTES / 1e6:g} MB: yield it in parts, or return it"
                )
            as_json = {"json": item} if with_json and _is_plain(item) else {}
            self._send_item(len(items), pickled, as_json)
            items.append(item)

        if isinstance(generator, AsyncGenerator):
            self._await(_exhaust(generator, take))
        else:
            with contextlib.closing(generator):
                for item in generator:
                    take(item)
        return items

    def _fill(self, module: types.ModuleType, request: Header, buffers: Sequence[Buffer]) -> None:
        items: list[Item] = request["namespace"]
        if len(items) == 1 and "source" in items[0]:
            exec(self._compiled(items[0]), module.__dict__)
        else:
            fill(module.__dict__, items, buffers)

    def _compiled(self, item: Item) -> types.CodeType:
        """Compile a lone definition once: the usual remote function is called many times."""
        key = (item["filename"], item["source"])
        if key not in self._code:
            if len(self._code) > 256:  # noqa: PLR2004 - bounds what a long-lived worker keeps
                self._code.clear()
            self._code[key] = compile_item(item)
        return self._code[key]

    def _instance(
        self, request: Header, namespace: Sequence[Buffer], split: _Split
    ) -> tuple[Callable[..., Any], types.ModuleType]:
        constructor = request["constructor"]
        taken = split.take(sum(constructor["args"]) + sum(constructor["kwargs"].values()))
        if request["instance"] in self._instances:
            instance, module, _ = self._instances[request["instance"]]
            sys.modules[MAIN] = module
        else:
            module = _new_namespace()
            fill(module.__dict__, request["namespace"], namespace)
            args, kwargs = _Split(taken).arguments(
                constructor["args"], constructor["kwargs"], lambda n: _resolve(module, n)
            )
            instance = _resolve(module, request["class"])(*args, **kwargs)
            self._instances[request["instance"]] = (instance, module, request.get("modules", ()))
        return getattr(instance, request["method"]), module

    # --- the event loop -----------------------------------------------------------------------

    def _await(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        task = self._awaited = self._loop.create_task(coroutine)
        self._loop_interrupted = False
        try:
            return self._loop.run_until_complete(task)
        except asyncio.CancelledError:
            if self._loop_interrupted:
                raise KeyboardInterrupt from None
            raise
        except KeyboardInterrupt:
            if not task.done():  # it came while the loop waited: the code has not heard of it
                self._cancel({task})
            raise
        finally:
            self._awaited = None

    def interrupt_loop(self, frame: types.FrameType | None) -> bool:
        """Cancel what the event loop runs, if the loop's own code is interrupted; else return False.

        An exception raised there can lose a wake-up that the loop has just taken, and its task would
        never go on, not even to its ``finally``.
        """
        if self._awaited is None or self._loop is None or frame is None:
            return False
        if not frame.f_code.co_filename.startswith(_LOOP_CODE):
            return False
        self._loop_interrupted = True
        self._loop.call_soon_threadsafe(self._awaited.cancel)
        return True

    def _tasks(self) -> set[asyncio.Task[Any]]:
        return set() if self._loop is None else asyncio.all_tasks(self._loop)

    def _cancel(self, tasks: set[asyncio.Task[Any]]) -> None:
        if tasks and self._loop is not None:
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


class Outputs:
    """What a cell bound, ready to travel.

    Attributes:
        items: Namespace items, values in the order of the stream.
        buffers: The encoded values.
        sizes: Bytes by name.
        unbound: ``(name, reason)`` of what cannot travel.
    """

    def __init__(self, names: Sequence[str], namespace: Mapping[str, Any], portable: Portable) -> None:
        self.items: list[Item] = []
        self.unbound: list[tuple[str, str]] = []
        values: dict[str, Any] = {}
        for name in names:
            if name not in namespace:
                continue
            value = namespace[name]
            if isinstance(value, types.ModuleType):
                self.items.append({"name": name, "module": value.__name__})
            else:
                values[name] = value
        encoder = self._encode(values, portable)
        self.items += encoder.items
        self.sizes: dict[str, int] = encoder.sizes
        self.buffers: list[Buffer] = encoder.buffers() if values else []

    def _encode(self, values: dict[str, Any], portable: Portable) -> Encoder:
        """Encode what can be encoded; a failed dump spoils the stream, so begin anew without it."""
        while True:
            encoder = Encoder(portable)
            try:
                for name, value in values.items():
                    encoder.add(name, value)
            except EncodeError as error:
                del values[error.name]
                self.unbound.append((error.name, f"{type(error.cause).__name__}: {error.cause}"))
            else:
                return encoder


async def _exhaust(generator: AsyncGenerator[Any, Any], take: Callable[[Any], None]) -> None:
    async with contextlib.aclosing(generator):
        async for item in generator:
            take(item)


def _is_item(request: Header) -> bool:
    """Say if a cell runs for one item of a map: its value is not shown, it comes back."""
    return "item" in request


def _fill_inputs(names: dict[str, Any], request: Header, split: _Split) -> dict[str, Any]:
    """Bind what a cell needs; return the values that came as bytes."""
    if not _is_item(request):
        return fill(names, request["namespace"], split.rest())
    shared = fill(names, request["namespace"], split.take(request["namespace_buffers"]))
    return shared | fill(names, request["item"], split.rest())


def _is_plain(value: Any) -> bool:
    """Say if JSON gives back an equal value."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False


def _encode(verb: str, value: Any, portable: Portable, *, in_band: bool = False) -> list[Buffer]:
    try:
        return encode(value, portable, in_band=in_band)
    except EncodeError as error:
        path, culprit = find_culprit(f"the {verb} {type(value).__name__}", value)
        raise SerializationError(
            f"{path} cannot be sent back: {type_name(culprit)} objects cannot be pickled ({error.cause})"
        ) from None


class _Split:
    """Takes the buffers of a request apart, in order."""

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self._buffers = buffers
        self._position = 0

    def take(self, count: int) -> Sequence[Buffer]:
        start = self._position
        self._position += count
        return self._buffers[start : self._position]

    def rest(self) -> Sequence[Buffer]:
        return self._buffers[self._position :]

    def arguments(
        self, args: Sequence[int], kwargs: Mapping[str, int], resolve: Callable[[str], Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        positional = [decode(self.take(count), resolve) for count in args]
        return positional, {name: decode(self.take(count), resolve) for name, count in kwargs.items()}


def _new_namespace() -> types.ModuleType:
    """Return a fresh ``__main__`` in which ``!command`` lines work."""
    module = new_main()
    module.__dict__[SHELL] = functools.partial(run_shell, namespace=module.__dict__)
    return module


def _resolve(module: types.ModuleType, qualname: str) -> Any:
    return attribute(module, qualname.split("."))


def _definition_names(request: Header) -> frozenset[str]:
    items = (*request.get("namespace", ()), *request.get("item", ()))
    sent = {item["name"] for item in items if "source" in item}
    return frozenset(sent.union(request.get("definitions", ())))


def _portable(names: frozenset[str]) -> Portable:
    """Return a predicate: the other side can find this function or class of ``__main__`` by name."""

    def known(obj: Any) -> bool:
        qualname: str = obj.__qualname__
        if qualname.split(".", maxsplit=1)[0] not in names:
            return False
        try:
            return _resolve(sys.modules[MAIN], qualname) is obj
        except AttributeError:
            return False

    return known


def _is_mutable(value: Any) -> bool:
    return not isinstance(value, _IMMUTABLE)


def _digest(value: Any, portable: Portable) -> bytes | None:
    """Return a digest of a value's content; None if it cannot be pickled."""
    try:
        buffers = encode(value, portable)
    except EncodeError:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for buffer in buffers:
        digest.update(buffer)
    return digest.digest()

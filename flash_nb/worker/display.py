"""Rich output: objects as mimebundles, and IPython's display functions without IPython.

A bundle is computed by IPython's rules (which methods are asked, with what, what an error means), because
libraries are written for them. `install` puts `display` among the builtins and makes IPython's own
functions ours when the user's code imports them: there is no shell on a worker that they could use.
"""

from __future__ import annotations

import binascii
import builtins
import contextlib
import io
import json
import math
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from itertools import islice
from types import ModuleType
from typing import Any, Final

Emit = Callable[[dict[str, Any], Sequence[bytes]], None]
Bundle = dict[str, Any]

WIDTH: Final = 79
MAX_ITEMS: Final = 1000  # of one container, in text/plain; IPython's own limit

_METHODS: Final = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("application/pdf", "_repr_pdf_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("text/latex", "_repr_latex_"),
    ("application/json", "_repr_json_"),
    ("application/javascript", "_repr_javascript_"),
)
_WIDGET_VIEW: Final = "application/vnd.jupyter.widget-view+json"
_IPYTHON: Final = "IPython.core.display_functions"
_IPYTHON_COPIES: Final = (_IPYTHON, "IPython.core.display", "IPython.display")


class _Output:
    """Where displays go. Without `emit` they are printed, as IPython does without a shell."""

    emit: Emit | None = None
    flush: Callable[[], None] | None = None

    def publish(self, event: dict[str, Any]) -> None:
        if self.emit is None:
            text = event.get("data", {}).get("text/plain")
            if text is not None:
                print(text)
            return
        if self.flush is not None:
            self.flush()
        self.emit(event, ())

    def forget(self) -> None:
        """A forked child must not write to its parent's connection."""
        self.emit = self.flush = None


_output = _Output()


def install(emit: Emit, flush: Callable[[], None]) -> None:
    """Make `display` a builtin, and IPython's display functions ours.

    Args:
        emit: Takes the events of the job that is running.
        flush: Sends the text that was printed before, so that the order is kept.
    """
    if _output.emit is None:
        os.register_at_fork(after_in_child=_output.forget)
    _output.emit, _output.flush = emit, flush
    builtins.display = display  # type: ignore[attr-defined]
    if _IPYTHON in sys.modules:
        for name in _IPYTHON_COPIES:
            _replace_functions(sys.modules.get(name))
    elif not any(isinstance(finder, _IPythonFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _IPythonFinder())


class _IPythonFinder:
    """Replaces IPython's display functions as soon as their module has run, then goes away."""

    def find_spec(self, name: str, path: Sequence[str] | None, _target: object = None) -> ModuleSpec | None:
        """Find the one module concerned. Called by the import system."""
        if name != _IPYTHON:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _replace_functions(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _replace_functions(module: ModuleType | None) -> None:
    for item in (display, update_display, clear_output, publish_display_data, DisplayHandle):
        if hasattr(module, item.__name__):
            setattr(module, item.__name__, item)
            item.__module__ = _IPYTHON  # so they come back to the notebook as IPython's


# --- IPython's functions ---------------------------------------------------------------------------


def display(
    *objs: Any,
    include: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    transient: Mapping[str, Any] | None = None,
    display_id: str | bool | None = None,
    raw: bool = False,
    clear: bool = False,
    update: bool = False,
    **_: Any,
) -> DisplayHandle | None:
    """Display objects in the notebook: IPython's ``display``.

    Args:
        objs: What to display.
        include: MIME types to compute; all if empty.
        exclude: MIME types to leave out.
        metadata: Merged over the metadata that the objects give.
        transient: May hold the ``display_id``.
        display_id: Makes the output updatable; True makes an id up.
        raw: The objects are mimebundles already.
        clear: Clear the output first, once the new one is there.
        update: Change the outputs with this id instead of adding one.

    Returns:
        A handle for updates, if an id was given.
    """
    name = _new_id() if display_id is True else display_id or (transient or {}).get("display_id")
    if update and not name:
        raise TypeError("display_id required for update_display")
    if not objs and display_id:
        objs, raw = ({},), True  # an empty output, to be filled later
    if clear:
        clear_output(wait=True)
    for obj in objs:
        data, found = (obj, {}) if raw else mimebundle(obj, include=include, exclude=exclude)
        if data or raw:  # else it has displayed itself
            publish_display_data(
                data, _merged(found, metadata or {}), transient={"display_id": name}, update=update
            )
    return DisplayHandle(str(name)) if display_id else None


def update_display(obj: Any, *, display_id: str, **kwargs: Any) -> None:
    """Change the outputs that were displayed with this id."""
    display(obj, display_id=display_id, **{**kwargs, "update": True})


def clear_output(wait: bool = False) -> None:  # noqa: FBT001, FBT002, RUF100 - IPython's signature
    """Clear the cell's output, at once or when the next output comes."""
    _output.publish({"type": "clear", "wait": bool(wait)})


def publish_display_data(
    data: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    *,
    transient: Mapping[str, Any] | None = None,
    update: bool = False,
    **_: Any,
) -> None:
    """Display a finished mimebundle."""
    _output.publish(
        {
            "type": "display",
            "data": _clean_bundle(data),
            "metadata": _jsonable(metadata or {}),
            "display_id": (transient or {}).get("display_id"),
            "update": update,
        }
    )


class DisplayHandle:
    """An output that can be changed later.

    Args:
        display_id: Its id; made up if there is none.
    """

    def __init__(self, display_id: str | None = None) -> None:
        self.display_id = display_id or _new_id()

    def __repr__(self) -> str:
        return f"<DisplayHandle display_id={self.display_id}>"

    def display(self, obj: Any, **kwargs: Any) -> None:
        """Add another output with this id."""
        display(obj, display_id=self.display_id, **kwargs)

    def update(self, obj: Any, **kwargs: Any) -> None:
        """Change all outputs with this id."""
        update_display(obj, display_id=self.display_id, **kwargs)


def last_value_event(obj: Any) -> dict[str, Any] | None:
    """Return the event that shows the value of a cell's last expression, or None if nothing is to show.

    Computing it may print and display; flush the streams before emitting it.
    """
    if obj is None:
        return None
    data, metadata = mimebundle(obj)
    return {"type": "result", "data": data, "metadata": metadata} if data else None


# --- objects to bundles ----------------------------------------------------------------------------


def mimebundle(
    obj: Any, *, include: Collection[str] | None = None, exclude: Collection[str] | None = None
) -> tuple[Bundle, Bundle]:
    """Return an object as data and metadata by MIME type, all of it JSON.

    Args:
        obj: Any object. A method of it that raises is reported on stderr and passed over.
        include: MIME types to compute; all if empty.
        exclude: MIME types to leave out.

    Returns:
        Both dicts are empty if the object has displayed itself.
    """
    shown, _ = _ask(obj, "_ipython_display_")
    if shown:
        return {}, {}
    _, answer = _ask(obj, "_repr_mimebundle_", include=include, exclude=exclude)
    found, notes = _pair(answer)
    data, metadata = dict(found or {}), dict(notes or {})
    for mime, method in _METHODS:
        if mime not in data and _wanted(mime, include, exclude):
            value, note = _pair(_figure_png(obj) if _is_figure(obj, mime) else _ask(obj, method)[1])
            if value is not None:
                data[mime] = value
            if note:
                metadata[mime] = note
    if "text/plain" not in data:
        data["text/plain"] = _plain(obj) if _wanted("text/plain", include, exclude) else None
    # No comm leads from a worker to the notebook: a view would say "model not found".
    data.pop(_WIDGET_VIEW, None)
    kept = {m: v for m, v in data.items() if v is not None and _wanted(m, include, exclude)}
    return _clean_bundle(kept), _jsonable(metadata)


def _ask(obj: Any, method: str, **kwargs: Any) -> tuple[bool, Any]:
    """Call a display method: whether there was an answer, and the answer."""
    try:
        call = _method(obj, method)
        return (False, None) if call is None else (True, call(**kwargs))
    except NotImplementedError:  # IPython's way of saying "not this time"
        return False, None
    except Exception as error:  # noqa: BLE001 - it is the user's method
        _report(f"{type(obj).__name__}.{method}() raised {_describe(error)}")
        return False, None


def _method(obj: Any, name: str) -> Callable[..., Any] | None:
    # A class has the methods of its instances, unbound; an object that has every name has none of them.
    if isinstance(obj, type) or getattr(obj, "_ipython_canary_method_should_not_exist_", None) is not None:
        return None
    method = getattr(obj, name, None)
    return method if callable(method) else None


def _wanted(mime: str, include: Collection[str] | None, exclude: Collection[str] | None) -> bool:
    return (not include or mime in include) and not (exclude and mime in exclude)


def _pair(answer: Any) -> tuple[Any, Any]:
    """Split what a method returned: data, or data and metadata."""
    if isinstance(answer, tuple) and len(answer) == 2:  # noqa: PLR2004 - a pair
        return answer
    return answer, None


def _is_figure(obj: Any, mime: str) -> bool:
    figure = getattr(sys.modules.get("matplotlib.figure"), "Figure", None)
    return mime == "image/png" and figure is not None and isinstance(obj, figure)


def _figure_png(figure: Any) -> bytes | None:
    """Draw a matplotlib figure as the inline backend does."""
    if not figure.axes and not figure.lines:
        return None
    file = io.BytesIO()
    try:
        figure.canvas.print_figure(
            file,
            format="png",
            dpi=figure.dpi,
            facecolor=figure.get_facecolor(),
            edgecolor=figure.get_edgecolor(),
            bbox_inches="tight",
        )
    except Exception as error:  # noqa: BLE001 - a wrong label, found only now
        _report(f"The figure cannot be drawn: {_describe(error)}")
        return None
    return file.getvalue()


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - even its message is the user's code
        return type(error).__name__


def _report(text: str) -> None:
    print(text, file=sys.stderr)


# --- text/plain ------------------------------------------------------------------------------------


def _plain(obj: Any) -> str:
    pretty = sys.modules.get("IPython.lib.pretty")
    try:
        if pretty is not None:
            return str(pretty.pretty(obj, max_width=WIDTH))
        return _pretty(obj, 0, 0, 0, frozenset())
    except Exception as error:  # noqa: BLE001 - __repr__ is the user's
        _report(f"{type(obj).__name__}.__repr__() raised {_describe(error)}")
        return object.__repr__(obj)


_BRACKETS: Final[dict[type, Sequence[str]]] = {
    list: "[]",
    tuple: "()",
    set: "{}",
    frozenset: ("frozenset({", "})"),
    dict: "{}",
}


class _More:
    """Stands for the items over `MAX_ITEMS`."""

    def __repr__(self) -> str:
        return "..."


def _pretty(obj: Any, indent: int, column: int, after: int, parents: frozenset[int]) -> str:
    """Lay out builtin containers as IPython does: on one line, or one item a line.

    Args:
        obj: What to lay out. Anything but a builtin container is its ``repr``.
        indent: The column of its further lines.
        column: Where its first line begins.
        after: The characters that follow on its last line.
        parents: Ids of the containers around it.
    """
    line = _flat(obj, parents)
    if not _is_container(obj) or id(obj) in parents:
        return line.replace("\n", "\n" + " " * indent)
    if "\n" not in line and column + len(line) + after <= WIDTH:
        return line
    opening, closing = _brackets(obj)
    parents |= {id(obj)}
    indent += len(opening)
    column += len(opening)
    rows = []
    items = _items(obj)
    for index, (key, value) in enumerate(items):
        follows = 1 if index < len(items) - 1 else len(closing) + after
        head = "" if key is None else _pretty(key[0], indent, column, 2, parents) + ": "
        rows.append(head + _pretty(value, indent, column + len(head), follows, parents))
        column = indent
    return opening + (",\n" + " " * indent).join(rows) + closing


def _flat(obj: Any, parents: frozenset[int]) -> str:
    if not _is_container(obj):
        return repr(obj)
    opening, closing = _brackets(obj)
    if id(obj) in parents:
        return f"{opening}...{closing}"
    parents |= {id(obj)}
    heads = ((f"{_flat(key[0], parents)}: " if key else "", value) for key, value in _items(obj))
    return opening + ", ".join(head + _flat(value, parents) for head, value in heads) + closing


def _is_container(obj: Any) -> bool:
    return type(obj) in _BRACKETS and bool(obj)  # an empty set is written set()


def _brackets(obj: Any) -> tuple[str, str]:
    opening, closing = _BRACKETS[type(obj)]
    return opening, ",)" if type(obj) is tuple and len(obj) == 1 else closing


def _items(obj: Any) -> list[tuple[tuple[Any] | None, Any]]:
    """Return the items of a container: a dict's with their key, in a tuple because it may be None."""
    if type(obj) is dict:
        items: list[tuple[tuple[Any] | None, Any]] = [((key,), obj[key]) for key in islice(obj, MAX_ITEMS)]
    else:
        items = [(None, value) for value in islice(_sorted(obj), MAX_ITEMS)]
    return [*items, (None, _More())] if len(obj) > MAX_ITEMS else items


def _sorted(obj: Any) -> Any:
    if type(obj) in (set, frozenset) and len(obj) <= MAX_ITEMS:
        with contextlib.suppress(Exception):  # items that cannot be compared stay as they come
            return sorted(obj)
    return obj


# --- JSON ------------------------------------------------------------------------------------------


def _clean_bundle(data: Mapping[str, Any]) -> Bundle:
    return {str(mime): _clean(str(mime), value) for mime, value in data.items()}


def _clean(mime: str, value: Any) -> Any:
    """Make one representation what the Jupyter wire wants: text, JSON, or base64 of bytes."""
    if isinstance(value, (bytes, bytearray, memoryview)) and _is_text(mime):
        return bytes(value).decode("utf-8", "replace")
    if mime == "application/json" and isinstance(value, str):
        with contextlib.suppress(ValueError):  # `_repr_json_` may return the text instead of the value
            return json.loads(value)
    return _jsonable(value)


def _is_text(mime: str) -> bool:
    return mime.startswith("text/") or mime.endswith(("xml", "json", "javascript"))


def _jsonable(value: Any) -> Any:
    """Rebuild a value out of what JSON has."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None  # as JSON.stringify has it
    if isinstance(value, (bytes, bytearray, memoryview)):
        return binascii.b2a_base64(value, newline=False).decode()
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_jsonable(item) for item in value]
    return _jsonable(value.tolist()) if hasattr(value, "tolist") else str(value)  # numpy has tolist


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Bundle:
    """Merge two dicts, and the dicts in them."""
    both = {k: _merged(base[k], v) for k, v in over.items() if _are_dicts(base.get(k), v)}
    return {**base, **over, **both}


def _are_dicts(one: Any, other: Any) -> bool:
    return isinstance(one, Mapping) and isinstance(other, Mapping)


def _new_id() -> str:
    return os.urandom(16).hex()

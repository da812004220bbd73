"""The app of an endpoint: code that its workers serve, collected so that it can stay with them.

Functions that see the same globals share one namespace on the worker too, so that a model which one
route loads is there for the next.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from flash_nb.errors import PayloadTooLargeError
from flash_nb.protocol.app import App, FunctionGroup, Group, Route, RouteGroup
from flash_nb.sdk.capture import MAX_PAYLOAD_BYTES, Capture, Collector
from flash_nb.sdk.code import ObjectCode
from flash_nb.sdk.dependencies import requirements_for
from flash_nb.sdk.options import RemoteOptions

ROUTE_REQUIREMENTS = ("fastapi>=0.110", "fastapi-offline>=1.7")


@dataclass(frozen=True)
class ServedApp:
    """An app with what its workers need; equal if it is the same on the wire."""

    wire: App
    requirements: tuple[str, ...]
    system: tuple[str, ...]
    allow_apt: bool
    digest: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ServedApp) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def routes_app(title: str, served: Sequence[tuple[Route, ObjectCode, RemoteOptions]]) -> ServedApp:
    """Return the app that serves these functions."""
    groups: list[RouteGroup] = []
    modules: set[str] = set()
    for members in _by_namespace(served):
        captured = _capture([code for _, code, _ in members])
        modules |= captured.files.outside
        routes = [route for route, _, _ in members]
        groups.append({**_group(captured), "routes": routes})
    options = [each for _, _, each in served]
    return _served({"kind": "routes", "title": title, "groups": groups}, modules, options, ROUTE_REQUIREMENTS)


def function_app(kind: str, code: ObjectCode, options: RemoteOptions) -> ServedApp:
    """Return the app of one function: a ``handler``, or one that returns an ``asgi`` application."""
    captured = _capture([code])
    group: FunctionGroup = {**_group(captured), "function": code.name}
    wire: Any = {"kind": kind, "group": group}
    return _served(wire, captured.files.outside, [options], ())


def _by_namespace(
    served: Sequence[tuple[Route, ObjectCode, RemoteOptions]],
) -> list[list[tuple[Route, ObjectCode, RemoteOptions]]]:
    groups: dict[int, list[tuple[Route, ObjectCode, RemoteOptions]]] = {}
    for member in served:
        groups.setdefault(member[1].namespace_id, []).append(member)
    return list(groups.values())


def _capture(codes: Sequence[ObjectCode]) -> Capture:
    collector: Collector = codes[0].collector()
    for code in codes[1:]:
        code.add_to(collector)
    captured = collector.collect()
    captured.take_files()
    captured.refuse_files()
    for code in codes:
        code.check(captured)
    return captured


def _group(captured: Capture) -> Group:
    group: Group = {"namespace": captured.items, "buffers": _text(captured)}
    if captured.files.items:
        group["modules"] = [*captured.files.items]
    return group


def _text(captured: Capture) -> list[str]:
    return [base64.b64encode(buffer).decode() for buffer in captured.buffers]


def _served(
    wire: App, modules: Collection[str], options: Sequence[RemoteOptions], needed: Sequence[str]
) -> ServedApp:
    text = json.dumps(wire, sort_keys=True)
    if len(text) > MAX_PAYLOAD_BYTES:
        raise PayloadTooLargeError(
            f"The code of the endpoint with the values that it reads has {len(text) / 1e6:.1f} MB; "
            f"{MAX_PAYLOAD_BYTES / 1e6:.0f} MB is the limit.",
            hint="Load large data inside the function, from a URL or a volume.",
        )
    explicit = [requirement for each in options for requirement in each.dependencies]
    requirements = requirements_for(modules, [*explicit, *needed])
    system = tuple(sorted({package for each in options for package in each.system_dependencies}))
    digest = hashlib.sha256(json.dumps([text, requirements, system]).encode()).hexdigest()
    return ServedApp(wire, requirements, system, any(each.allow_apt for each in options), digest)

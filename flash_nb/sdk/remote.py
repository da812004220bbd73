"""`remote`: the decorator that makes functions and classes run on a resource.

What travels is source, as in Flash: the decorated definition, the helpers that it uses, and the
values that it reads (see `capture`); arguments and results are pickles.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from flash_nb.errors import ResourceError, did_you_mean
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk.code import ObjectCode
from flash_nb.sdk.function import RemoteFunction
from flash_nb.sdk.objects import RemoteClass
from flash_nb.sdk.options import RemoteOptions
from flash_nb.sdk.payload import PayloadFunction
from flash_nb.sdk.route import RemoteRoute

Remote = RemoteFunction | RemoteClass | RemoteRoute | PayloadFunction


def remote(  # noqa: PLR0917 - the documented signature
    resource_config: ServerlessResource,
    dependencies: Sequence[str] | None = None,
    system_dependencies: Sequence[str] | None = None,
    accelerate_downloads: bool = True,
    local: bool = False,
    method: str | None = None,
    path: str | None = None,
    strict: bool = False,
    **_misspelt: NoReturn,
) -> Callable[[Any], Remote]:
    """Run the decorated function, or the methods of the decorated class, on a resource.

    ``await f(x)`` gives a `JobOutput`; a `JobOutput` among the arguments stands for its output.
    ``f.submit(x)`` gives a `Job` at once. ``f.stream(x)`` gives what a generator
    yields, item by item, for ``async for`` or ``for``; ``f.options(timeout=60)(x)`` runs one call with a
    time-out, time to live or webhook of its own. Objects of a decorated class live on one worker and
    keep their state until `close`, or until this process ends.

    On a load-balanced resource the function serves ``method path``, and ``await f(x)`` gives what that
    route answers; see `RemoteRoute`. On a resource with an image of your own the function runs here
    and returns the payload for the image's handler; see `PayloadFunction`.

    Args:
        resource_config: What it runs on.
        dependencies: Python packages, as pip takes them. What the code imports is added, in the
            version that is installed here.
        system_dependencies: Packages of the operating system.
        accelerate_downloads: Download dependencies in parallel; else one after the other.
        local: Run here instead, with the same results.
        method: For load-balanced resources: GET, POST, PUT, DELETE or PATCH.
        path: For load-balanced resources: the path of the route, from ``/`` on.
        strict: Allow only what Flash documents: everything that the code reads is an argument, a
            builtin, or made or imported inside. Annotations do not count. Otherwise the modules,
            functions, classes and values that it reads are sent along; ``JobOutput.carried`` and
            ``f.carries()`` say which.

    Raises:
        ResourceError: `resource_config` is not a resource, or there is no such parameter.
        ScopeError: The code reads outside names in spite of `strict`.
    """
    if _misspelt:
        raise _no_such_parameter(*_misspelt)
    if not isinstance(resource_config, ServerlessResource):
        raise ResourceError(
            f"@remote needs a resource, not {resource_config!r}.",
            hint='For example: @remote(resource_config=CpuLiveServerless(name="worker"))',
        )
    options = RemoteOptions(
        resource_config,
        dependencies=tuple(dependencies or ()),
        system_dependencies=tuple(system_dependencies or ()),
        accelerate_downloads=accelerate_downloads,
        local=local,
        strict=strict,
    )

    def decorate(target: Any) -> Remote:
        if strict:
            ObjectCode(target).check_strict()
        return _made(target, options, method, path)

    return decorate


def _no_such_parameter(name: str, *_: str) -> ResourceError:
    allowed = [word for word in inspect.signature(remote).parameters if not word.startswith("_")]
    near = did_you_mean(name, allowed)
    return ResourceError(
        f"@remote has no parameter {name!r}{near or '.'}",
        hint=f"They are {', '.join(allowed)}; workersMax, env and the like belong to the resource.",
    )


def _made(target: Any, options: RemoteOptions, method: str | None, path: str | None) -> Remote:
    """Return what a decorated function or class becomes: its resource decides."""
    resource = options.resource
    if isinstance(target, type) and not (resource.is_live and not resource.is_load_balanced):
        raise ResourceError(
            f"{target.__name__} is a class, and a {type(resource).__name__} keeps no objects.",
            hint="Objects live on a LiveServerless or a CpuLiveServerless.",
        )
    if resource.is_load_balanced:
        return RemoteRoute(target, options, method, path)
    if method is not None or path is not None:
        raise ResourceError(
            f"{target.__name__} has a method or a path, but {resource.name} has a queue and no routes.",
            hint=f'Serve routes from a LiveLoadBalancer: LiveLoadBalancer(name="{resource.name}")',
        )
    if not resource.is_live:
        return PayloadFunction(target, options)
    kind = RemoteClass if isinstance(target, type) else RemoteFunction
    return kind(ObjectCode(target), options, target)

"""`remote`: the decorator that makes functions and classes run on a resource.

What travels is source, as in Flash: the decorated definition, the helpers that it uses, and the
values that it reads (see `capture`); arguments and results are pickles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flash_nb.errors import ResourceError
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk.code import ObjectCode
from flash_nb.sdk.function import RemoteFunction
from flash_nb.sdk.objects import RemoteClass
from flash_nb.sdk.options import RemoteOptions


def remote(
    resource_config: ServerlessResource,
    dependencies: Sequence[str] | None = None,
    system_dependencies: Sequence[str] | None = None,
    accelerate_downloads: bool = True,
    local: bool = False,
) -> Callable[[Any], Any]:
    """Run the decorated function, or the methods of the decorated class, on a resource.

    ``await f(x)`` gives a `JobOutput`; a `JobOutput` among the arguments stands for its output.
    ``f.submit(x)`` gives a `Job` at once. Objects of a decorated class live on one worker and keep
    their state until `close`, or until this process ends.

    Args:
        resource_config: What it runs on.
        dependencies: Python packages, as pip takes them. What the code imports is added, in the
            version that is installed here.
        system_dependencies: Packages of the operating system.
        accelerate_downloads: Download dependencies in parallel.
        local: Run here instead, with the same results.

    Raises:
        ResourceError: `resource_config` is not a resource.
    """
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
    )

    def decorate(target: Any) -> RemoteFunction | RemoteClass:
        kind = RemoteClass if isinstance(target, type) else RemoteFunction
        return kind(ObjectCode(target), options, target)

    return decorate

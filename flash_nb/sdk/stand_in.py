"""A stand-in: a function that plays a container image where no container runs.

The local engine runs no images. A resource with an image of the user's own therefore needs somebody
to answer for it, and `stand_in` says who. On Runpod the image itself answers, and nothing here counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from flash_nb.errors import ResourceError
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk.app import ServedApp, function_app
from flash_nb.sdk.code import ObjectCode
from flash_nb.sdk.options import RemoteOptions

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class _StandIn:
    code: ObjectCode
    dependencies: tuple[str, ...]
    system_dependencies: tuple[str, ...]


_known: dict[str, _StandIn] = {}


def stand_in(
    image: str,
    dependencies: Sequence[str] | None = None,
    system_dependencies: Sequence[str] | None = None,
) -> Callable[[F], F]:
    """Let the decorated function stand for a container image on the local engine.

    For a queue-based resource it is a handler, as an image of Runpod's has one: it is called with
    ``{"id": …, "input": payload}`` and returns what JSON can hold. For a load-balanced resource it
    is called once, without arguments, and returns an ASGI application::

        @flash_nb.stand_in("me/upper:1")
        def handler(job):
            return {"text": job["input"]["text"].upper()}

    Args:
        image: The resource's image: its `imageName`, its template's, or its `templateId`.
        dependencies: Python packages that the function needs; what it imports is added.
        system_dependencies: Packages of the operating system.
    """

    def register(function: F) -> F:
        code = ObjectCode(function)
        _known[image] = _StandIn(code, tuple(dependencies or ()), tuple(system_dependencies or ()))
        return function

    return register


def app_of(resource: ServerlessResource) -> ServedApp:
    """Return what stands for a resource's image.

    Raises:
        ResourceError: Nobody said what does.
    """
    image = resource.image or resource.templateId or ""
    found = _known.get(image)
    if found is None:
        live = "LiveLoadBalancer" if resource.is_load_balanced else "LiveServerless"
        what = "returns its ASGI application" if resource.is_load_balanced else "handles a job"
        raise ResourceError(
            f"{resource.name} runs the image {image!r}, and the local engine runs no images.",
            hint=f"Say what stands for it here, with a function that {what}: "
            f'@flash_nb.stand_in("{image}"). Or declare a {live}, which needs no image.',
        )
    options = RemoteOptions(
        resource, dependencies=found.dependencies, system_dependencies=found.system_dependencies
    )
    return function_app("asgi" if resource.is_load_balanced else "handler", found.code, options)

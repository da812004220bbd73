"""A function that makes payloads: for resources whose image is the user's own.

Such an image has its own handler, so no code travels. The decorated function runs here and returns
the job's input, a dict; what the image's handler makes of it comes back.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Coroutine
from typing import Any

from flash_nb.backends.base import Endpoint
from flash_nb.errors import SerializationError
from flash_nb.jobs import FinishedEvent, JobOutput
from flash_nb.sdk.app import ServedApp
from flash_nb.sdk.arguments import plain
from flash_nb.sdk.call import called
from flash_nb.sdk.capture import MAX_PAYLOAD_BYTES
from flash_nb.sdk.job import Job
from flash_nb.sdk.jsonable import jsonable
from flash_nb.sdk.options import RemoteOptions
from flash_nb.sdk.session import current_session
from flash_nb.sdk.stand_in import app_of


class PayloadFunction:
    """A function that makes the payload of a job. Calling it gives a coroutine for the `JobOutput`.

    Args:
        function: Returns a dict that JSON can hold; may be ``async``.
        options: What the job runs on.
    """

    __flash_remote__ = True

    def __init__(self, function: Callable[..., Any], options: RemoteOptions) -> None:
        self.how = options
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, JobOutput]:
        """Make the payload and wait for its job; see `submit`."""
        return called(self._function.__name__, self._run(args, kwargs))

    def submit(self, *args: Any, **kwargs: Any) -> Job:
        """Make the payload and start its job.

        Raises:
            SerializationError: The function did not return a dict that JSON can hold, or is ``async``.
            ResourceError: The backend is the local engine, and nothing stands for the image there.
        """
        return self._send(self._made(args, kwargs))

    def ensure(self) -> Endpoint:
        """Return the endpoint of the resource, created or updated if need be; waits for it.

        Raises:
            BackendError: It cannot be had.
            ResourceError: The backend is the local engine, and nothing stands for the image there.
        """
        return current_session().endpoint(self.how.resource, self._app())

    def options(self, **given: Any) -> PayloadFunction:
        """Return this function with other options; see `RemoteOptions.changed`."""
        return PayloadFunction(self._function, self.how.changed(**given))

    def __repr__(self) -> str:
        return f"<payload function {self._function.__name__} of {self.how.resource.name}>"

    async def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobOutput:
        payload = self._made(args, kwargs)
        return await self._send(await payload if inspect.isawaitable(payload) else payload)

    def _made(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        named = {name: plain(value) for name, value in kwargs.items()}
        return self._function(*map(plain, args), **named)

    def _send(self, payload: Any) -> Job:
        name, how = self._function.__name__, self.how
        if not isinstance(payload, dict):
            if inspect.iscoroutine(payload):
                payload.close()
            raise SerializationError(
                f"{name} returned a {type(payload).__name__}: {how.resource.name} takes a dict as payload.",
                hint=f'For example: return {{"prompt": …}}. An async function is awaited: await {name}(…)',
            )
        app = self._app()
        sent = jsonable(f"the payload of {name}", payload)
        if (size := len(json.dumps(sent))) > MAX_PAYLOAD_BYTES:
            raise SerializationError(
                f"The payload of {name} has {size / 1e6:.1f} MB, and 10 MB is the limit."
            )
        return current_session().submit(
            how.resource,
            app=app,
            label=f"{name}()",
            request={"execution_type": "handler", "input": sent},
            decode=_decode,
            resolve=_resolve,
            buffers=(),
            requirements=app.requirements if app else (),
            system=app.system if app else (),
            timeout_s=how.timeout_s,
            ttl_s=how.ttl_s,
        )

    def _app(self) -> ServedApp | None:
        """Return what stands for the resource's image; None where the image itself answers."""
        return None if current_session().backend.runs_images else app_of(self.how.resource)


def _decode(event: FinishedEvent) -> Any:
    return json.loads(bytes(event.buffers[0]))


def _resolve(qualname: str) -> Any:
    raise AttributeError(f"a handler's errors bring no classes of the notebook: {qualname}")

"""A function that runs on a resource."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any

from flash_nb.backends.base import Endpoint
from flash_nb.jobs import Carried, JobOutput
from flash_nb.sdk.arguments import Arguments
from flash_nb.sdk.call import called, run_here, stream_here, submit
from flash_nb.sdk.code import Code
from flash_nb.sdk.job import Job
from flash_nb.sdk.options import RemoteOptions
from flash_nb.sdk.session import current_session
from flash_nb.sdk.stream import Stream, StreamHere


class Call:
    """A call of a function, ready to travel.

    Attributes:
        request: A `flash_nb.protocol.channel.FunctionRequest`.
        buffers: Its values.
        modules: What it needs of packages.
        carried: What it takes along of the notebook.
    """

    def __init__(self, code: Code, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        collector = code.collector()
        sent = Arguments(args, kwargs, collector, code.parameters, None)
        captured = collector.collect()
        captured.take_files(sent.modules)
        captured.refuse_files()
        self.carried = code.check(captured)
        self.request: dict[str, Any] = {
            "execution_type": "function",
            "function": code.name,
            "definitions": code.definitions,
            "namespace": captured.items,
            "namespace_buffers": len(captured.buffers),
            "args": sent.args,
            "kwargs": sent.kwargs,
        }
        self.buffers = [*captured.buffers, *sent.buffers]
        if captured.files.items:
            self.request["modules"] = captured.files.items
        self.modules = captured.files.outside


class RemoteFunction:
    """A function that runs on a resource. Calling it gives a coroutine for its `JobOutput`.

    Args:
        code: What travels.
        options: How it runs.
        function: The function itself, where it exists here.

    Attributes:
        how: How it runs.
    """

    __flash_remote__ = True

    def __init__(self, code: Code, options: RemoteOptions, function: Callable[..., Any] | None) -> None:
        self.how = options
        self._code = code
        self._function = function
        if function is not None:
            functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, JobOutput]:
        """Run the function on its resource; see `submit` for what can be refused."""
        return called(self._code.name, self._run(args, kwargs))

    def submit(self, *args: Any, **kwargs: Any) -> Job:
        """Start the function on its resource; return its job at once.

        Raises:
            SerializationError: An argument cannot be sent, or all of them are too large.
            UndefinedNameError: No call could end well: it reads names that exist nowhere.
        """
        call = Call(self._code, args, kwargs)
        return submit(
            self.how,
            label=f"{self._code.name}()",
            request=call.request,
            buffers=call.buffers,
            modules=call.modules,
            resolve=self._code.resolve,
            carried=call.carried,
        )

    def stream(self, *args: Any, **kwargs: Any) -> Stream | StreamHere:
        """Start a generator function; return its items, for ``async for`` or ``for``, as they come.

        The job is cancelled when the loop is left early; see `Stream`.
        """
        if self.how.local and self._function is not None:
            return stream_here(self._function, args, kwargs)
        return Stream(self.submit(*args, **kwargs), owned=True)

    def ensure(self) -> Endpoint:
        """Return the endpoint of the resource, created or updated if need be; waits for it.

        Raises:
            BackendError: It cannot be had.
        """
        return current_session().endpoint(self.how.resource)

    def options(self, **given: Any) -> RemoteFunction:
        """Return this function with other options; see `RemoteOptions.changed`.

        For example: ``await f.options(timeout=60, ttl=3600, webhook="https://…")(x)``
        """
        return RemoteFunction(self._code, self.how.changed(**given), self._function)

    def carries(self) -> Carried:
        """Say what a call would take along of the notebook; nothing is sent.

        Raises:
            SerializationError: A value that it reads cannot be sent.
            UndefinedNameError: It reads names that exist nowhere.
        """
        captured = self._code.collector().collect()
        captured.take_files()
        return self._code.check(captured)

    async def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobOutput:
        if self.how.local and self._function is not None:
            return await run_here(self._function, args, kwargs)
        return await self.submit(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<remote function {self._code.name} on {self.how.resource.name}>"

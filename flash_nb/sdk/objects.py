"""Objects on a worker: a class whose instances live there and keep their state."""

from __future__ import annotations

import functools
import secrets
import weakref
from collections.abc import Mapping
from typing import Any

from flash_nb.backends.base import Endpoint
from flash_nb.errors import did_you_mean
from flash_nb.jobs import Carried, JobOutput
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk.arguments import Arguments
from flash_nb.sdk.call import run_here, stream_here, submit
from flash_nb.sdk.code import Code
from flash_nb.sdk.job import Job
from flash_nb.sdk.options import RemoteOptions
from flash_nb.sdk.session import current_session
from flash_nb.sdk.stream import Stream, StreamHere


class RemoteClass:
    """A class whose objects live on a resource; arguments and attributes are those of `RemoteFunction`."""

    __flash_remote__ = True

    def __init__(self, code: Code, options: RemoteOptions, cls: type | None) -> None:
        self.how = options
        self._code = code
        self._class = cls
        if cls is not None:
            functools.update_wrapper(self, cls, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> RemoteObject:
        """Return an object that its worker makes with these arguments."""
        here = self._class(*args, **kwargs) if self._class is not None and self.how.local else None
        return RemoteObject(self._code, self.how, args, kwargs, here)

    def ensure(self) -> Endpoint:
        """Return the endpoint of the resource, created or updated if need be; waits for it.

        Raises:
            BackendError: It cannot be had.
        """
        return current_session().endpoint(self.how.resource)

    def options(self, **given: Any) -> RemoteClass:
        """Return this class with other options for its objects' calls; see `RemoteOptions.changed`."""
        return RemoteClass(self._code, self.how.changed(**given), self._class)

    def carries(self) -> Carried:
        """Say what a call would take along of the notebook; see `RemoteFunction.carries`."""
        captured = self._code.collector().collect()
        captured.take_files()
        return self._code.check(captured, "__init__")

    def __repr__(self) -> str:
        return f"<remote class {self._code.name} on {self.how.resource.name}>"


class RemoteObject:
    """An object on a worker: ``await obj.method(x)`` gives a `JobOutput`.

    It is made by its first method call. `close` ends it; so does leaving its ``with`` block, and the end
    of this process.
    """

    __flash_remote__ = True

    def __init__(
        self,
        code: Code,
        options: RemoteOptions,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        here: object | None,
    ) -> None:
        self._code = code
        self._options = options
        self._made_with = (args, kwargs)
        self._here = here
        self._id = f"{code.name}_{secrets.token_hex(4)}"
        self._finalizer = weakref.finalize(self, _release, options.resource, self._id)

    def close(self) -> None:
        """Release the object on its worker."""
        self._finalizer()

    def __enter__(self) -> RemoteObject:  # noqa: PYI034 - Self is newer than Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> RemoteObject:  # noqa: PYI034 - the same
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> RemoteMethod:
        if name not in self._code.methods:
            raise AttributeError(
                f"the remote class {self._code.name} has no method {name!r}"
                f"{did_you_mean(name, self._code.methods)}"
            )
        return RemoteMethod(self, name)

    async def __call__(self, *args: Any, **kwargs: Any) -> JobOutput:
        """Call the object."""
        return await RemoteMethod(self, "__call__")(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<remote object {self._id} on {self._options.resource.name}>"

    async def _call(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], how: RemoteOptions
    ) -> JobOutput:
        if self._here is not None:
            return await run_here(getattr(self._here, method), args, kwargs)
        return await self._submit(method, args, kwargs, how)

    def _stream(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], how: RemoteOptions
    ) -> Stream | StreamHere:
        if self._here is not None:
            return stream_here(getattr(self._here, method), args, kwargs)
        return Stream(self._submit(method, args, kwargs, how), owned=True)

    def _submit(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], how: RemoteOptions) -> Job:
        collector = self._code.collector()
        made = Arguments(*self._made_with, collector, self._code.parameters, "__init__")
        sent = Arguments(args, kwargs, collector, self._code.parameters, method)
        captured = collector.collect()
        captured.take_files({*made.modules, *sent.modules})
        captured.refuse_files()
        carried = self._code.check(captured, method)
        request = {
            "execution_type": "class",
            "class": self._code.name,
            "definitions": self._code.definitions,
            "instance": self._id,
            "method": method,
            "constructor": {"args": made.args, "kwargs": made.kwargs},
            "namespace": captured.items,
            "namespace_buffers": len(captured.buffers),
            "args": sent.args,
            "kwargs": sent.kwargs,
        }
        if captured.files.items:
            request["modules"] = captured.files.items
        return submit(
            how,
            label=f"{self._code.name}.{method}()",
            request=request,
            buffers=[*captured.buffers, *made.buffers, *sent.buffers],
            modules=captured.files.outside,
            resolve=self._code.resolve,
            instance=self._id,
            carried=carried,
        )


class RemoteMethod:
    """A method of a remote object; arguments and attributes are those of `RemoteFunction`."""

    __flash_remote__ = True

    def __init__(self, owner: RemoteObject, name: str, options: RemoteOptions | None = None) -> None:
        self.how = options or owner._options
        self._owner = owner
        self._name = name
        self.__name__ = f"{owner._code.name}.{name}"

    async def __call__(self, *args: Any, **kwargs: Any) -> JobOutput:
        """Run the method on the object's worker."""
        return await self._owner._call(self._name, args, kwargs, self.how)

    def submit(self, *args: Any, **kwargs: Any) -> Job:
        """Start the method; return its job at once."""
        return self._owner._submit(self._name, args, kwargs, self.how)

    def stream(self, *args: Any, **kwargs: Any) -> Stream | StreamHere:
        """Start a generator method; return its items, for ``async for`` or ``for``, as they come."""
        return self._owner._stream(self._name, args, kwargs, self.how)

    def options(self, **given: Any) -> RemoteMethod:
        """Return this method with other options; see `RemoteOptions.changed`."""
        return RemoteMethod(self._owner, self._name, self.how.changed(**given))


def _release(resource: ServerlessResource, instance: str) -> None:
    current_session().release(resource, instance)

"""Objects on a worker: a class whose instances live there and keep their state."""

from __future__ import annotations

import functools
import secrets
import weakref
from collections.abc import Mapping
from typing import Any

from flash_nb.errors import did_you_mean
from flash_nb.jobs import JobOutput
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk.arguments import Arguments
from flash_nb.sdk.call import run_here, submit
from flash_nb.sdk.code import Code
from flash_nb.sdk.job import Job
from flash_nb.sdk.options import RemoteOptions
from flash_nb.sdk.session import current_session


class RemoteClass:
    """A class whose objects live on a resource; the arguments are those of `RemoteFunction`."""

    __flash_remote__ = True

    def __init__(self, code: Code, options: RemoteOptions, cls: type | None) -> None:
        self.options = options
        self._code = code
        self._class = cls
        if cls is not None:
            functools.update_wrapper(self, cls, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> RemoteObject:
        """Return an object that its worker makes with these arguments."""
        here = self._class(*args, **kwargs) if self._class is not None and self.options.local else None
        return RemoteObject(self._code, self.options, args, kwargs, here)

    def __repr__(self) -> str:
        return f"<remote class {self._code.name} on {self.options.resource.name}>"


class RemoteObject:
    """An object on a worker: ``await obj.method(x)`` gives a `JobOutput`.

    It is made by its first method call. `close` ends it; so does the end of this process.
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

    async def _call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobOutput:
        if self._here is not None:
            return await run_here(getattr(self._here, method), args, kwargs)
        return await self._submit(method, args, kwargs)

    def _submit(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        collector = self._code.collector()
        made = Arguments(*self._made_with, collector, self._code.parameters, "__init__")
        sent = Arguments(args, kwargs, collector, self._code.parameters, method)
        captured = collector.collect()
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
        return submit(
            self._options,
            label=f"{self._code.name}.{method}()",
            request=request,
            buffers=[*captured.buffers, *made.buffers, *sent.buffers],
            modules=captured.modules | made.modules | sent.modules,
            resolve=self._code.resolve,
            instance=self._id,
        )


class RemoteMethod:
    """A method of a remote object."""

    def __init__(self, owner: RemoteObject, name: str) -> None:
        self._owner = owner
        self._name = name

    async def __call__(self, *args: Any, **kwargs: Any) -> JobOutput:
        """Run the method on the object's worker."""
        return await self._owner._call(self._name, args, kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Job:
        """Start the method; return its job at once."""
        return self._owner._submit(self._name, args, kwargs)


def _release(resource: ServerlessResource, instance: str) -> None:
    current_session().release(resource, instance)

"""The channel: frames between kernels, the engine and its workers.

Every peer speaks first, with a *hello* that holds the token; the engine closes the stream of
anybody else. Ids of requests and jobs are made by the client, so that sending again after a
reconnection is harmless. Kernel to engine::

    client      hello: token, client, instances (remote objects of this kernel)
    call        call, method, params          answered by one ``reply``
    submit      job, endpoint, needs, sync,   buffers: the request, its values; sync: tell when stored;
                timeout, ttl, webhook,        accelerate: false downloads one package at a time
                accelerate, allow_apt
    watch       job, seen                     replays its events from that number on, then follows it
    cancel      job
    release     instance
    received    job                           the result is mapped: its spill file may go

Engine to kernel::

    welcome     version, spill_folders
    reply       call, result | error
    event       job, event, number            status, phase, stream, display, result, clear, item, stored
    done        job, snapshot                 buffers: the result, its values; the last frame of a job
    no_endpoint job                           its endpoint was deleted: ensure it, and submit the job again
    stopping    …                             somebody ends the engine: do not start it again by yourself

Worker to engine: ``worker`` (hello), ``event``, ``done``, ``released``, ``returned``; engine to
worker: ``job``, ``cancel``, ``recall``, ``drop``, ``stop``.

After a reconnection a kernel submits its unfinished jobs again, with ``seen``: the engine takes those
that it does not know, and goes on telling about the others. A worker's hello says which job it runs,
and of which ones it will send the results again.

The worker numbers the events of each attempt from 0. An *item* is what a generator yielded:
``{"type": "item", "index": 0, "value": BASE64}``, a pickle without buffers beside it. Its result holds the
list of all items, and says how many there are: ``{"ok": true, "items": 3, "counts": [1]}``.

A job that did not complete can be run again (the call ``retry``: job_id, client_id), then `watch` follows it.
Its former events are deleted, and the numbers of the new ones are higher: an engine's number of an event is
the worker's, plus a billion for each attempt there ever was. To workers the new run has an id of its own,
``ID#ATTEMPTS``: what one still says about a former run is not about this one.

A request and a result are JSON in the first buffer: the engine passes them on without reading them, unless
the result goes to a webhook too. Such a request says ``"in_band": true``: its value comes back as one
pickle, and in the result's ``json_result`` as well if it is plain JSON. What is JSON and nothing else says
``"json": true``, and an item's ``json`` is the item.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from flash_nb.worker.modules import ModuleItem
from flash_nb.worker.namespace import Item

VERSION = 1


class JobNeeds(TypedDict):
    """What a job asks of its worker; `instance` is the id of a remote object."""

    python: str
    requirements: list[str]
    system: list[str]
    instance: str | None


class Files(TypedDict, total=False):
    """Modules that come as source, for code that imports some."""

    modules: list[ModuleItem]


class CellRequest(Files):
    """A cell. Its buffers: the encoded values of `namespace`."""

    execution_type: Literal["cell"]
    source: str
    filename: str
    cell: str
    namespace: list[Item]
    inputs: list[str]
    outputs: list[str]
    definitions: list[str]
    show_value: bool


class ItemRequest(CellRequest):
    """A cell for one item of a map. Its buffers: the values of `namespace`, then those of `item`.

    `item` is filled in after `namespace`. The value of the last expression is not shown: it is one of the
    outputs, under the name that `value` says. What the cell changes in place is named, and not sent back.
    """

    item: list[Item]
    namespace_buffers: int
    value: str


class FunctionRequest(Files):
    """A function call. Its buffers: the namespace's values, then each argument's.

    `args` and `kwargs` count the buffers of each argument.
    """

    execution_type: Literal["function"]
    function: str
    namespace: list[Item]
    namespace_buffers: int
    args: list[int]
    kwargs: dict[str, int]


class Constructor(TypedDict):
    """How many buffers each argument of a constructor takes."""

    args: list[int]
    kwargs: dict[str, int]


class MethodRequest(Files):
    """A method call on a remote object, which is made first if its worker does not have it.

    Its buffers: the namespace's values, the constructor's arguments, the method's.
    """

    execution_type: Literal["class"]
    instance: str
    method: str
    constructor: Constructor
    namespace: list[Item]
    namespace_buffers: int
    args: list[int]
    kwargs: dict[str, int]


class HandlerExtra(TypedDict, total=False):
    """Further keys of the job that the handler sees, say ``s3Config``."""

    extra: dict[str, Any]


class HandlerRequest(HandlerExtra):
    """A payload for the handler that the endpoint's app names. No buffers; the result is JSON."""

    execution_type: Literal["handler"]
    input: Any


class LiveRequest(TypedDict):
    """An official client's *FunctionRequest*. No buffers; the result is its *FunctionResponse*, as JSON."""

    execution_type: Literal["live"]
    input: dict[str, Any]
    instance: str | None


Request = CellRequest | ItemRequest | FunctionRequest | MethodRequest | HandlerRequest | LiveRequest


class Snapshot(TypedDict):
    """A job as the engine knows it; times in POSIX seconds, durations in seconds."""

    id: str
    endpoint: str
    status: str
    worker: str
    attempts: int
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    queued_s: float
    cold_s: float
    run_s: float
    error: str
    error_type: str

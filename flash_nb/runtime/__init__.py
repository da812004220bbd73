"""The runtime of an artifact: what deployed code finds where flash_nb is not installed.

An island, as `flash_nb.worker` is: it is copied into each artifact as ``flash_runtime`` and imports only the
standard library and cloudpickle, FastAPI where an endpoint serves HTTP, and its own modules, relatively.
Beside it an artifact has two packages of a few lines, ``flash_nb`` and ``runpod_flash``, so that the user's
``from runpod_flash import remote, LiveServerless`` means the names that this package declares::

    handler_gpu_worker.py ── factory ── imports the user's modules, whose decorators are
                                │        declare ── production ── client ──▶ other endpoints
                                │                        │
                              request               registry: flash_manifest.json

    factory       makes the handler of a queue, or the application of a load-balanced endpoint
    request       what a job asks for: JSON, or Flash's FunctionRequest; and the answer
    declare       the public names: `remote`, the resources, what cannot exist here
    production    what a decorated function or class is: a call in place, or of another endpoint
    route         the same of a function behind a route
    outcome       what a call came to
    client        HTTP to other endpoints
    registry      which endpoint a resource is
    plain         values as JSON has them

`errors`, `jobs`, `version`, `raised`, `routes` and `serving` are flash_nb's own modules of these names: here
they are imported, into an artifact they are copied. So an error, a `JobOutput` and the rules of routes are
the same everywhere.
"""

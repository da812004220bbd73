"""The island: code that runs in another interpreter, on a worker.

It imports only the standard library and cloudpickle, and its own modules by relative import, so
that this folder can be copied into any worker environment and started there with
``python -m flash_worker``. The engine and the kernel import `frames` and `codec` from here: both
ends of every stream share one implementation.

Modules: `frames` (what travels on a stream), `codec` (values to bytes and back), `namespace` (the
notebook's names rebuilt for one job), `modules` (files that came with a job, imported from their
source), `execution` (running a cell, a function or a method), `streams` (stdout and stderr as events),
`display` (rich output as mimebundles), `mpl_backend` (figures), `channel` (the stream to the engine,
with reconnection), `__main__` (the worker process);
`app` (what a worker serves over HTTP), `serving` and `routes` (functions behind routes), `asgi` and
`lifespan` (requests without a port), `handler` (jobs that bring no code), `artifact` (the folder of a
built project), `raised` (what an exception says);
`guest`, `resident` and `progress`: the island as a guest on a worker that is not ours.
"""

"""The engine: a local Runpod in a process of its own, started on demand, shared by all kernels.

``python -m flash_nb.engine`` runs it. Its logic is pure: what it knows (`state`, `balance`), what
happens and what it does about it (`events`), and the `machine` that decides. Around it are the store
(`store`, SQLite), worker processes (`processes`) and their environments (`environments`,
`hardware`), and the doors through which peers come: `channel` for our kernels and workers, `http`
for everybody else (`exchange` is one of its requests; `takers` are workers that others started, and
`external` is what the machine knows of them). The `server` performs the machine's actions
and feeds it events; `control` answers calls, `webhook` tells others of finished jobs.

Projects are deployed to it as to Runpod: `apps` keeps apps with their environments and builds,
`artifacts` their files, and `deployments` has the endpoints of an environment serve its active build
(`serving` says how). Their doors are `graphql` and signed addresses.

What survives: jobs and results are in SQLite and in spill files, so they outlive the engine. Workers
outlive it too; they find the next engine on the same address. A job that an engine accepted in its
last few milliseconds is sent again by the kernel that waits for it. HTTP requests do not survive:
their clients are told, and nothing is sent twice.
"""

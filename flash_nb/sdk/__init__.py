"""What a user calls: `remote` for functions and classes, job handles, the session.

Modules: `remote` (the decorator), `job` (one run's handle), `session` (settings, loop and backend
of this process), `capture` (what a piece of code needs of the notebook, as a namespace that
travels), `failures` (a worker's exception as a real one), `outputs` (what a job prints and shows),
`cache` (results that are kept), `fingerprint` (what stands for a value's content).
"""

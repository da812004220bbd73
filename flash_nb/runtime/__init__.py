"""The runtime of an artifact: what deployed code finds where flash_nb is not installed.

An island, as `flash_nb.worker` is: it is copied into each artifact as ``flash_runtime`` and imports only the
standard library and cloudpickle, FastAPI where an endpoint serves HTTP, and its own modules, relatively.
Beside it an artifact has two packages of one line, ``flash_nb`` and ``runpod_flash``, so that the user's
``from runpod_flash import remote, LiveServerless`` means the names that this package declares.
"""

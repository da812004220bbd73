"""The Runpod backend: a client of Runpod's own HTTP interfaces.

Modules: `backend` (the seam), `job` (one job, from submission to its end), `provision` (endpoints and
volumes by name), `client` (requests, and which of them may be repeated), `backoff` (when to try again),
`inventory` (what was created, as JSON).

**What may be sent twice.** A request that asks is repeated until it is answered: a dropped poll, a 429
or a 503 says nothing about a job. A request that starts or creates something is repeated only if it
surely was not taken: no connection was made, or Runpod refused it with 429. If its answer is lost:

* *an endpoint that was to be created* is looked for by name, and created again only if it is not there;
* *one that was to be updated* is updated again: the same settings twice are the same settings;
* *a job* cannot be looked for. Runpod chooses its id and names it only in the answer, and no
  documented call lists jobs. An id of ours inside its input would be seen by the handlers of other
  people's images, and our requests would not be the official ones any more. So the wait ends with an
  error that says what is unknown, and what the endpoint's queue looks like.

**Two ids.** A job's id is made by the kernel before anything is sent, so that it has a handle at once;
Runpod's own comes with its answer. The journal of the inventory remembers both.
"""

from __future__ import annotations

from flash_nb.backends.runpod.backend import RunpodBackend

__all__ = ["RunpodBackend"]

"""`flash_nb.worker.raised`; an artifact has that very module here: see `flash_nb.project.handlers`."""

from flash_nb.worker.raised import *  # noqa: F403

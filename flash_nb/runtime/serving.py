"""`flash_nb.worker.serving`; an artifact has that very module here: see `flash_nb.project.handlers`."""

from flash_nb.worker.serving import *  # noqa: F403

"""`flash_nb.worker.routes`; an artifact has that very module here: see `flash_nb.project.handlers`."""

from flash_nb.worker.routes import *  # noqa: F403

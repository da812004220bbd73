"""`flash_nb.jobs`; an artifact has that very module here: see `flash_nb.project.handlers`."""

from flash_nb.jobs import *  # noqa: F403

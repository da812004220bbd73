"""`flash_nb.errors`; an artifact has that very module here: see `flash_nb.project.handlers`."""

from flash_nb.errors import *  # noqa: F403

"""`flash_nb.version`; an artifact has that very module here: see `flash_nb.project.handlers`."""

from flash_nb.version import __version__ as __version__  # noqa: PLC0414 - exported

"""The ``flash`` command.

Modules: `app` (the command tree), and one for each command: `engine` (``flash engine …``), `demo`,
`init`, `build`, `check`, `config`, `login`, `cache`, `endpoints` (with ``flash down``).
"""

from __future__ import annotations


def main() -> None:
    """Run the command; an error of ours is shown as its sentence, and ends with status 1."""
    from flash_nb.cli.app import run

    run()

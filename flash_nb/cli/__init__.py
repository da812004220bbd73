"""The ``flash`` command.

Modules: `app` (the command tree), `engine` (``flash engine …``), `demo` (``flash demo``),
`check` (``flash check``), `login` (``flash login``), `config` (``flash config``), `endpoints`
(``flash endpoints``, ``flash down``).
"""

from __future__ import annotations


def main() -> None:
    """Run the command; an error of ours is shown as its sentence, and ends with status 1."""
    from flash_nb.cli.app import run

    run()

"""``python -m flash_nb``: the ``flash`` command, wherever another package owns that name."""

from flash_nb.cli import main

if __name__ == "__main__":
    main()

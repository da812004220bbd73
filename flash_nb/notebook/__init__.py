"""The notebook face: magics, commands, records, and what a cell's outcome does to the user's namespace.

=================== ===========================================================================
magics              parse the line, call, return; `options` are the lines' parsers,
                    `magic_line` lets comments stand above them
notebook            what the magics share: its cells, its default resource, its jobs
a cell              `cell_job` from text to outcome, `preflight` before, `namespace` and
                    `definitions` in and out, `pending` names, its `budget`
its record          `record` (pure rendering) and `display` (where it is shown)
from before         `cell_cache`
over many items     `clause` (``x in xs``), `cell_map`, `cell_run`, `item_output`
%flash              `commands`; each in a module of its own: `jobs`, `cost`, `check`, `choosing`
what cells run on   `default`, `selection` (values and rules), `choices` (how they look), `picker`
asyncio_run         ``asyncio.run`` at the top level of a cell
=================== ===========================================================================
"""

"""The notebook face: magics, commands, records, and what a cell's outcome does to the user's namespace.

- ``magics``: parse the line, call, return. `options` are the lines' parsers, `magic_line` lets comments
  stand above them, `notebook` is what the magics share: its cells, its default resource, its jobs.
- A cell: `cell` from text to what may be sent, its `preflight`, its job (`cell_job`), `namespace` and
  `definitions` in and out, `pending` names, its `budget`, `cell_cache` for its result from before.
- Its record: `record` (pure rendering) and `display` (where it is shown).
- A cell over many items: `clause` (``x in xs``), `cell_map`, `cell_run`, `item_output`.
- ``%flash``: `commands`; those of the notebook in modules of their own: `jobs`, `cost`, `check`, `build`,
  `choosing`.
- What cells run on: `default`, `selection` (values and rules), `choices` (how they look), `picker` (widgets).
- Completion: `grammar` (what a parser understands), `completion` (what may stand at the cursor, pure),
  `vocabulary` (the words of values), `matcher` (IPython's).
- `asyncio_run`: ``asyncio.run`` at the top level of a cell. `nested`: loops inside the kernel's own.
"""

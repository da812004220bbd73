"""The notebook face: magics, job records, and what a cell's outcome does to the user's namespace.

Modules: `magics` (parse, call, return), `options` (the magic's options), `namespace` (names out of
the notebook and back), `cell_job` (one remote cell, from text to outcome), `record` (the job record,
pure rendering), `commands` (``%flash``), `asyncio_run` (``asyncio.run`` at the top level of a cell),
`magic_line` (comments above ``%%flash_remote``); for completion `grammar` (what a parser understands),
`completion` (what may stand at the cursor, pure), `vocabulary` (the words of values), `matcher` (IPython's).
"""

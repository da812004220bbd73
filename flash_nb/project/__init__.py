"""A Flash project: a folder of Python files that becomes endpoints. It is not imported, but to serve it.

::

    notebook ── export ──▶ project ── scan ──▶ Project ── manifest ──▶ flash_manifest.json
                                                 │
                                                 ├── handlers ──▶ handler_<resource>.py, flash_runtime/
                                                 └── install, archive ──▶ .flash/artifact.tar.gz
                                                            │
                                                         preview

    declared      what a scan finds: `Project`, the groups of functions of one resource each
    sources       which files belong into an artifact: ignore rules, and what is never taken
    scan/         Python files -> `Project`, by their syntax alone
    manifest      `Project` -> the JSON that says which endpoint has which function
    handlers      `Project` -> the files that workers start from, and the runtime that they share
    builder/      all of that, the packages and the archive, as one generator of steps
    preview/      an artifact, run on a private engine behind one address
    serve/        what ``flash run`` does: the project's application, reloaded on change
    export/       a notebook -> the files of a project
    skeleton/     what ``flash init`` writes
    address       where something is served, and the next free port

The design drew this package beside `sdk`; it lies above it, because an export reads cells as the session
does (`flash_nb.sdk.scope`, `flash_nb.sdk.dependencies`) and a preview runs endpoints of a backend.

Two designs for finding functions were weighed. Importing the modules and reading the decorated objects (as
the official SDK does since 1.11) sees everything that Python sees, but runs the user's code to build it: an
import that needs a GPU, a key or a package that is not here breaks the build. Reading the syntax runs
nothing, works on any machine and for any Python, and can say the line; what it cannot know (a setting that
is computed) is refused there, with the fix. The latter it is.
"""

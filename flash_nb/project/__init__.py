"""A Flash project: a folder of Python files that becomes endpoints. It is not imported, but to serve it.

::

    notebook ── export ──▶ project ── scan ──▶ Project ── manifest ──▶ flash_manifest.json
                                                 │
                                                 ├── handlers ──▶ handler_<resource>.py, flash_runtime/
                                                 └── install, archive ──▶ .flash/artifact.tar.gz
                                                            │
                                                         preview

    declared      what a scan finds: `Project`, the groups of functions of one resource each
    scan          Python files -> `Project`, by their syntax alone. Its parts:
    value         what a name stands for
    evaluation    an expression -> its value
    construction  the arguments of a call -> the resource that it makes
    module        a file, followed statement by statement as an import runs it
    nested        uses of `remote` that only running would show
    reading       which names some code reads
    calls         which remote functions some code may call
    imports       what the modules that run on workers import
    manifest      `Project` -> the JSON that says which endpoint has which function
    handlers      `Project` -> the files that workers start from, and the runtime that they share
    sources       which files belong into an artifact: ignore rules, and what is never taken
    requirements  what has to be installed, and who asks for it
    install       requirements -> Linux wheels, unpacked
    provided      whether everything that is imported will be there
    size          what makes an artifact too large, and what to leave out
    archive       a folder -> a tar.gz, the same bytes for the same content
    build         all of that as one generator of steps
    step          a step, and going through them
    preview       an artifact, run on a private engine behind one address
    gateway       that address
    interpreter   the Python that runs it
    skeleton      what ``flash init`` writes
    serve         what ``flash run`` does, in two processes: the one that serves is replaced on change
    application   the project's FastAPI application with a route for each function
    address       where it is served, and the next free port
    endpoints     made before, and deleted after it if they were made for it
    files         which modules are looked at for changes
    trace         a traceback from the project's first line on
    export        a notebook -> the files of a project

The design drew this package beside `sdk`; it lies above it, because an export reads cells as the session
does (`flash_nb.sdk.scope`, `flash_nb.sdk.dependencies`) and a preview runs endpoints of a backend.

Two designs for finding functions were weighed. Importing the modules and reading the decorated objects (as
the official SDK does since 1.11) sees everything that Python sees, but runs the user's code to build it: an
import that needs a GPU, a key or a package that is not here breaks the build. Reading the syntax runs
nothing, works on any machine and for any Python, and can say the line; what it cannot know (a setting that
is computed) is refused there, with the fix. The latter it is.
"""

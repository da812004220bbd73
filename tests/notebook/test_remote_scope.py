"""What a remote function may read from outside, what travels with it, and what is said of it."""

from __future__ import annotations

import textwrap
from pathlib import Path

from kernels import Kernel, run

SETUP = """
from flash_nb import CpuLiveServerless, remote
config = CpuLiveServerless(name="scoped", workersMax=1, idleTimeout=60)
"""


def test_module_level_names_travel_and_the_record_says_so(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        "import math\nimport os.path as osp\nfrom statistics import mean\nLIMIT = 3\nBIG = bytes(1_500_000)",
    )
    run(kernel, "def helper(x): return math.floor(x) + LIMIT\ndouble = lambda x: 2 * x")
    run(
        kernel,
        """
        @remote(resource_config=config)
        def f(x):
            return double(helper(x)), mean([1, 3]), len(BIG), osp.sep
        @remote(resource_config=config)
        def alone(x):
            return x
        """,
    )
    told = kernel.value("(lambda c: (c.modules, c.definitions, sorted(v[0] for v in c.values)))(f.carries())")
    assert told == (("math", "posixpath as osp"), ("helper",), ["BIG", "LIMIT", "double", "mean"])
    run(kernel, "job = f.submit(1.5)\nout = await job")
    assert kernel.value("out.output") == (8, 2, 1_500_000, "/")
    assert kernel.value("job.carried == out.carried == f.carries()") is True
    text = kernel.value("str(out.carried)")
    first = "modules math, posixpath as osp · source of helper · values BIG (1.5 MB), "
    assert text.splitlines()[0].startswith(first)
    assert "BIG is large, and sent with every call: pass a URL" in text
    assert "double travels as bytecode" in text
    html = kernel.run("out").ok().result["text/html"]
    assert ">carried</th>" in html
    assert "source of helper" in html
    reply = kernel.run("out = await alone(1)\nout").ok()
    assert (reply.stdout, reply.stderr) == ("", "")
    assert ">carried</th>" not in reply.result["text/html"]
    assert kernel.value("(bool(out.carried), bool(alone.carries()))") == (False, False)


def test_strict_is_the_documented_rule(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(kernel, "import math\nLIMIT = 3\ndef helper(x): return x")
    run(kernel, "from collections.abc import Sized")  # only needed here
    reply = kernel.run(
        """
        @remote(resource_config=config, strict=True)
        async def bad(data: Sized = None) -> "Nothing":
            x = helper(data)
            return math.sqrt(x) + LIMIT
        """
    )
    assert reply.ename == "ScopeError"
    place, *lines = reply.evalue.splitlines()
    assert place.startswith("bad() reads names from outside (Cell In[")
    helper = "define it inside or pass its result as an argument"
    assert lines[:3] == [
        f"  line 3: reads helper, a function defined outside: {helper}",
        "  line 4: reads LIMIT, a global value: pass it as an argument",
        "  line 4: reads math, a module imported outside: import it inside: import math",
    ]
    assert kernel.value("'bad' in globals()") is False
    run(
        kernel,
        """
        @remote(resource_config=config, strict=True)
        async def good(n):
            import math
            return math.sqrt(n) if n < 100 else good
        out = await good(16)
        """,
    )
    assert kernel.value("out.output, bool(out.carried)") == (4.0, False)
    reply = kernel.run(
        "@remote(resource_config=config, strict=True)\nclass A:\n    def f(self): return LIMIT"
    )
    assert reply.ename == "ScopeError"
    assert reply.evalue.startswith("A reads names from outside")


def test_a_missing_name_is_found_before_anything_is_sent(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(kernel, "@remote(resource_config=config)\ndef f(total):\n    x = 1\n    return totl + x\nbefore = f")
    reply = kernel.run("await f(1)")
    assert reply.ename == "UndefinedNameError"
    assert "line 4: totl; did you mean 'total'?)." in reply.evalue
    assert reply.evalue.startswith("f() reads a name that is not defined (Cell In[")
    assert reply.evalue.endswith("Nothing was sent.")
    assert kernel.run("f.submit(1)").ename == "UndefinedNameError"
    assert kernel.run("f.carries()").ename == "UndefinedNameError"
    run(kernel, "totl = 41")  # what a cell further down defines is found
    assert run(kernel, "(await f(1)).output") == "42"
    run(kernel, "del totl")
    assert kernel.run("await f(1)").ename == "UndefinedNameError"


def test_methods_and_cells_that_only_define(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config)
        class A:
            def ok(self): return 1
            def bad(self): return nowhere
        a = A()
        """,
    )
    assert run(kernel, "(await a.ok()).output") == "1"
    reply = kernel.run("await a.bad()")
    assert reply.ename == "UndefinedNameError"
    assert reply.evalue.startswith("A.bad() reads a name that is not defined")
    run(kernel, "a.close()")
    kernel.remote("import math\n\ndef fine(): return math.pi\n\ndef bad(x):\n    return nowhere + x").ok()
    assert run(kernel, "(await fine()).output") == "3.141592653589793"
    reply = kernel.run("await bad(1)")
    assert reply.ename == "UndefinedNameError"
    assert "line 7: nowhere" in reply.evalue


WORKS = """
    def branch(x):
        if x: return nowhere
        return "branch"
    def guarded():
        try: profile
        except NameError: return "guarded"
    def own_global():
        global made
        made = "own_global"
        return made
    def recursive(n=2):
        return recursive(n - 1) if n else "recursive"
    def below():
        return below_helper()
    def behind():
        globals()["hidden"] = "behind"
        return hidden
    def comprehension():
        return [word for word in ["comprehension"] if (found := word)][0]
    def annotated(x: int = 0) -> "Nothing":
        y: "Nothing" = "annotated"
        return y
    def names():
        return __name__ and "names"
    """


def test_what_works_in_python_works(kernel: Kernel) -> None:
    run(kernel, SETUP)
    cells = textwrap.dedent(WORKS).replace("\ndef ", "\n@remote(resource_config=config)\ndef ")
    run(kernel, cells)
    run(kernel, "def below_helper():\n    return 'below'")
    for name in (
        "guarded",
        "own_global",
        "recursive",
        "below",
        "behind",
        "comprehension",
        "annotated",
        "names",
    ):
        assert kernel.run(f"(await {name}()).unwrap()").ok().result["text/plain"] == f"'{name}'"
    assert run(kernel, "out = await branch(0)\nout.output") == "'branch'"
    assert "branch reads nowhere (line 3), which is not defined" in kernel.value("str(out.carried)")
    assert kernel.run("await branch(1)\n(await branch(1)).unwrap()").ename == "NameError"


def test_functions_inside_functions(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        async def get(made):
            with made:
                return (await made.get()).output

        async def main():
            factor = 2
            @remote(resource_config=config)
            def f(x):
                return helper(x) * factor
            @remote(resource_config=config)
            class A:
                def get(self): return factor
            @remote(resource_config=config)
            def early():
                return late
            refused = None
            try:
                await early()
            except Exception as error:
                refused = type(error).__name__
            helper = lambda x: x + 1  # bound below, as Python allows
            late = 1
            first = (await f(1)).output
            factor = 3
            return first, (await f(1)).output, await get(A()), refused
        """,
    )
    assert run(kernel, "await main()") == "(4, 6, 3, 'UndefinedNameError')"


def test_a_file_beside_the_notebook(kernel: Kernel) -> None:
    """Its own functions travel as source with what they need of their file."""
    folder = Path(kernel.value("__import__('os').getcwd()"))
    (folder / "beside.py").write_text(
        textwrap.dedent(
            """
            import math
            from flash_nb import CpuLiveServerless, remote

            LIMIT = 10

            class Pair:
                def __init__(self, a): self.a = a

            def helper(x):
                return Pair(math.floor(x) + LIMIT)

            @remote(resource_config=CpuLiveServerless(name="beside", workersMax=1))
            def f(x):
                return helper(x).a

            @remote(resource_config=CpuLiveServerless(name="beside", workersMax=1))
            def g(x):
                return helpr(x)
            """
        )
    )
    run(kernel, "import beside")
    assert run(kernel, "(await beside.f(1.5)).output") == "11"
    assert kernel.value("sorted(beside.f.carries().definitions)") == ["Pair", "helper"]
    reply = kernel.run("await beside.g(1)")
    assert reply.ename == "UndefinedNameError"
    assert "(beside.py, line 19: helpr; did you mean 'helper'?)" in reply.evalue

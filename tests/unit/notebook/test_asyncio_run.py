"""``asyncio.run`` at the top level of a cell becomes ``await``, and nothing else moves."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.notebook.asyncio_run import rewrite


def rewritten(source: str) -> str:
    return "".join(rewrite(source.splitlines(keepends=True)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("asyncio.run(main())\n", "(await      main())\n"),
        ("x = asyncio.run(f(1)).output\n", "x = (await      f(1)).output\n"),
        ("if ok:\n    asyncio.run(main())\n", "if ok:\n    (await      main())\n"),
        ("asyncio.run(\n    main()\n)\n", "(await      \n    main()\n)\n"),
        ("asyncio.run(\n    main(),\n)\n", "(await      \n    main() \n)\n"),
        ("asyncio.run(f(1, 2) , )\n", "(await      f(1, 2)   )\n"),
        ("y = 'ä'; asyncio.run(main())\n", "y = 'ä'; (await      main())\n"),
        ("asyncio.run(main()), 1\n", "(await      main()), 1\n"),
        ("asyncio . run (main())\n", "(await         main())\n"),
    ],
)
def test_rewritten(before, after):
    assert rewritten(before) == after


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    return asyncio.run(main())\n",
        "asyncio.run(main(), debug=True)\n",
        "asyncio.run()\n",
        "asyncio.run(*jobs)\n",
        "subprocess.run(['asyncio'])\n",
        "class A:\n    x = asyncio.run(main())\n",
        "f = lambda: asyncio.run(main())\n",
        "'asyncio.run(main())'\n",
        "asyncio.run(main(\n",
    ],
)
def test_left_alone(source):
    assert rewritten(source) == source


@given(st.text(alphabet="asyncio.run() =\n'x", max_size=60))
def test_lines_keep_their_number_and_length(source):
    lines = source.splitlines(keepends=True)
    result = rewrite(list(lines))
    assert [len(line) for line in result] == [len(line) for line in lines]


def test_the_result_is_python():
    source = "import asyncio\nresults = [asyncio.run(f(i)) for i in range(3)]\n"
    compile(rewritten(source), "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

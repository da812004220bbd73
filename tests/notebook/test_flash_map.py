"""``%%flash_map``: a cell for each item; lists in order, failures retried alone, errors with their lines."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path

import pytest
from kernels import Display, Engine, Kernel, Reply, wait_for

LIMIT_S = 2  # promised is 0.5 s; the rest is for a busy machine


@pytest.fixture(scope="module", autouse=True)
def setup(kernel: Kernel) -> None:
    kernel.run(
        "import os, time\nfrom flash_nb import CpuLiveServerless\n"
        "two = CpuLiveServerless(name='mapped', workersMax=2, idleTimeout=60)"
    ).ok()


def start(kernel: Kernel, line: str, body: str) -> Reply:
    return kernel.start(f"%%flash_map {line} -r two\n{textwrap.dedent(body).strip()}")


def run(kernel: Kernel, line: str, body: str) -> Reply:
    return kernel.wait(start(kernel, line, body))


def number(kernel: Kernel) -> int:
    """Return the number that the next cell will have."""
    return int(kernel.value("get_ipython().execution_count"))


def bar(reply: Reply) -> Display:
    """Return the one progress below a cell."""
    shown = [display for display in reply.displays if (display.display_id or "").startswith("map-")]
    assert len(shown) == 1
    return shown[0]


def test_names_become_lists_in_order(kernel: Kernel) -> None:
    kernel.run("x = 'before'; by = 3; xs = list(range(50))").ok()
    reply = run(kernel, "x in xs", "import time\ntime.sleep((x % 7) / 100)\ny = x * by\nz = -y\n(x, y)").ok()
    assert kernel.value("y") == [3 * n for n in range(50)]
    assert kernel.value("z") == [-3 * n for n in range(50)]
    assert kernel.value("_") == [(n, 3 * n) for n in range(50)]
    assert kernel.value("x, time.__name__") == ("before", "time")
    assert reply.result is not None
    assert reply.result["text/plain"].startswith("[(0, 0),\n (1, 3),")
    assert bar(reply).text.startswith("✓ completed x in xs on mapped · 50/50 · ")
    assert (reply.stdout, reply.stderr, reply.record) == ("", "", "")


ITEMS = {
    "range": ("x in range(3)", "v = x", [0, 1, 2]),
    "pairs": ("a, b in [(1, 2), (3, 4)]", "v = a * b", [2, 12]),
    "nested": ("n, (a, *rest) in enumerate(['uv', 'x'])", "v = n, a, rest", [(0, "u", ["v"]), (1, "x", [])]),
    "generator": ("x in (n * n for n in range(3))", "v = x + 1", [1, 2, 5]),
    "dict": ("key in {'a': 1, 'b': 2}", "v = key", ["a", "b"]),
    "nothing": ("x in []", "v = x", []),
    "rebound": ("x in range(3)", "x = x + 1\nv = x", [1, 2, 3]),
    "not read": ("_ in range(2)", "v = 7", [7, 7]),
    "bound by some": ("x in range(3)", "if x == 1: v = x", [None, 1, None]),
    "modules": ("m in [os, time]", "v = m.__name__", ["os", "time"]),
}  # fmt: skip


@pytest.mark.parametrize("name", ITEMS)
def test_items(kernel: Kernel, name: str) -> None:
    line, body, values = ITEMS[name]
    kernel.run("v = 'old'").ok()
    before = set(kernel.value("[*globals()]"))
    run(kernel, line, body).ok()
    assert kernel.value("v") == values
    assert set(kernel.value("[*globals()]")) - before - {"_i", "_ii", "_iii"} <= {f"_i{number(kernel) - 1}"}


def test_items_are_taken_as_places_become_free(kernel: Kernel) -> None:
    kernel.run(
        """
        taken = most = 0
        def source():
            global taken, most
            for n in range(20):
                taken += 1
                run = get_ipython()._flash_magics.notebook.map  # another one, at the very first
                most = max(most, taken - run.progress.done) if n > 5 else 0
                yield n
        """
    ).ok()
    run(kernel, "x in source() --max-parallel 3", "v = x").ok()
    assert kernel.value("v, most") == ([*range(20)], 3)


def test_classes_and_functions_of_the_notebook(kernel: Kernel) -> None:
    kernel.run(
        """
        from dataclasses import dataclass
        @dataclass
        class Shared:
            n: int
        @dataclass
        class Own:
            n: int
        def helper(v): return v.n + OFFSET
        OFFSET = 10
        shared = Shared(5)
        def reads_x(): return x * 2
        x = 1000
        """
    ).ok()
    run(
        kernel,
        "x in [Own(1), Own(2), shared]",
        """
        class Made:
            def __init__(self, held): self.held = held
        def made_here(v): return Made(v)
        made = made_here(x)
        total = helper(x) + shared.n
        same = type(x) is Shared
        """,
    ).ok()
    assert kernel.value("total, same") == ([16, 17, 20], [False, False, True])
    assert kernel.value(
        "[type(m) is Made for m in made], [m.held for m in made[:2]] == [Own(1), Own(2)]"
    ) == (
        [True] * 3,
        True,
    )
    assert kernel.value("made_here(1).held, type(made[2].held) is Shared, x") == (1, True, 1000)
    run(kernel, "x in range(3)", "v = reads_x()").ok()
    assert kernel.value("v") == [0, 2, 4]


def test_what_is_shown(kernel: Kernel) -> None:
    assert run(kernel, "x in range(3)", "x * 2;").ok().result is None
    assert run(kernel, "x in range(3)", "print(end='')").ok().result is None
    assert run(kernel, "x in range(3)", "v = x").ok().result is None
    assert run(kernel, "x in range(3)", "x or None").ok().result == {"text/plain": "[None, 1, 2]"}


def test_failures_and_retry(kernel: Kernel, tmp_path: Path) -> None:
    """What ran is counted by the lines that every execution leaves in a file."""
    log, good = tmp_path / "log", tmp_path / "good"
    body = f"""
        import os
        with open({str(log)!r}, "a") as file: print(n, file=file)
        half = n / 2

        if n % 10 == 3 and not os.path.exists({str(good)!r}):
            raise ValueError(f"bad {{n}}")
        n
    """
    kernel.run("half = 'old'").ok()
    here = number(kernel)
    reply = run(kernel, "n in range(40)", body)
    assert reply.ename == "MapError"
    shown = reply.traceback
    assert f"Cell In[{here}], line 7" in shown
    assert '----> 7     raise ValueError(f"bad {n}")' in shown
    assert "ValueError: bad 3\n\nThat was item 3.\n" in shown
    assert "flash_nb/" not in shown
    assert shown.splitlines()[-7:] == [
        "MapError: 4 of 40 items of n in range(40) failed.",
        "  item 3 (3): ValueError: bad 3",
        "  item 13 (13): ValueError: bad 13",
        "  item 23 (23): ValueError: bad 23",
        "  item 33 (33): ValueError: bad 33",
        "%flash retry runs only what is not done, and then completes the lists: until then they hold None.",
        "sys.last_value.run is this run; its failures are what the items raised.",
    ]
    assert "✗ failed n in range(40) on mapped · 40/40 · 4 failed" in bar(reply).text
    assert sorted(map(int, log.read_text().split())) == [*range(40)]
    partial = [None if n % 10 == 3 else n / 2 for n in range(40)]
    assert kernel.value("half") == partial
    kernel.run("import sys; run = sys.last_value.run").ok()
    assert kernel.value("run.results") == [None if n % 10 == 3 else n for n in range(40)]
    assert kernel.value("[*run.failures]") == [3, 13, 23, 33]
    log.unlink()
    assert kernel.run("%flash retry").ename == "MapError"
    assert kernel.value("half") == partial
    good.touch()
    reply = kernel.run("%flash retry").ok()
    assert "✓ completed n in range(40) on mapped · 40/40 · 36 from before" in bar(reply).text
    assert sorted(map(int, log.read_text().split())) == [3, 3, 13, 13, 23, 23, 33, 33]
    assert kernel.value("half") == [n / 2 for n in range(40)]
    assert kernel.value("_") == [*range(40)]


RETRIES = {"await": "values = await run.retry()", "result": "values = run.retry().result()"}


@pytest.mark.parametrize("name", RETRIES)
def test_retry_of_the_run_itself(kernel: Kernel, tmp_path: Path, name: str) -> None:
    good = tmp_path / "good"
    body = f"import os\nassert x or os.path.exists({str(good)!r})\nv = x\nx"
    assert run(kernel, "x in range(3)", body).ename == "MapError"
    good.touch()
    kernel.run(f"import sys; run = sys.last_value.run\n{RETRIES[name]}").ok()
    assert kernel.value("v, values") == ([0, 1, 2], [0, 1, 2])


def test_a_retry_that_nobody_waits_for_binds_at_a_later_cell(kernel: Kernel, tmp_path: Path) -> None:
    good = tmp_path / "good"
    assert (
        run(kernel, "x in range(2)", f"import os\nassert os.path.exists({str(good)!r})\nv = x").ename
        == "MapError"
    )
    assert kernel.value("v") == [None, None]
    good.touch()
    kernel.run("import sys; run = sys.last_value.run.retry()").ok()
    wait_for(lambda: kernel.value("run.done()"))
    kernel.run("pass").ok()
    assert kernel.value("v") == [0, 1]
    kernel.run("v = 'mine'").ok()
    kernel.run("pass").ok()
    assert kernel.value("v") == "mine"


def test_an_item_that_cannot_be_sent_or_unpacked(kernel: Kernel) -> None:
    reply = run(kernel, "a, b in [(1, 2), 3, (4, (n for n in ()))]", "v = a")
    assert reply.ename == "MapError"
    assert reply.traceback.startswith("CellError: The item is not a, b: cannot unpack")
    for part in (
        "item 1 (3): CellError: The item is not a, b",
        "SerializationError: Line 1: b cannot be sent: builtins.generator",
    ):
        assert part in reply.traceback
    assert kernel.value("v") == [1, None, None]


def test_a_secret_is_refused_and_not_shown(kernel: Kernel) -> None:
    kernel.run("import secrets; held = [secrets.token_hex(), 'b']").ok()
    reply = run(kernel, "n, api_token in enumerate(held)", "v = len(api_token)")
    assert "CellError: Line 2: api_token has the name of a secret.\n" in reply.traceback
    assert "item 0 (…): CellError" in reply.traceback
    assert kernel.value("held[0]") not in str(reply)
    run(kernel, "n, api_token in enumerate(held) --allow-secret api_token", "v = len(api_token)").ok()
    assert kernel.value("v") == [64, 1]


def test_interrupt_keeps_what_is_done(kernel: Kernel, engine: Engine) -> None:
    before = {job["id"] for job in engine.jobs()}
    kernel.run("v = 'old'; nap = 60").ok()
    body = "import time\nprint('on', x)\nif x > 1: time.sleep(nap)\nv = x"
    reply = start(kernel, "x in iter(range(6)) --max-parallel 4", body)
    kernel.wait(reply, until=lambda r: r.stdout.count("on ") == 4)  # two items, and two that nap
    pressed = time.monotonic()
    kernel.interrupt()
    kernel.wait(reply)
    assert time.monotonic() - pressed < LIMIT_S
    assert reply.ename == "KeyboardInterrupt"
    assert reply.traceback == "KeyboardInterrupt: 2 items are done. %flash retry runs the others."
    assert kernel.value("v[:2], set(v[2:])") == ([0, 1], {None})
    wait_for(
        lambda: (
            {job["status"] for job in engine.jobs() if job["id"] not in before} == {"COMPLETED", "CANCELLED"}
        )
    )
    kernel.run("nap = 0").ok()  # what is shared was captured when the map began
    reply = kernel.start("%flash retry")
    kernel.wait(reply, until=lambda r: r.stdout.count("on ") == 2)
    kernel.interrupt()
    kernel.wait(reply)
    assert "2 items are done" in reply.traceback
    assert kernel.value("v[:2]") == [0, 1]


def test_run_all_stops_at_a_failure(kernel: Kernel) -> None:
    kernel.run("reached = 0").ok()
    first = kernel.start("%%flash_map x in range(2)\n1 / x")
    second = kernel.start("reached = 1")
    for reply in (first, second):
        kernel.wait(reply)
    assert (first.ename, second.status, kernel.value("reached")) == ("MapError", "aborted", 0)


def test_printed_lines_are_whole_and_say_whose_they_are(kernel: Kernel) -> None:
    body = """
        import sys, time
        for n in range(5):
            print("begin", end=" ", flush=True)
            time.sleep(0.01)
            print(n, "end")
        for n in range(3): print(f"\\r{n} of 3", end="", file=sys.stderr)
        print("last", end="")
    """
    reply = run(kernel, "x in range(6)", body).ok()
    lines = reply.stdout.splitlines()
    assert sorted(lines) == sorted(
        [f"[{x}] begin {n} end" for x in range(6) for n in range(5)] + [f"[{x}] last" for x in range(6)]
    )
    for x in range(6):
        own = [line for line in lines if line.startswith(f"[{x}]")]
        assert own == [*(f"[{x}] begin {n} end" for n in range(5)), f"[{x}] last"]
    assert sorted(reply.stderr.splitlines()) == [f"[{x}] 2 of 3" for x in range(6)]


def test_a_thousand_lines_are_not_shown(kernel: Kernel) -> None:
    body = """
        from IPython.display import HTML, display
        for n in range(100): print(n)
        display(HTML(f'<i>{x}</i>'))
    """
    reply = run(kernel, "x in range(30)", body).ok()
    assert reply.stdout.count("\n") <= 200 + 20
    assert len([shown for shown in reply.shown if "<i>" in shown.data.get("text/html", "")]) == 20
    assert reply.stderr == "flash_nb: 2,810 more lines and displays of items are not shown.\n"


def test_displays_of_items_do_not_mix(kernel: Kernel) -> None:
    body = (
        "from IPython.display import display\nh = display('first', display_id='one')\nh.update(x)\nh = None"
    )
    reply = run(kernel, "x in range(3)", body).ok()
    assert sorted(shown.text for shown in reply.shown if shown.display_id != bar(reply).display_id) == [
        "0",
        "1",
        "2",
    ]
    assert sorted(reply.stdout.split()) == ["[0]", "[1]", "[2]"]


def test_changes_in_place_stay_there_and_are_said(kernel: Kernel) -> None:
    kernel.run("cache = {}; items = [[1], [2]]; alike = cache").ok()
    reply = run(kernel, "x in items", "cache[x[0]] = 1\nx.append(3)\nn = len(cache)").ok()
    assert kernel.value("cache, items, n, alike is cache") == ({}, [[1], [2]], [1, 1], True)
    assert reply.stderr == (
        "flash_nb: items changed cache, x in place, which stays on the worker: "
        "bind what is to come back to a name.\n"
    )


def test_what_cannot_come_back_is_said(kernel: Kernel) -> None:
    reply = run(kernel, "x in range(2)", "import threading\nlock = threading.Lock()\nn = x\nlock").ok()
    assert kernel.value("n, 'lock' in globals()") == ([0, 1], False)
    assert (
        "flash_nb: lock did not come back: TypeError: cannot pickle '_thread.lock' object.\n" in reply.stderr
    )
    assert "flash_nb: the value of the last line did not come back: TypeError" in reply.stderr
    assert reply.result is None


def test_a_module_that_is_not_installed_here(kernel: Kernel) -> None:
    reply = run(kernel, "x in [[1], [1, 2]]", "import toolz as tz\nn = tz.count(x)").ok()
    assert kernel.value("n") == [1, 2]
    assert "flash_nb: tz did not come back: the module toolz is not installed here.\n" in reply.stderr


def test_names_are_bound_once(kernel: Kernel) -> None:
    run(kernel, "x in range(2)", "v = x").ok()
    kernel.run("v = 'mine'; run = get_ipython()._flash_magics.notebook.map").ok()
    kernel.run("run.result()").ok()
    assert kernel.value("v") == "mine"


def test_large_values_are_pointed_at(kernel: Kernel) -> None:
    kernel.run("big = bytes(1_500_000)").ok()
    reply = run(kernel, "x in range(2)", "n = len(big) + x").ok()
    assert kernel.value("n") == [1_500_000, 1_500_001]
    assert reply.stderr.startswith(
        "flash_nb: big (1.5 MB) is sent with each item: make or load it in the cell"
    )


def test_in_and_out(kernel: Kernel) -> None:
    kernel.run("a = 1; unused = 5; kept = 'old'").ok()
    run(kernel, "x in range(2) --in unused,x --out v", "v = eval('unused') + x\nkept = 1").ok()
    assert kernel.value("v, kept") == ([5, 6], "old")


def test_dependencies_and_pip(kernel: Kernel) -> None:
    run(
        kernel, "x in range(2) --deps iniconfig==2.0.0", "import iniconfig\nv = bool(iniconfig.IniConfig)"
    ).ok()
    assert kernel.value("v") == [True, True]


def test_simulated_is_said(kernel: Kernel) -> None:
    reply = kernel.run("%%flash_map x in range(2) --gpu ADA_24\nv = x").ok()
    assert "✓ completed x in range(2) on notebook-ada_24 · 2/2" in bar(reply).text
    assert bar(reply).text.endswith(" · simulated on this machine's CPU")


@pytest.mark.parametrize("above", ["# a comment\n", "\n# one\n\n"])
def test_comments_above(kernel: Kernel, above: str) -> None:
    reply = kernel.wait(kernel.start_as_is(f"{above}%%flash_map x in range(2)\nlow = 1\nx / 0"))
    assert reply.ename == "MapError"
    assert f"line {above.count(chr(10)) + 3}" in reply.traceback


ERRORS = {
    "syntax": ("x in xs", "y = 1\nz = (2 +", "SyntaxError", ["line 3", "z = (2 +"]),
    "items": ("x in nowhere.items", "y = 1", "NameError", ["line 1", "x in nowhere.items", "'nowhere'"]),
    "no items": ("x in 5", "y = 1", "TypeError", ["'int' object is not iterable"]),
    "undefined": ("x in [1]", "y = z9", "UndefinedNameError", ["Line 2: z9 is not defined"]),
    "raising items": (
        "x in (1 / (2 - n) for n in range(5))", "v = x", "ZeroDivisionError", ["line 1", "division by zero"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_point_at_the_cell(kernel: Kernel, name: str) -> None:
    line, body, ename, parts = ERRORS[name]
    here = number(kernel)
    reply = run(kernel, line, body)
    assert reply.ename == ename
    assert "/flash_nb/" not in reply.traceback
    if "line 1" in parts or "line 3" in parts:
        assert f"Cell In[{here}]" in reply.traceback
    for part in parts:
        assert part in reply.traceback


def test_what_was_done_before_the_items_broke_is_bound(kernel: Kernel) -> None:
    run(kernel, "x in (1 / (2 - n) for n in range(5))", "v = x")
    assert kernel.value("v") == [0.5, 1.0]


MISTAKES = {
    "": "say what each item is: x in xs",
    "xs": "'xs' is not like `x in xs`",
    "x in xs if x": "filter the items",
    "x in await f()": "make the items in a cell before",
    "x in [1] --max-parallel 0": "0 lets nothing run",
    "x in [1] --detach": "no such option: --detach",
    "x in [1] --gpu AMPER_80": "did you mean AMPERE_80?",
    "x in [1] -r nobody": "no resource is called 'nobody'",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_are_one_sentence(kernel: Kernel, line: str) -> None:
    reply = kernel.run(f"%%flash_map {line}\ny = 1")
    assert reply.ename == "UsageError"
    assert MISTAKES[line] in reply.stderr
    assert reply.stderr.startswith("UsageError: %%flash_map: ")
    assert reply.stderr.strip().count("\n") == 0
    assert reply.displays == []


def test_help(kernel: Kernel) -> None:
    shown = kernel.run("%%flash_map?").ok().paged
    for part in ("%%flash_map x in xs", "--max-parallel N", "--gpu GROUP", "becomes a list", "%flash retry"):
        assert part in shown


def test_retry_without_a_map(kernel: Kernel) -> None:
    kernel.run("%unload_ext flash_nb\n%load_ext flash_nb").ok()
    reply = kernel.run("%flash retry")
    assert "%flash retry: there was no %%flash_map in this notebook yet" in reply.stderr

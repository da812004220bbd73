"""Modules that are files beside the notebook: cells and remote functions import them on workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kernels import Engine, Kernel, run, started

HELPERS = """
from dataclasses import dataclass
from deeper import OFFSET

loads = []

@dataclass
class Pair:
    left: int
    right: int

    def total(self):
        return self.left + self.right + OFFSET

def clean(x):
    loads.append(x)
    return x + OFFSET

def fail(x):
    return 1 / x
"""

SETUP = """
import os
os.environ["FLASH_CACHE"] = {cache!r}
from flash_nb.sdk.session import set_session
set_session(None)
from flash_nb import CpuLiveLoadBalancer, CpuLiveServerless, remote
from helpers import Pair, clean
import helpers
import shop.parts
config = CpuLiveServerless(name="files", workersMax=1)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("project")
    (made / "helpers.py").write_text(HELPERS)
    (made / "deeper.py").write_text("OFFSET = 100\n")
    (made / "shop").mkdir()
    (made / "shop" / "parts.py").write_text("from .prices import price\n")
    (made / "shop" / "prices.py").write_text("def price():\n    return 7\n")
    return made


@pytest.fixture(scope="module")
def kernel(engine: Engine, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with started(folder) as made:
        made.run("%load_ext flash_nb").ok()
        made.remote("pass").ok()  # the engine keeps its environments where it always does
        made.run(SETUP.format(cache=str(tmp_path_factory.mktemp("cache")))).ok()
        yield made


@pytest.fixture(autouse=True)
def _as_before(folder: Path) -> Iterator[None]:
    yield
    (folder / "deeper.py").write_text("OFFSET = 100\n")


def test_cells(kernel: Kernel) -> None:
    reply = kernel.remote(
        """
        from shop import prices
        made = Pair(clean(1), shop.parts.price() + prices.price())
        """
    ).ok()
    assert "⚠" not in reply.stderr
    assert kernel.value("made") == "Pair(left=101, right=14)"
    assert kernel.value("type(made) is helpers.Pair") is True
    kernel.remote("total = made.total()\nmade.left = 0").ok()
    assert kernel.value("(total, made)") == "(215, Pair(left=0, right=14))"


def test_functions_carry_them(kernel: Kernel) -> None:
    run(
        kernel,
        """
        @remote(resource_config=config, strict=True)
        def inside(pair):
            import helpers
            from shop.parts import price
            return isinstance(pair, helpers.Pair), helpers.Pair(price(), len(helpers.loads))
        @remote(resource_config=config)
        def outside(x):
            return clean(x), len(helpers.loads)
        """,
    )
    run(kernel, "out = await inside(Pair(1, 2))")
    assert kernel.value("(out.output[0], type(out.output[1]) is Pair)") == (True, True)
    files = ("deeper", "helpers", "shop", "shop.parts", "shop.prices")
    assert kernel.value("out.carried.files") == files
    first, second = (kernel_output(kernel, "outside(1)") for _ in range(2))
    assert first[0] == second[0] == 101
    assert second[1] == first[1] + 1  # imported once, kept


def kernel_output(kernel: Kernel, call: str) -> tuple[int, int]:
    found: tuple[int, int] = eval(run(kernel, f"(await {call}).output"))
    return found


def test_a_changed_file_is_imported_anew_and_objects_keep_theirs(kernel: Kernel, folder: Path) -> None:
    run(
        kernel,
        """
        @remote(resource_config=config)
        def total(pair):
            return pair.total()
        @remote(resource_config=config)
        class Shelf:
            def __init__(self, pair):
                self.pair = pair
            def same(self, other):
                import helpers
                return type(other) is type(self.pair) is helpers.Pair, self.pair.total()
        shelf = Shelf(Pair(0, 1))
        """,
    )
    assert run(kernel, "(await total(Pair(1, 1))).output, (await shelf.same(Pair(0, 0))).output") == (
        "(102, (True, 101))"
    )
    (folder / "deeper.py").write_text("OFFSET = 2000\n")
    assert run(kernel, "(await total(Pair(1, 1))).output, (await shelf.same(Pair(0, 0))).output") == (
        "(2002, (True, 101))"
    )


def test_errors_show_the_file(kernel: Kernel) -> None:
    reply = kernel.remote("helpers.fail(0)")
    assert reply.ename == "ZeroDivisionError"
    assert "helpers.py" in reply.traceback
    assert "return 1 / x" in reply.traceback


def test_generators_and_maps(kernel: Kernel) -> None:
    run(
        kernel,
        """
        @remote(resource_config=config)
        def pairs(n):
            for i in range(n):
                yield Pair(i, clean(i))
        @remote(resource_config=config)
        def pair(i):
            return Pair(i, clean(i))
        """,
    )
    assert run(kernel, "[each.total() async for each in pairs.stream(2)]") == "[200, 202]"
    run(kernel, "import flash_nb\nmapped = await flash_nb.map(pair, [1, 2])")
    assert kernel.value("[type(each) is Pair for each in mapped]") == [True, True]
    kernel.run("%%flash_map n in [Pair(1, 1), Pair(2, 2)] -r config\nmade = clean(n.left)").ok()
    assert kernel.value("made") == [101, 102]


def test_routes(kernel: Kernel, folder: Path) -> None:
    run(
        kernel,
        """
        @remote(resource_config=CpuLiveLoadBalancer(name="filed"), method="POST", path="/clean")
        def cleaned(x: int):
            from shop.prices import price
            return clean(x) + price()
        """,
    )
    assert run(kernel, "await cleaned(x=1)") == "108"
    (folder / "deeper.py").write_text("OFFSET = 2000\n")
    assert run(kernel, "await cleaned(x=1)") == "2008"


def test_the_cache_knows_them(kernel: Kernel, folder: Path) -> None:
    for offset, seen, reused in ((100, 101, False), (100, 101, True), (300, 301, False)):
        (folder / "deeper.py").write_text(f"OFFSET = {offset}\n")
        reply = kernel.remote("import helpers\nseen = helpers.clean(1)", "--cache").ok()
        assert kernel.value("seen") == seen
        assert ("reused" in reply.record) == reused


def test_what_cannot_travel_is_said_before_anything_is_sent(
    kernel: Kernel, folder: Path, engine: Engine
) -> None:
    (folder / "ours.py").write_text("from flash_nb import remote\n")
    before = len(engine.jobs())
    reply = kernel.run("%%flash_remote\n\nimport ours")
    assert reply.ename == "CellError"
    assert "Line 3: ours imports flash_nb (line 1), and a worker has no flash_nb." in reply.evalue
    assert len(engine.jobs()) == before

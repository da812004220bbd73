"""Run All: every cell is sent at once, and each runs in its turn, with its own output."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernels import Engine, Kernel, Reply

CELLS = {
    "local": "a = 2\nprint('local')\na",
    "remote": "%%flash_remote --name all\nprint('remote')\nb = a + 1\nb",
    "define": """\
from flash_nb import CpuLiveServerless, remote
@remote(CpuLiveServerless(name="all-functions"))
async def double(x):
    print('double', x)
    return 2 * x
""",
    "await": "print('await')\n(await double(b)).output",
    "detach": """\
%%flash_remote --name all --detach
import pathlib, time
while not pathlib.Path(flag).exists(): time.sleep(0.01)
print('detached')
late = b * 10
""",
    "meanwhile": """\
import asyncio, pathlib
await asyncio.sleep(0.1)
print('meanwhile')
pathlib.Path(flag).touch()
""",
    "read": "print('read')\nlate + 1",
    "pasted": "async def main():\n    return (await double(late)).output\nasyncio.run(main())",
    "display": """\
%%flash_remote --name all
from IPython.display import HTML, display
display(HTML('<b>h</b>'))
""",
    "calls": "[(await double(n)).output for n in range(3)]",
}
ERRORS = {
    "local": "1 / 0",
    "remote": "%%flash_remote --name all\n1 / 0",
    "function": "(await double(None)).unwrap()",
    "refused": "%%flash_remote --name all\nno_such_name",
}
AFTER = [
    "%%flash_remote --name all\nnever = 1",
    "await double(99)",
    "%%flash_remote --name all --detach\nnever = 2",
    "never = 3",
    "1",
]


def run_all(kernel: Kernel, cells: list[str]) -> list[Reply]:
    """Send all cells at once, with what front ends ask for beside, and wait for the last."""
    replies = []
    for number, cell in enumerate(cells):
        replies.append(kernel.start_as_is(cell, cell=f"cell-{number}"))
        kernel.ask()
    for reply in replies:
        kernel.wait(reply)
    return replies


@pytest.mark.parametrize("attempt", [1, 2])
def test_each_cell_runs_in_its_turn_with_its_own_output(kernel: Kernel, tmp_path: Path, attempt: int) -> None:
    kernel.run(f"flag = {str(tmp_path / 'go')!r}").ok()
    replies = dict(zip(CELLS, run_all(kernel, [*CELLS.values()]), strict=True))
    for reply in replies.values():
        reply.ok()
    assert {name: reply.stdout.split("\n")[:-1] for name, reply in replies.items()} == {
        "local": ["local"],
        "remote": ["remote"],
        "define": [],
        "await": ["await", "double 3"],
        "detach": [],
        "meanwhile": ["meanwhile"],
        "read": ["detached", "read"],  # what it printed comes with the cell that waits for it
        "pasted": ["double 30"],
        "display": [],
        "calls": ["double 0", "double 1", "double 2"],
    }
    values = {name: reply.result["text/plain"] for name, reply in replies.items() if reply.result}
    assert values == {
        "local": "2",
        "remote": "3",
        "await": "6",
        "read": "31",
        "pasted": "60",
        "calls": "[0, 2, 4]",
    }
    assert [each.data["text/html"] for each in replies["display"].shown] == ["<b>h</b>"]
    for name in ("remote", "detach", "display"):
        assert "✓ completed" in replies[name].record


@pytest.mark.parametrize("where", ERRORS)
def test_after_an_error_nothing_runs_and_nothing_is_sent(kernel: Kernel, engine: Engine, where: str) -> None:
    first = [CELLS["local"], CELLS["define"], CELLS["remote"]]
    for reply in run_all(kernel, first):
        reply.ok()
    before = {job["id"] for job in engine.jobs()}
    replies = run_all(kernel, [CELLS["remote"], ERRORS[where], *AFTER])
    assert [reply.status for reply in replies] == ["ok", "error", *["aborted"] * len(AFTER)]
    assert not any(reply.stdout or reply.displays or reply.result for reply in replies[2:])
    sent = {job["id"] for job in engine.jobs()} - before
    assert len(sent) == 1 + (where in ("remote", "function"))
    assert kernel.value("'never' in globals()") is False
    assert kernel.run("a").ok().result == {"text/plain": "2"}


NESTED = (
    "import asyncio\n"
    "async def slowly(n):\n    await asyncio.sleep(0.05)\n    return n\n"
    "asyncio.get_event_loop().run_until_complete(slowly({n}))"
)


def test_nested_loops_are_off_until_asked_for_and_lose_no_cell(fresh: Kernel) -> None:
    fresh.run("%load_ext flash_nb").ok()
    assert fresh.run("%flash nested").ok().stdout == "Nested event loops: off\n"
    assert fresh.run(NESTED.format(n=0)).ename == "RuntimeError"
    assert fresh.run("%flash nested on").ok().stdout == "Nested event loops: on\n"
    cells = [NESTED.format(n=n) for n in range(7)]
    cells[3] = "%%flash_remote\nnested = 3\nnested"
    replies = run_all(fresh, cells)
    assert [reply.ok().result for reply in replies] == [{"text/plain": str(n)} for n in range(7)]
    assert "until the kernel ends" in fresh.run("%flash nested off").evalue
    assert "did you mean 'on'" in fresh.run("%flash nested onn").stderr

"""A live handler on the official worker runs what a notebook sends: functions, objects, cells.

The worker has another Python than the kernel, and nothing of ours is installed there.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager
from kernels import Kernel
from official import Worker, serving
from real import Following, World, call, cell, until, value_of, values_of

from flash_nb.jobs import DisplayEvent, JobStatus, StreamEvent


@pytest.fixture(scope="module")
def notebook(official):
    """A kernel whose jobs an official worker takes; both for all tests of this module."""
    with tempfile.TemporaryDirectory(prefix="fc-") as cache:
        world = World(Path(cache))
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel(env=world.environment)
        client = manager.blocking_client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        kernel = Kernel(client, manager)
        kernel.run("%load_ext flash_nb").ok()
        kernel.run(
            """
            from flash_nb import CpuLiveServerless, remote
            outside = CpuLiveServerless(name="outside", workersMax=0)
            @remote(outside)
            def python():
                import sys
                return sys.version_info[:2], "flash_nb" in sys.modules
            first = python.submit()
            """
        ).ok()
        asyncio.run(_until_known(world))
        environment = asyncio.run(world.call("worker_environment", endpoint="outside"))
        worker = Worker(official, "live", {**environment, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"})
        try:
            yield kernel
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            worker.close()
            world.close()


async def _until_known(world: World) -> None:
    give_up_at = time.monotonic() + 30
    while not (world.settings.state_file.exists() and await world.call("endpoints")):
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.05)


def test_a_function_runs_on_another_python(notebook):
    reply = notebook.run("output = first.result(); print(output.output)").ok()
    version, has_ours = notebook.value("output.output")
    assert version != notebook.value("__import__('sys').version_info[:2]")
    assert not has_ours
    assert notebook.value("output.workerId").startswith("x-outside-"), reply


def test_arguments_names_of_the_notebook_and_printed_text_travel(notebook):
    notebook.run(
        """
        factor = 3
        class Point:
            def __init__(self, x): self.x = x
        def scaled(point): return Point(point.x * factor)
        @remote(outside)
        async def scale(points):
            print("scaling", len(points))
            return [scaled(point) for point in points]
        """
    ).ok()
    reply = notebook.run(
        "done = await scale([Point(1), Point(2)])\n[point.x for point in done.unwrap()]"
    ).ok()
    assert reply.result["text/plain"] == "[3, 6]"
    assert reply.stdout == "scaling 2\n"


def test_a_generator_streams(notebook):
    notebook.run(
        """
        @remote(outside)
        def count(n):
            for number in range(n):
                yield {"number": number}
        """
    ).ok()
    reply = notebook.run("[item['number'] async for item in count.stream(3)]").ok()
    assert reply.result["text/plain"] == "[0, 1, 2]"


def test_an_object_keeps_its_state(notebook):
    notebook.run(
        """
        @remote(outside)
        class Counter:
            def __init__(self, start): self.value = start
            def add(self, n):
                self.value += n
                return self.value
        counter = Counter(10)
        """
    ).ok()
    reply = notebook.run("[(await counter.add(n)).unwrap() for n in (1, 2, 3)]").ok()
    assert reply.result["text/plain"] == "[11, 13, 16]"


def test_an_error_is_raised_with_its_line(notebook):
    notebook.run("@remote(outside)\ndef broken(x):\n    y = x\n    return 1 / y\n").ok()
    reply = notebook.run("(await broken(0)).unwrap()")
    assert (reply.ename, reply.evalue) == ("ZeroDivisionError", "division by zero")
    assert "return 1 / y" in reply.traceback


def test_a_cell_brings_back_its_names_and_its_displays(notebook):
    reply = notebook.remote(
        """
        import os
        print("from the cell", flush=True)
        os.system("echo from a child")
        total = sum(range(factor))
        total * 2
        """,
        "--resource outside",
    ).ok()
    assert notebook.value("total") == 3
    assert reply.stdout == "from the cell\nfrom a child\n"
    assert reply.result["text/plain"] == "6"


def test_text_comes_while_the_cell_runs_and_an_interrupt_ends_it(notebook):
    reply = notebook.start("%%flash_remote --resource outside\nprint('begun')\nwhile True:\n    pass\n")
    notebook.wait(reply, lambda found: "begun" in found.stdout)
    notebook.interrupt()
    notebook.wait(reply)
    assert reply.ename == "KeyboardInterrupt"
    assert notebook.remote("left = 1", "--resource outside").ok()
    assert notebook.value("left") == 1


def test_events_are_in_order_and_a_job_is_cancelled_while_it_waits(world, official):
    async def scenario():
        async with serving(world, official, "live", kind="CpuLiveServerless") as served:
            endpoint = served.endpoint
            source = (
                "import time\nfor i in range(40):\n    print(i)\n    time.sleep(0.02)\n"
                "    if i % 10 == 9: display(i)\nx = i\n"
            )
            job = cell(source, "x", requirements=[])
            following = Following()
            endpoint.run(job, following)
            done = await following.end()
            assert values_of(done) == {"x": 39}
            assert following.text == "".join(f"{number}\n" for number in range(40))
            shown = [e.data["text/plain"] for e in following.events if isinstance(e, DisplayEvent)]
            assert shown == ["9", "19", "29", "39"]
            kinds = [type(e) for e in following.events if isinstance(e, (StreamEvent, DisplayEvent))]
            assert kinds.index(DisplayEvent) < len(kinds) - 1

            waiting = call("import asyncio\nasync def f():\n    print('on')\n    await asyncio.sleep(600)")
            following = Following()
            endpoint.run(waiting, following)
            await until(lambda: following.text == "on\n")
            endpoint.cancel(waiting.job_id)
            assert (await following.end()).info.status is JobStatus.CANCELLED

            large = call("def f(x):\n    return x", bytes(4_000_000))
            following = Following()
            endpoint.run(large, following)
            assert len(value_of(await following.end())) == 4_000_000
            await until(lambda: world.spills() == [])

    asyncio.run(scenario())


def test_a_handler_that_is_not_live_is_named(world, official):
    async def scenario():
        async with serving(world, official, "plain", kind="CpuLiveServerless") as served:
            following = Following()
            served.endpoint.run(call("def f(): return 1"), following)
            done = await following.end()
            assert done.info.status is JobStatus.FAILED
            assert "does not take Flash's function requests" in done.info.error

    asyncio.run(scenario())

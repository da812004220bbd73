"""Generators: their items come one by one, while they run."""

from __future__ import annotations

import textwrap

import pytest
from kernels import Engine, Kernel, run, wait_for
from test_remote import SETUP

GENERATORS = """
import asyncio, pathlib, time

folder = pathlib.Path({folder!r})

@remote(resource_config=config)
def count(n):
    for i in range(n):
        yield i

@remote(resource_config=config)
async def slowly(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield {{"number": i}}

@remote(resource_config=config)
def stepwise(folder, n):
    import time
    try:
        for i in range(n):
            print("before", i)
            yield i
            while not (folder / str(i)).exists():
                time.sleep(0.005)
    finally:
        (folder / "closed").touch()

@remote(resource_config=config)
async def waits(folder):
    try:
        yield "first"
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(0)
        (folder / "closed").touch()

@remote(resource_config=config)
def breaks():
    yield 1
    yield 2
    raise LookupError("after two")
"""


@pytest.fixture
def folder(kernel, tmp_path):
    run(kernel, SETUP)
    run(kernel, GENERATORS.format(folder=str(tmp_path)))
    return tmp_path


def test_all_items_at_the_end(kernel: Kernel, folder) -> None:
    assert (
        kernel.run("print((await count(3)).output, (await count(0)).output)").ok().stdout == "[0, 1, 2] []\n"
    )
    assert run(kernel, "(await slowly(2)).output") == "[{'number': 0}, {'number': 1}]"


def test_each_item_in_turn(kernel: Kernel, folder) -> None:
    assert run(kernel, "[item async for item in count.stream(4)]") == "[0, 1, 2, 3]"
    assert run(kernel, "[item for item in count.stream(4)]") == "[0, 1, 2, 3]"
    assert run(kernel, "[item async for item in slowly.stream(2)]") == "[{'number': 0}, {'number': 1}]"
    assert run(kernel, "[item async for item in count.stream(0)]") == "[]"


def test_items_come_while_the_generator_runs_and_after_what_it_printed(kernel: Kernel, folder) -> None:
    """The generator goes on only when its item has been here."""
    reply = kernel.run(
        """
        async for item in stepwise.stream(folder, 3):
            print("got", item)
            (folder / str(item)).touch()
        """
    ).ok()
    assert reply.stdout == "".join(f"before {i}\ngot {i}\n" for i in range(3))
    assert (folder / "closed").exists()


def test_more_items_than_events_are_kept(kernel: Kernel, folder) -> None:
    run(kernel, "job = count.submit(5000)\nitems = [item async for item in job.stream()]")
    assert kernel.value("items == list(range(5000)) == job.result().output") is True


def test_a_job_can_be_streamed_often_and_late(kernel: Kernel, folder) -> None:
    run(kernel, "job = count.submit(3)\nfirst = [item async for item in job.stream()]")
    assert kernel.value("job.done(), job.status, first") == (True, "COMPLETED", [0, 1, 2])
    assert kernel.value("[*job.stream()], [*job.stream()], job.result().output") == ([0, 1, 2],) * 3


def test_what_is_raised_comes_after_the_items(kernel: Kernel, folder) -> None:
    reply = kernel.run("async for item in breaks.stream():\n    print(item)")
    assert (reply.stdout, reply.ename, reply.evalue) == ("1\n2\n", "LookupError", "after two")
    assert 'raise LookupError("after two")' in reply.traceback
    run(kernel, "out = await breaks()")
    assert kernel.value("out.status, out.output, out.error.splitlines()[0]") == (
        "FAILED",
        None,
        "LookupError: after two",
    )


LEAVE = {
    "break": "async for item in {call}: break",
    "break of a plain loop": "for item in {call}: break",
    "aclose": "items = {call}\nawait anext(items)\nawait items.aclose()",
    "block": "with {call} as items:\n    next(items)",
    "an exception in the loop": ("try:\n    async for item in {call}: 1 / 0\nexcept ZeroDivisionError: pass"),
}


@pytest.mark.parametrize("call", ["stepwise.stream(folder, 3)", "waits.stream(folder)"])
@pytest.mark.parametrize("leave", LEAVE)
def test_leaving_early_cancels_and_closes_the_generator(
    kernel: Kernel, engine: Engine, folder, leave: str, call: str
) -> None:
    run(kernel, LEAVE[leave].format(call=call))
    wait_for((folder / "closed").exists)
    wait_for(lambda: engine.jobs()[0]["status"] == "CANCELLED")


@pytest.mark.parametrize("loop", ["async for", "for"])
@pytest.mark.parametrize("call", ["stepwise.stream(folder, 3)", "waits.stream(folder)"])
def test_interrupt_cancels_and_closes_the_generator(
    kernel: Kernel, engine: Engine, folder, loop: str, call: str
) -> None:
    reply = kernel.start(f"{loop} item in {call}:\n    print('got', item)")
    kernel.wait(reply, until=lambda r: "got" in r.stdout)
    kernel.interrupt()
    kernel.wait(reply)
    assert reply.status == "error"
    wait_for((folder / "closed").exists)
    wait_for(lambda: engine.jobs()[0]["status"] == "CANCELLED")


def test_leaving_the_stream_of_a_job_leaves_the_job(kernel: Kernel, folder) -> None:
    run(kernel, "job = stepwise.submit(folder, 2)\nfor item in job.stream(): break")
    run(kernel, "for n in range(2): (folder / str(n)).touch()\nout = await job")
    assert kernel.value("out.status, out.output, [*job.stream()]") == ("COMPLETED", [0, 1], [0, 1])


def test_cancelling_the_job_ends_its_stream(kernel: Kernel, folder) -> None:
    run(kernel, "job = waits.submit(folder)\nitems = job.stream()\nfirst = await anext(items)\njob.cancel()")
    reply = kernel.run("await anext(items)")
    assert reply.ename == "JobCancelledError"
    assert kernel.value("next(items, 'nothing more')") == "nothing more"


def test_what_does_not_yield(kernel: Kernel, folder) -> None:
    run(kernel, "@remote(resource_config=config)\ndef plainly(): return {}")
    reply = kernel.run("async for item in plainly.stream(): pass")
    assert reply.ename == "TypeError"
    assert "plainly() does not yield, it returns a dict: await it instead" in reply.evalue


def test_what_cannot_be_sent(kernel: Kernel, folder) -> None:
    run(
        kernel,
        """
        import threading
        @remote(resource_config=config)
        def bad():
            yield 1
            yield threading.Lock()
        @remote(resource_config=config)
        def big():
            yield bytes(10_000_000)
        """,
    )
    reply = kernel.run("for item in bad.stream(): print(item)")
    assert (reply.stdout, reply.ename) == ("1\n", "SerializationError")
    assert "The yielded lock cannot be sent back" in reply.evalue
    reply = kernel.run("for item in big.stream(): print(len(item))")
    assert reply.ename == "ValueError"
    assert "item 0 has 10.0 MB" in reply.evalue


def test_items_of_the_users_own_classes(kernel: Kernel, folder) -> None:
    run(
        kernel,
        """
        import dataclasses
        @dataclasses.dataclass
        class Token:
            text: str
        @remote(resource_config=config)
        def tokens():
            for text in ("a", "b"):
                yield Token(text)
        items = [item async for item in tokens.stream()]
        """,
    )
    assert kernel.value("items == [Token('a'), Token('b')]") is True


def test_methods(kernel: Kernel, folder) -> None:
    run(
        kernel,
        """
        @remote(resource_config=config)
        class Talker:
            def __init__(self): self.said = 0
            def say(self, *words):
                for word in words:
                    self.said += 1
                    yield word
            async def wait(self, folder):
                try:
                    yield 1
                    await asyncio.sleep(600)
                finally:
                    (folder / "closed").touch()
            def count(self): return self.said
        talker = Talker()
        items = [item async for item in talker.say.stream("a", "b")]
        all_items = (await talker.say("c")).output
        said = (await talker.count()).output
        async for item in talker.wait.stream(folder): break
        """,
    )
    assert kernel.value("items, all_items, said") == (["a", "b"], ["c"], 3)
    wait_for((folder / "closed").exists)
    assert run(kernel, "(await talker.count()).output") == "3"
    run(kernel, "talker.close()")


def test_here(kernel: Kernel, folder) -> None:
    run(
        kernel,
        textwrap.dedent(
            """
            @remote(resource_config=config, local=True)
            def near(n):
                yield from range(n)
            @remote(resource_config=config, local=True)
            async def near_async(n):
                for i in range(n): yield i
            @remote(resource_config=config, local=True)
            async def nothing(): return 1
            found = [i async for i in near.stream(2)], [*near.stream(2)], (await near(2)).output
            more = [i async for i in near_async.stream(2)], (await near_async(2)).output
            """
        ),
    )
    assert kernel.value("found") == ([0, 1], [0, 1], [0, 1])
    assert kernel.value("more") == ([0, 1], [0, 1])
    assert "nothing() does not yield" in kernel.run("nothing.stream()").evalue
    assert "use 'async for'" in kernel.run("for item in near_async.stream(2): pass").evalue

"""A cell that only defines makes remote functions and classes."""

from __future__ import annotations

from kernels import Kernel


def test_functions(kernel: Kernel) -> None:
    kernel.run("offset = 10\ndef local_helper(x): return x + offset").ok()
    reply = kernel.remote(
        '''
        """What it does."""
        import math
        import os
        from statistics import mean

        def sibling(x):
            return local_helper(math.floor(x))

        async def whole(xs, by=2):
            print("on the worker")
            return mean(sibling(x) for x in xs) * by, os.getpid()
        '''
    ).ok()
    assert reply.displays == []
    assert kernel.value("repr(whole)") == "<remote function whole on notebook>"
    reply = kernel.run("out = await whole([1.5, 3.5])\nout").ok()
    assert reply.stdout == "on the worker\n"
    assert kernel.value("type(out).__name__, out.status, out.output[0]") == ("JobOutput", "COMPLETED", 24)
    assert kernel.value("out.output[1] != __import__('os').getpid()") is True
    assert reply.result is not None
    assert "text/html" in reply.result
    kernel.run("offset = 20").ok()
    assert kernel.run("(await whole([1, 3], by=1)).output[0]").ok().result["text/plain"] == "22"


def test_nothing_runs_when_defining(kernel: Kernel) -> None:
    kernel.remote("import a_module_that_is_nowhere\n\ndef f(): return 1").ok()
    assert kernel.value("f.__class__.__name__") == "RemoteFunction"


def test_class_keeps_its_state(kernel: Kernel) -> None:
    kernel.remote(
        """
        class Tally:
            def __init__(self, start=0): self.n = start
            def add(self, k=1):
                self.n += k
                return self.n
            async def twice(self): return self.n * 2
            def fail(self): raise ValueError(self.n)
        """
    ).ok()
    kernel.run("t = Tally(5); u = Tally()").ok()
    kernel.run(
        """
        calls = [t.add, lambda: t.add(k=4), u.add, t.twice]
        r = [(await call()).output for call in calls]
        """
    ).ok()
    assert kernel.value("r") == [6, 10, 1, 20]
    kernel.run("o = await t.fail()").ok()
    assert kernel.value("o.status, o.error.splitlines()[0]") == ("FAILED", "ValueError: 10")
    reply = kernel.run("await t.ad()")
    assert reply.ename == "AttributeError"
    assert "did you mean 'add'?" in reply.evalue


def test_instances_of_the_cells_classes_come_back(kernel: Kernel) -> None:
    kernel.remote(
        """
        from dataclasses import dataclass

        @dataclass
        class Item:
            n: int

        def make(n): return [Item(n)]
        def total(items): return sum(item.n for item in items)
        """
    ).ok()
    kernel.run("made = (await make(4)).output\nagain = (await total(made)).output").ok()
    assert kernel.value("made[0].n, again") == (4, 4)


def test_run_and_define(kernel: Kernel) -> None:
    kernel.remote("def g(): return 'here'", "--run").ok()
    assert kernel.value("g()") == "here"
    kernel.run("noise = []").ok()
    kernel.remote("noise.append(1)\ndef h(): return noise", "--define").ok()
    assert kernel.value("noise, h.__class__.__name__") == ([], "RemoteFunction")
    assert kernel.remote("x = 1", "--define").ename == "UsageError"


def test_gpu_functions_are_simulated(kernel: Kernel) -> None:
    kernel.remote(
        "def where():\n    import os\n    return os.environ.get('CUDA_VISIBLE_DEVICES')", "--gpu ADA_24"
    ).ok()
    assert kernel.value("where") == "<remote function where on notebook-ada_24>"
    assert kernel.run("o = await where(); o.status").ok().result["text/plain"] == "'COMPLETED'"


def test_redefining_takes_the_new_source(kernel: Kernel) -> None:
    for version in (1, 2):
        kernel.remote(f"def v(): return {version}").ok()
        assert kernel.run("(await v()).output").ok().result["text/plain"] == str(version)


def test_decorated_and_generator_functions(kernel: Kernel) -> None:
    kernel.remote(
        "import functools\n\n@functools.lru_cache\ndef slow(x): return x + 1\n\ndef gen(): yield 1"
    ).ok()
    assert kernel.run("(await slow(1)).output").ok().result["text/plain"] == "2"
    kernel.run("o = await gen()").ok()
    assert kernel.value("o.output") == [1]

"""``@remote`` as the documentation of Flash has it, in a notebook."""

from __future__ import annotations

from kernels import Kernel, run

SETUP = """
import asyncio
from flash_nb import CpuInstanceType, CpuLiveServerless, GpuGroup, JobOutput, LiveServerless, remote

config = CpuLiveServerless(name="tested", workersMax=2, idleTimeout=60)
"""


def test_getting_started(kernel: Kernel) -> None:
    """As documented, but with NumPy in the place of PyTorch, which takes minutes to install."""
    printed = run(
        kernel,
        """
        import asyncio
        from flash_nb import remote, LiveServerless

        gpu_config = LiveServerless(name="my-first-worker")

        @remote(resource_config=gpu_config, dependencies=["numpy"])
        async def gpu_task(data):
            import numpy

            tensor = numpy.array(data)
            return {"sum": tensor.sum().item(), "gpu": "none"}

        async def main():
            result = await gpu_task([1, 2, 3, 4, 5])
            print(result)

        if __name__ == "__main__":
            asyncio.run(main())
        """,
    )
    assert printed.startswith("JobOutput COMPLETED in ")
    assert "{'sum': 15, 'gpu': 'none'}" in printed


def test_hybrid_pipeline(kernel: Kernel) -> None:
    run(
        kernel,
        """
        from flash_nb import remote, LiveServerless, CpuInstanceType, GpuGroup

        cpu_config = LiveServerless(name="preprocessor", instanceIds=[CpuInstanceType.CPU5C_4_8])
        gpu_config = LiveServerless(name="inference", gpus=[GpuGroup.AMPERE_80])

        @remote(resource_config=cpu_config, dependencies=["pandas"])
        async def preprocess(data):
            import pandas as pd
            return pd.DataFrame(data).to_dict('records')

        @remote(resource_config=gpu_config, dependencies=["numpy"])
        async def inference(data):
            import numpy
            return {"result": numpy.array([row["x"] for row in data]).sum().item()}

        async def pipeline(raw_data):
            clean = await preprocess(raw_data)
            return await inference(clean)
        """,
    )
    assert run(kernel, "(await pipeline({'x': [1, 2, 3]})).output") == "{'result': 6}"


def test_fields(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config)
        def double(x, by=2, *, plus=0):
            return x * by + plus
        out = await double(21)
        """,
    )
    assert kernel.value("out.status, out.output, out.error") == ("COMPLETED", 42, "")
    assert kernel.value("out.id[-3:], out.workerId[:2], out.delayTime >= 0, out.executionTime >= 0") == (
        "-u1",
        "w-",
        True,
        True,
    )
    assert kernel.value("out.started_at <= out.ended_at, out.started_at.tzinfo is not None") == (True, True)
    assert run(kernel, "(await double(1, 3, plus=4)).output") == "7"
    assert run(kernel, "(await double(out, plus=out)).output") == "126"
    assert run(kernel, "(await double.submit(5)).output, double.submit(6).result().output") == "(10, 12)"


def test_error_handling(kernel: Kernel) -> None:
    run(kernel, SETUP)
    printed = run(
        kernel,
        """
        @remote(resource_config=config)
        async def my_function(data):
            return 1 / data

        job_output = await my_function(0)
        if job_output.error:
            print(f"Failed: {job_output.error}")
        else:
            result = job_output.output
        """,
    )
    assert printed.startswith("Failed: ZeroDivisionError: division by zero")
    assert "return 1 / data" in printed
    assert kernel.value("job_output.status, job_output.output") == ("FAILED", None)
    reply = kernel.run("await my_function(job_output)")
    assert reply.ename == "ZeroDivisionError"
    assert kernel.run("job_output.unwrap()").ename == "ZeroDivisionError"


def test_parallel(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config)
        async def process_item(item):
            import os, time
            time.sleep(0.5)
            return item, os.getpid()

        results = await asyncio.gather(process_item(1), process_item(2))
        results = await asyncio.gather(*(process_item(n) for n in range(4)))
        """,
    )
    assert kernel.value("[out.output[0] for out in results]") == [0, 1, 2, 3]
    assert kernel.value("len({out.output[1] for out in results})") == 2
    spans = "sorted((out.started_at, out.ended_at) for out in results)"
    assert kernel.value(f"(lambda s: s[1][0] < s[0][1])({spans})") is True  # the first two overlap
    busy = f"(lambda s: max(sum(a <= t < b for a, b in s) for t, _ in s))({spans})"
    assert kernel.value(busy) == 2


def test_local(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config, local=True)
        async def my_function(data):
            import os
            return {"status": "ok", "pid": os.getpid()}

        @remote(resource_config=config, local=True)
        def failing():
            raise ValueError("here")

        out, bad = await my_function(1), await failing()
        """,
    )
    assert kernel.value("out.output['pid'] == __import__('os').getpid(), out.status") == (True, "COMPLETED")
    assert kernel.value("bad.status, bad.error.splitlines()[0]") == ("FAILED", "ValueError: here")


def test_classes(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config, dependencies=[])
        class Counter:
            def __init__(self, start=0):
                self.value = start
            def add(self, amount=1):
                self.value += amount
                return self.value
            async def later(self):
                await asyncio.sleep(0)
                return self.value
            def __call__(self, x):
                return self.value * x

        a, b = Counter(10), Counter()
        values = [(await a.add(n)).output for n in (1, 2)] + [(await b.add()).output]
        values += [(await a.later()).output, (await a(2)).output, a.add.submit(1).result().output]
        """,
    )
    assert kernel.value("values") == [11, 13, 1, 13, 26, 14]


def test_what_a_function_sees(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        import math
        from dataclasses import dataclass

        SCALE = 2

        @dataclass
        class Pair:
            a: int
            b: int

        def helper(x):
            return math.floor(x) * SCALE

        def make(n):
            @remote(resource_config=config)
            def scaled(x, default=Pair(1, 2)):
                return Pair(helper(x) * n, default.b)
            return scaled

        out = await make(3)(2.5)
        """,
    )
    assert kernel.value("out.output == Pair(12, 2), type(out.output) is Pair") == (True, True)
    run(kernel, "SCALE = 10\nout = await make(1)(1)")
    assert kernel.value("out.output") == "Pair(a=10, b=2)"


def test_prints_come_to_the_cell(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        "@remote(resource_config=config)\ndef talk(n):\n    print('line', n)\n    display(n)\n    return n",
    )
    reply = kernel.run("await talk(1)\nawait talk(2)").ok()
    assert reply.stdout == "line 1\nline 2\n"
    assert [shown.text for shown in reply.shown] == ["1", "2"]


def test_result_that_cannot_be_read_here(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(kernel, "other = CpuLiveServerless(name='other')")
    run(
        kernel,
        """
        @remote(resource_config=other, dependencies=["toolz"])
        def far():
            import toolz
            return toolz.curry(max)
        """,
    )
    reply = kernel.run("await far()")
    assert reply.ename == "SerializationError"
    assert "No module named 'toolz'" in reply.traceback


def test_errors_before_sending(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(kernel, "@remote(resource_config=config)\ndef take(data):\n    return len(data)")
    reply = kernel.run("import threading\nawait take({'k': threading.Lock()})")
    assert reply.ename == "SerializationError"
    assert "argument 1['k'] cannot be sent" in reply.evalue
    assert "PayloadTooLargeError" in kernel.run("await take(bytes(9_000_000))").traceback
    reply = kernel.run("remote(resource_config='config')")
    assert reply.ename == "ResourceError"


# code -> the text of its value
ASYNCIO_RUN = {
    "asyncio.run(main())": "7",
    "x = asyncio.run(main())\nx": "7",
    "asyncio.run(\n    main()\n)": "7",
    "asyncio.run(main()).bit_length()": "3",
    "asyncio.run(obj.method())": "8",
    "[asyncio.run(main()) for _ in range(2)]": "[7, 7]",
    "print('é', asyncio.run(main()), 'é')": "é 7 é\n",
    "if True:\n    y = asyncio.run(main())\ny": "7",
}


def test_asyncio_run(kernel: Kernel) -> None:
    run(
        kernel,
        """
        import asyncio
        async def main():
            await asyncio.sleep(0)
            return 7
        class Obj:
            async def method(self): return 8
        obj = Obj()
        """,
    )
    wrong = {}
    for code, text in ASYNCIO_RUN.items():
        reply = kernel.run(code)
        found = reply.result["text/plain"] if reply.result else reply.stdout or reply.evalue
        if found != text:
            wrong[code] = found
    assert wrong == {}

"""Load-balanced functions in a notebook, as the documentation has them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from kernels import Kernel, run, value

SETUP = """
from flash_nb import CpuLiveLoadBalancer, CpuLiveServerless, LiveLoadBalancer, remote

api = LiveLoadBalancer(name="api-service", idleTimeout=60)

@remote(api, method="POST", path="/api/process")
async def process(x: int, y: int):
    return {"result": x + y}

@remote(api, method="GET", path="/api/health")
def health():
    return {"status": "ok"}
"""


def curl(kernel: Kernel, route: str, *arguments: str) -> str:
    """Call a route of the kernel with curl; return what it printed."""
    url = kernel.value(f"{route}.url")
    home = Path(kernel.value("__import__('os').environ['FLASH_HOME']"))
    token = json.loads((home / "engine.json").read_text())["api_key"]
    command = ["curl", "-sS", url, "-H", f"Authorization: Bearer {token}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_a_call_gives_the_dict_directly(kernel: Kernel) -> None:
    run(kernel, SETUP)
    assert value(kernel, "await process(1, 2)") == {"result": 3}
    assert value(kernel, "await process(x=1, y=5)") == {"result": 6}
    assert value(kernel, "await health()") == {"status": "ok"}


def test_curl_gets_the_same(kernel: Kernel) -> None:
    run(kernel, SETUP)
    body = ("-H", "Content-Type: application/json", "-d", '{"x": 20, "y": 22}')
    assert json.loads(curl(kernel, "process", *body)) == {"result": 42}
    assert json.loads(curl(kernel, "health")) == {"status": "ok"}
    assert kernel.value("process.url.endswith('/api/process')") is True


def test_gather_runs_requests_at_the_same_time(kernel: Kernel) -> None:
    run(
        kernel,
        SETUP
        + """
import asyncio

waiting = []

@remote(api, method="POST", path="/meet")
async def meet(count: int):
    import asyncio
    waiting.append(1)
    while len(waiting) < count:
        await asyncio.sleep(0.01)
    return len(waiting)
""",
    )
    assert value(kernel, "await asyncio.gather(*(meet(8) for _ in range(8)))") == [8] * 8


def test_values_go_to_path_query_header_and_body(kernel: Kernel) -> None:
    run(
        kernel,
        """
        import datetime
        import pydantic
        from flash_nb import CpuLiveLoadBalancer, remote

        api = CpuLiveLoadBalancer(name="shop", idleTimeout=60)

        class Order(pydantic.BaseModel):
            item: str
            count: int = 1

        @remote(api, method="GET", path="/items/{item}/of/{shop}")
        def item(item: str, shop: int, q: str = "none", tags: list[str] | None = None, flag: bool = False):
            return [item, shop, q, tags, flag]

        @remote(api, method="POST", path="/orders")
        def order(order: Order):
            return {"total": order.count * 2}

        @remote(api, method="PUT", path="/day")
        def day(when: datetime.date, notes: dict):
            return [when.year, notes]

        @remote(api, method="GET", path="/files/{name:path}")
        def file(name: str):
            return name
        """,
    )
    assert value(kernel, "await item('a%b c', 3)") == ["a%b c", 3, "none", None, False]
    assert value(kernel, "await item('x', 3, q='ä&', flag=True)") == ["x", 3, "ä&", None, True]
    assert value(kernel, "await order(Order(item='tea', count=4))") == {"total": 8}
    assert value(kernel, "await order({'item': 'tea'})") == {"total": 2}
    assert value(kernel, "await day(datetime.date(2026, 1, 2), {'a': [1]})") == [2026, {"a": [1]}]
    assert value(kernel, "await file('a/b c.txt')") == "a/b c.txt"
    assert "{item:path}" in kernel.run("await item('a/b', 3)").evalue


def test_a_route_sees_helpers_and_values_of_the_notebook_as_they_are_now(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        FACTOR = 2

        def scaled(x):
            return x * FACTOR

        @remote(api, method="POST", path="/scale")
        def scale(x: int):
            return scaled(x)
        """,
    )
    assert value(kernel, "await scale(4)") == 8
    run(kernel, "FACTOR = 10")
    assert value(kernel, "await scale(4)") == 40
    run(kernel, "def scaled(x): return -x")
    assert value(kernel, "await scale(4)") == -4
    assert value(kernel, "await process(1, 1)") == {"result": 2}


def test_a_function_defined_again_replaces_its_route(kernel: Kernel) -> None:
    run(kernel, SETUP.replace("api-service", "defined-again"))
    assert value(kernel, "await health()") == {"status": "ok"}
    run(
        kernel,
        """
        @remote(api, method="GET", path="/api/health2")
        def health():
            return {"status": "better"}
        """,
    )
    assert value(kernel, "await health()") == {"status": "better"}
    schema = json.loads(curl_path(kernel, "/openapi.json"))
    assert sorted(schema["paths"]) == ["/api/health2", "/api/process"]


def curl_path(kernel: Kernel, path: str) -> str:
    run(kernel, f"class at: url = process.url.removesuffix('/api/process') + {path!r}")
    return curl(kernel, "at")


def test_the_route_is_called_once_though_its_worker_dies(kernel: Kernel, tmp_path: Path) -> None:
    log = tmp_path / "log"
    run(
        kernel,
        SETUP
        + f"""
@remote(api, method="POST", path="/die")
def die():
    import os
    with open({str(log)!r}, "a") as file:
        file.write("x")
    os.kill(os.getpid(), 9)
""",
    )
    reply = kernel.run("await die()")
    assert reply.ename == "RemoteExecutionError"
    assert "502" in reply.evalue
    assert log.read_text() == "x"


def test_errors_say_what_the_route_answered(kernel: Kernel) -> None:
    run(
        kernel,
        SETUP
        + """
@remote(api, method="GET", path="/fail")
def fail(kind: str):
    if kind == "http":
        from fastapi import HTTPException
        raise HTTPException(404, "no such model")
    raise ValueError("bad " + kind)

async def caught(call):
    try:
        await call
    except Exception as error:
        return type(error).__name__, error.message, error.remote_type, error.remote_message
""",
    )
    name, message, kind, told = value(kernel, "await caught(fail('luck'))")
    assert (name, kind, told) == ("RemoteExecutionError", "ValueError", "bad luck")
    assert message == "GET /fail of api-service answered 500: ValueError: bad luck"
    assert value(kernel, "await caught(fail('http'))")[1].endswith("answered 404: no such model")
    assert "422: body.x: Input should be a valid integer" in value(kernel, "await caught(process('a', 1))")[1]


def test_what_cannot_be_json_is_refused_before_it_is_sent(kernel: Kernel) -> None:
    run(kernel, SETUP + "\nimport numpy as np")
    reply = kernel.run("await process(np.ones(3), {'a': [object()]})")
    assert reply.ename == "SerializationError"
    assert "argument x cannot be sent as JSON: it is a numpy.ndarray" in reply.evalue
    reply = kernel.run("await process(1, {'a': [object()]})")
    assert "argument y['a'][0]" in reply.evalue
    reply = kernel.run("await process(1)")
    assert reply.ename == "TypeError"


def test_local(kernel: Kernel) -> None:
    run(
        kernel,
        """
        import os
        from flash_nb import CpuLiveLoadBalancer, remote

        here = CpuLiveLoadBalancer(name="here")

        @remote(here, method="POST", path="/p", local=True)
        async def pid():
            return os.getpid()
        """,
    )
    assert value(kernel, "await pid() == os.getpid()") is True


@pytest.mark.parametrize(
    ("decorator", "said"),
    [
        ("@remote(api)", "needs method and path"),
        ('@remote(api, method="POST")', "needs path"),
        ('@remote(api, path="/p")', "needs method"),
        ('@remote(api, method="POST", path="p")', "must begin with '/'"),
        ('@remote(api, method="FETCH", path="/p")', "is not one of GET, POST, PUT, DELETE, PATCH"),
        ('@remote(api, method="post", path="/p")', "did you mean 'POST'"),
        ('@remote(api, method="GET", path="/ping")', "is taken"),
        ('@remote(api, method="GET", path="/p/{y}")', "has no such parameter"),
        ('@remote(CpuLiveServerless(name="q"), method="GET", path="/p")', "has a queue and no routes"),
    ],
)
def test_what_cannot_be_a_route_is_refused_at_decoration(decorator: str, said: str) -> None:
    from flash_nb import CpuLiveLoadBalancer, CpuLiveServerless, remote
    from flash_nb.errors import ResourceError

    names = {"api": CpuLiveLoadBalancer(name="api"), "CpuLiveServerless": CpuLiveServerless, "remote": remote}
    with pytest.raises(ResourceError) as refused:
        exec(f"{decorator}\ndef f(x=1): ...", names)
    assert said in str(refused.value)


def test_classes_and_cells_are_refused(kernel: Kernel) -> None:
    run(kernel, SETUP)
    reply = kernel.run('@remote(api, method="GET", path="/c")\nclass C: ...')
    assert reply.ename == "ResourceError"
    assert "C is a class" in reply.evalue
    reply = kernel.run("%%flash_remote --resource api\nx = 1")
    assert "takes no cells" in reply.evalue

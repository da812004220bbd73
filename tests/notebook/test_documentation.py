"""The Python of Flash's documentation, in a notebook: each construct, with names and data of our own.

The snippets are the files of ``documentation/``; ``# %%`` begins a cell. They import from `flash_nb`
only what `runpod_flash` 1.0.0 exports, so that the package's name is all that has to change.

NumPy stands where the documentation has torch: torch takes minutes to install, and there is no GPU
here for ``device="cuda"``.

Not here yet: gotcha 8, a bundle over 500 MB, comes with ``flash build`` (issue 6), and so do the
commands ``flash init``, ``run``, ``build``, ``deploy`` and ``undeploy`` (issues 6 and 7).
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kernels import Engine, Kernel, Reply

FOLDER = Path(__file__).parent / "documentation"
FILES = sorted(FOLDER.glob("*.py"))

EXPORTS = frozenset({
    "CpuInstanceType", "CpuLiveLoadBalancer", "CpuLiveServerless", "CpuLoadBalancerSlsResource",
    "CpuServerlessEndpoint", "CudaVersion", "DataCenter", "FlashApp", "GpuGroup", "GpuType",
    "LiveLoadBalancer", "LiveServerless", "LoadBalancerSlsResource", "NetworkVolume", "PodTemplate",
    "ResourceManager", "ServerlessEndpoint", "ServerlessType", "remote",
})  # fmt: skip
REMOTE = frozenset({
    "resource_config", "dependencies", "system_dependencies", "accelerate_downloads", "local", "method",
    "path",
})  # fmt: skip
RESOURCE = frozenset({
    "name", "gpus", "instanceIds", "workersMin", "workersMax", "idleTimeout", "networkVolume",
    "networkVolumeId", "env", "template",
})  # fmt: skip
TEMPLATE = frozenset({"containerDiskInGb", "env"})
VOLUME = frozenset({"name", "size", "dataCenterId"})
KEYWORDS = {"remote": REMOTE, "PodTemplate": TEMPLATE, "NetworkVolume": VOLUME}


def cells(name: str) -> dict[str, str]:
    """Return the cells of a file by their titles."""
    _, *parts = (FOLDER / f"{name}.py").read_text().split("# %% ")
    return {title: code for title, _, code in (part.partition("\n") for part in parts)}


def run(kernel: Kernel, name: str) -> list[Reply]:
    """Run every cell of a file."""
    return [kernel.run(code).ok() for code in cells(name).values()]


def refusal(kernel: Kernel, code: str) -> str:
    """Run a cell that must fail; return the error's type and text."""
    reply = kernel.run(code)
    assert reply.status == "error", reply
    return f"{reply.ename}: {reply.evalue}"


# --- the same code for both packages ----------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_only_the_name_of_the_package_tells_it_from_the_official_one(file: Path) -> None:
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree = compile(file.read_text(), file.name, "exec", flags)
    assert isinstance(tree, ast.Module)
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flash_nb"):
            assert node.module == "flash_nb"
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            assert not any(alias.name.partition(".")[0] == "flash_nb" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in EXPORTS:
            assert {keyword.arg for keyword in node.keywords} <= KEYWORDS.get(node.func.id, RESOURCE)
    assert imported
    assert imported <= EXPORTS


# --- effects ------------------------------------------------------------------------------------------


def test_getting_started(kernel: Kernel) -> None:
    (reply,) = run(kernel, "getting_started")
    assert reply.stdout.startswith("JobOutput COMPLETED in ")
    assert "{'sum': 20, 'device': 'none'}" in reply.stdout


def test_getting_started_as_a_script(engine: Engine, tmp_path: Path) -> None:
    file = FOLDER / "getting_started.py"
    command = [sys.executable, str(file)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "JobOutput COMPLETED in " in ran.stdout
    assert "{'sum': 20, 'device': 'none'}" in ran.stdout


def test_core_concept(kernel: Kernel) -> None:
    run(kernel, "core_concept")
    assert kernel.value("squared.output['result']") == pytest.approx(14 / 3)
    assert kernel.value("squared.output['process'] != __import__('os').getpid()") is True
    assert kernel.value("tools.output") == ("six", True)
    assert kernel.value("greeted") == {"text": "good day"}


def test_scope(kernel: Kernel) -> None:
    """What the documentation calls wrong works here: what is outside travels. ``strict`` forbids it."""
    run(kernel, "scope")
    assert kernel.value("inside_sums.output") == [1, 3, 6]
    assert kernel.value("four.output") == '{"parameter": [3, 1, 2], "local": 3, "builtin": 3}'
    kernel.run("outside_sums = await outside([1, 2, 3])").ok()
    assert kernel.value("outside_sums.output, outside_sums.carried.modules") == ([1, 3, 6], ("numpy as np",))
    wrong = cells("scope")["wrong, says the documentation: the module is imported outside"]
    said = refusal(kernel, wrong.replace("resource_config=bounds", "resource_config=bounds, strict=True"))
    assert said.startswith("ScopeError: ")
    assert "np" in said


def test_return_behaviour(kernel: Kernel) -> None:
    run(kernel, "returns")
    assert kernel.value("fields") == ("COMPLETED", {"half": 3.5}, "")
    assert kernel.value("bool(facts[0]) and facts[1] <= facts[2]") is True
    assert kernel.value("direct") == {"half": 3.5}


def test_parameters_of_resources(kernel: Kernel) -> None:
    run(kernel, "parameters")
    assert kernel.value("seen.output") == ("careful", "vol_4711")
    assert kernel.value("devices.output, plain.output") == ("", "here")
    assert kernel.value("from_template.output") == ("/data", "endpoint")
    assert kernel.value("kept.output") == "weights of the model"
    assert kernel.value("str(cores.instanceIds[0]), str(plain_cores.instanceIds[0])") == (
        "cpu5c-4-8",
        "cpu3g-2-8",
    )
    wire = kernel.value("common.wire()")
    assert (wire["gpuIds"], wire["workersMax"], wire["idleTimeout"]) == ("AMPERE_80", 2, 120)
    assert (wire["networkVolumeId"], wire["template"]["containerDiskInGb"]) == ("vol_4711", 80)
    assert kernel.value("thrifty.workersMin, thrifty.idleTimeout") == (0, 600)


def test_load_balancer(kernel: Kernel) -> None:
    run(kernel, "load_balancer")
    assert kernel.value("charged, state") == ({"total": 23}, {"open": True})


def test_error_handling(kernel: Kernel) -> None:
    run(kernel, "error_handling")
    (message,) = kernel.value("messages")
    assert message.startswith("Failed: ValueError: invalid literal for int() with base 10: 'twelve'")
    assert "return int(text)" in message
    assert kernel.value("number") == 12
    assert kernel.value("opened") == {"gate": "open"}
    assert kernel.value("refused").startswith(
        "Error: POST /gate/open of gate answered 500: PermissionError: wrong word"
    )


def test_runtime_exceptions(kernel: Kernel) -> None:
    """One base class catches what goes wrong at run time; the official package keeps it in a submodule."""
    kernel.run(
        """
        from flash_nb import (
            CpuLiveLoadBalancer, CpuLiveServerless, FlashRuntimeError, RemoteExecutionError,
            SerializationError, remote,
        )
        risky = CpuLiveServerless(name="risky")
        risky_api = CpuLiveLoadBalancer(name="risky-api")

        @remote(resource_config=risky)
        async def give_back(kind):
            import threading
            return threading.Lock() if kind == "lock" else kind

        @remote(risky_api, method="GET", path="/risk")
        async def risk():
            raise LookupError("nothing there")

        caught = []
        for attempt in (lambda: risk(), lambda: give_back(threading.Lock())):
            try:
                import threading
                await attempt()
            except FlashRuntimeError as error:
                caught.append((type(error).__name__, str(error)))
        returned = await give_back("lock")
        """
    ).ok()
    (kind, said), (second, unsent) = kernel.value("caught")
    assert (kind, second) == ("RemoteExecutionError", "SerializationError")
    assert "LookupError: nothing there" in said
    assert "argument 1 cannot be sent" in unsent
    assert kernel.value("returned.status, type(returned.exception).__name__") == (
        "FAILED",
        "SerializationError",
    )


def test_patterns(kernel: Kernel) -> None:
    run(kernel, "patterns")
    assert kernel.value("weighed.output") == {"result": 4.0}
    assert kernel.value("[word.output for word in words]") == ["ONE", "TWO", "THREE"]
    assert kernel.value("rehearsed.output == {'rows': 2, 'process': __import__('os').getpid()}") is True


# --- common gotchas -----------------------------------------------------------------------------------


def gotcha(kernel: Kernel, number: int) -> None:
    """Run the cells of a gotcha, after the first one, which has the imports."""
    for title, code in cells("gotchas").items():
        if title.startswith(("1 ", f"{number} ")):
            kernel.run(code).ok()


def test_gotcha_1_outside_names_travel_and_missing_ones_are_named(kernel: Kernel) -> None:
    gotcha(kernel, 1)
    kernel.run("out = await uses_outside(2)").ok()
    assert kernel.value("out.output") == 6
    assert kernel.value("str(out.carried)").startswith("source of rated · values rate (")
    said = refusal(kernel, "await uses_nothing_that_exists(2)")
    assert said.startswith("UndefinedNameError: uses_nothing_that_exists() ")
    assert "rate_of_nobody" in said


def test_gotcha_2_without_await_there_is_no_job_and_python_says_so(kernel: Kernel, engine: Engine) -> None:
    gotcha(kernel, 1)
    kernel.run("await uses_outside(1)").ok()
    before = len(engine.jobs())
    gotcha(kernel, 2)
    assert refusal(kernel, "forgotten['x']") == "TypeError: 'coroutine' object is not subscriptable"
    reply = kernel.run("import warnings; warnings.simplefilter('always')\ndel forgotten").ok()
    assert "RuntimeWarning: coroutine 'never_awaited' was never awaited" in reply.stderr
    assert len(engine.jobs()) == before


def test_gotcha_3_imports_are_dependencies_and_absent_ones_are_named(kernel: Kernel) -> None:
    gotcha(kernel, 3)
    kernel.run("out, bad = await undeclared(), await undeclared_and_nowhere()").ok()
    assert kernel.value("out.output == __import__('six').__version__") is True
    said = kernel.value("bad.error")
    assert said.startswith(
        "WorkerEnvironmentError: The dependency 'flash-nb-has-no-such-project' cannot be installed"
    )
    assert "The name to install can differ from the name to import: cv2 is in opencv-python." in said


def test_gotcha_4_a_queue_and_a_load_balancer_are_told_apart_by_the_message(kernel: Kernel) -> None:
    gotcha(kernel, 4)
    run(kernel, "load_balancer")
    said = refusal(kernel, "(await queue_like(1))['x']")
    assert said == "TypeError: 'JobOutput' object is not subscriptable"
    assert (
        refusal(kernel, "(await till_state()).output")
        == "AttributeError: 'dict' object has no attribute 'output'"
    )


def test_gotcha_5_large_values_are_refused_with_their_sizes(kernel: Kernel) -> None:
    gotcha(kernel, 5)
    said = refusal(kernel, "await takes_much(bytes(9_000_000))")
    assert said.startswith("PayloadTooLargeError: ")
    assert "blob" in said
    assert "over the limit of 10.0 MB for one request: blob 11.4 MB" in said
    assert "pass a URL or a path and read it there" in said


def test_gotcha_6_a_module_imported_outside_is_imported_there_too(kernel: Kernel) -> None:
    gotcha(kernel, 6)
    kernel.run("out = await counts('noon!!!')").ok()
    assert kernel.value("out.output, out.carried.modules") == ([("!", 3)], ("collections",))


def test_gotcha_7_a_route_needs_method_and_path(kernel: Kernel) -> None:
    gotcha(kernel, 1)
    said = refusal(kernel, cells("gotchas")["7 a route without method and path"])
    assert said.startswith(
        "ResourceError: no_route runs on a load-balanced resource and needs method and path"
    )
    assert '@remote(api, method="POST", path="/api/process")' in said


def test_gotcha_9_a_name_is_one_endpoint_however_often_it_is_declared(kernel: Kernel, engine: Engine) -> None:
    gotcha(kernel, 9)
    kernel.run("await uses_outside(1), await on_the_same_endpoint()").ok()
    known = [endpoint for endpoint in engine.call("endpoints") if endpoint["name"] == "trap"]
    assert [endpoint["scaling"]["workers_max"] for endpoint in known] == [2]
    engine.call("delete", endpoint_id=known[0]["id"])
    assert "trap" not in {endpoint["name"] for endpoint in engine.call("endpoints")}


def test_the_key_of_the_documentation_is_not_needed_here() -> None:
    """``RUNPOD_API_KEY`` is for the service; all of the above ran on the local engine."""
    assert "RUNPOD_API_KEY" not in os.environ

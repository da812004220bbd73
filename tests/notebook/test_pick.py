"""``%flash use`` and ``%flash pick`` in a kernel: typed, clicked, ended, and without widgets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager
from kernels import TIMEOUT_S, Engine, Kernel, in_terminal

VIEW = "application/vnd.jupyter.widget-view+json"
CLOSED = "The picker is closed; nothing was chosen."


@pytest.fixture(autouse=True)
def nothing_chosen(kernel: Kernel) -> Iterator[None]:
    yield
    kernel.run("%flash use --none").ok()
    assert not kernel.widgets, "a widget was left open"


def runs_on(kernel: Kernel, options: str = "") -> str:
    """Return the record of a cell that says nothing of where it runs."""
    return kernel.remote("1", options).ok().record


# --- typed --------------------------------------------------------------------------------------------


def test_use_makes_a_resource_and_bare_cells_run_on_it(kernel: Kernel) -> None:
    assert "on notebook" in runs_on(kernel)
    reply = kernel.run("%flash use --gpu AMPERE_80 --gpu ADA_80_PRO --workers 0:2 --idle 60 train").ok()
    assert reply.displays[0].text == (
        "✓ train is this notebook's default · A100 80 GB (AMPERE_80) or 1 more · 0–2 workers · idle 60 s · "
        "$2.74–4.18 simulated an hour of work"
    )
    assert "GpuGroup.ADA_80_PRO" in reply.displays[0].data["text/html"]
    assert kernel.value("[g.value for g in train.gpus], train.workersMax, train.idleTimeout") == (
        ["AMPERE_80", "ADA_80_PRO"],
        2,
        60,
    )
    assert "on train" in runs_on(kernel)
    assert "on notebook" in runs_on(kernel, "--cpu cpu3g-2-8"), "what a cell says itself wins"
    assert "on other" in runs_on(kernel, "--name other")


def test_use_takes_a_resource_of_the_notebook_and_follows_its_variable(kernel: Kernel) -> None:
    kernel.run("from flash_nb import *; mine = CpuLiveServerless(name='first')").ok()
    assert "✓ mine is this notebook's default" in kernel.run("%flash use mine").ok().displays[0].text
    assert "on first" in runs_on(kernel)
    kernel.run("mine = CpuLiveServerless(name='second')").ok()
    assert "on second" in runs_on(kernel)
    kernel.run("mine = 3").ok()
    assert "on first" in runs_on(kernel), "what was chosen, where the variable holds no resource any more"
    kernel.run("%flash use --none").ok()
    assert "on notebook" in runs_on(kernel)


def test_the_packages_of_the_default_are_those_of_its_cells(kernel: Kernel) -> None:
    kernel.run("%flash use --cpu cpu3g-2-8 --deps surely-no-such-package-7421 lacking").ok()
    reply = kernel.remote("1")
    assert reply.status == "error"
    assert "surely-no-such-package-7421" in reply.evalue + reply.traceback
    assert "on lacking" in kernel.remote("1", "--resource lacking").ok().record


def test_a_default_defines_functions_too(kernel: Kernel) -> None:
    kernel.run("%flash use --gpu ADA_24 functions").ok()
    kernel.remote("def twice(x):\n    return 2 * x").ok()
    reply = kernel.run("out = await twice(21)").ok()
    assert kernel.value("out.output") == 42
    assert "functions" in reply.record or "functions" in kernel.value("twice.__repr__()")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("use", "give --gpu GROUP, --cpu INSTANCE, the NAME of a variable, or --none"),
        ("use trian", "no resource is called 'trian'; did you mean 'train'?"),
        ("use api", "api is a LiveLoadBalancer, which takes no cells"),
        ("use train --idle 9", "give --gpu or --cpu too, or only the NAME"),
        ("use --none train", "--none stands alone"),
        ("use --gpu AMPERE_8O", "did you mean GpuGroup.AMPERE_80"),
        ("use --gpu ADA_24 --workers 3:1", "workersMin=3 must not be more than workersMax=1"),
        ("use --gpu ADA_24 --workers few", "--workers 'few' is neither MIN:MAX nor MAX"),
        ("use --gpu ADA_24 --worker 0:3", "no such option: --worker"),
        ("use --gpu ADA_24 --idle soon", "Invalid value for '--idle'"),
        ("use --gpu ADA_24 --env NO_SUCH_VARIABLE", "NO_SUCH_VARIABLE: not set in the environment"),
        ("pick my gpu", "unexpected extra argument"),
        ("pick 3", "'3' is no name for a variable"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line(kernel: Kernel, line: str, error: str) -> None:
    kernel.run(
        "from flash_nb import *; train = LiveServerless(name='t'); api = LiveLoadBalancer(name='a')"
    ).ok()
    reply = kernel.run(f"%flash {line}")
    assert (reply.status, reply.ename) == ("error", "UsageError")
    assert error in reply.stderr + reply.evalue
    assert "on notebook" in runs_on(kernel), "nothing was chosen"


# --- clicked ------------------------------------------------------------------------------------------


def pick(kernel: Kernel, name: str = ""):
    reply = kernel.run_in_person(f"%flash pick {name}").ok()
    (display,) = reply.displays
    return display


def cost(kernel: Kernel) -> str:
    """Return what the open picker says of the costs."""
    (shown,) = [
        state["value"]
        for state in kernel.widgets.values()
        if state.get("_model_name") == "HTMLModel" and "border-left" in state["value"]
    ]
    return shown


def test_pick_by_clicks(kernel: Kernel) -> None:
    display = pick(kernel, "clicked")
    assert display.data[VIEW]["model_id"] in kernel.widgets
    assert "AMPERE_80 " in display.text, "the table for those who see no widgets"
    assert "Choose a GPU group" in json.dumps(kernel.widgets)
    kernel.click("Use")
    assert VIEW in display.data, "it stays"
    kernel.set(kernel.widget(description="AMPERE_80"), True)
    assert "Choose a GPU group" not in json.dumps(kernel.widgets)
    assert "<b>$2.74</b> an hour of work" in cost(kernel)
    assert "simulated on this machine: nothing is paid" in cost(kernel)
    kernel.set(kernel.widget(description="ADA_80_PRO"), True)
    assert "<b>$2.74–4.18</b> an hour of work" in cost(kernel)
    kernel.set(kernel.widget(description="Workers"), 5)
    assert kernel.widgets[kernel.widget(description="to")]["value"] == 5, "one bound moved the other"
    kernel.set(kernel.widget(description="idle seconds"), 60)
    kernel.set(kernel.widget(description="Packages"), "numpy, ")
    kernel.click("↑")
    kernel.click("Use")
    assert not kernel.widgets, "each model is closed, layouts and styles too"
    assert set(display.data) == {"text/html", "text/plain"}
    assert "✓ clicked is this notebook's default · H100 80 GB (ADA_80_PRO) or 1 more" in display.text
    made = "[g.value for g in clicked.gpus], clicked.workersMin, clicked.workersMax, clicked.idleTimeout"
    assert kernel.value(made) == (["ADA_80_PRO", "AMPERE_80"], 5, 5, 60)
    kernel.run("%flash use --none").ok()


def test_pick_a_cpu_and_run_a_cell_on_it(kernel: Kernel) -> None:
    display = pick(kernel)
    kernel.set(kernel.widget(_model_name="ToggleButtonsModel"), 1, trait="index")
    assert "No price is known for CPU instances" in cost(kernel)
    kernel.click("Code")
    assert any("CpuLiveServerless(" in str(state.get("value")) for state in kernel.widgets.values())
    kernel.click("Use")
    assert "✓ resource is this notebook's default · CPU 2 vCPU 8 GB" in display.text
    assert "on resource" in runs_on(kernel)


def test_close_chooses_nothing(kernel: Kernel) -> None:
    display = pick(kernel)
    kernel.set(kernel.widget(description="ADA_24"), True)
    kernel.click("Close")
    assert display.text == CLOSED
    assert "on notebook" in runs_on(kernel)


def test_a_second_picker_and_unloading_close_the_first(kernel: Kernel) -> None:
    first = pick(kernel)
    second = pick(kernel)
    assert (first.text, VIEW in second.data) == (CLOSED, True)
    kernel.run("%unload_ext flash_nb").ok()
    kernel.run("%load_ext flash_nb").ok()
    assert second.text == CLOSED


def test_values_of_variables_are_never_shown(kernel: Kernel) -> None:
    kernel.run("import os; os.environ['PICK_TOKEN'] = 'pick-' + 'secret'").ok()
    display = pick(kernel, "tokened")
    kernel.set(kernel.widget(description="ADA_24"), True)
    kernel.set(kernel.widget(description="Environment"), "PICK_TOKEN, PICK_NOPE")
    assert "PICK_NOPE: not set" in json.dumps(kernel.widgets)
    kernel.run("os.environ['PICK_NOPE'] = 'pick-' + 'secret'").ok()
    kernel.click("Code")
    assert "pick-secret" not in json.dumps(kernel.widgets)
    kernel.click("Use")
    assert "pick-secret" not in json.dumps(display.data)
    assert "os.environ" in display.data["text/html"]
    assert kernel.remote("import os\nos.environ['PICK_TOKEN']").ok().result["text/plain"] == "'pick-secret'"


def test_clicks_in_many_threads_are_all_counted(kernel: Kernel) -> None:
    """A front end may have them handled in subshells, each of which is a thread."""
    display = pick(kernel, "threaded")
    kernel.run(
        """
        import threading
        picker = get_ipython()._flash_magics.notebook.picker
        boxes = [*picker._controls.boxes.values()]
        together = threading.Barrier(len(boxes))
        def click(box):
            together.wait()
            box.value = True
        threads = [threading.Thread(target=click, args=[box]) for box in boxes]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """
    ).ok()
    kernel.click("Use")
    assert "threaded is this notebook's default" in display.text
    assert (
        kernel.value("sorted(g.value for g in threaded.gpus) == sorted(b.description for b in boxes)") is True
    )


# --- without widgets, without a kernel ----------------------------------------------------------------


def test_the_end_of_the_kernel_closes_it(engine: Engine, tmp_path: Path) -> None:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(tmp_path))
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=TIMEOUT_S)
        other = Kernel(client, manager)
        other.run("%load_ext flash_nb").ok()
        reply = other.run_in_person("%flash pick").ok()
        client.shutdown()
        while reply.displays[0].text != CLOSED or other.widgets:
            other.listen()
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_without_a_person_it_lists_what_there_is(kernel: Kernel) -> None:
    """As nbclient runs it: what it shows is saved, and nobody could press a button."""
    reply = kernel.run("%flash pick").ok()
    assert not reply.displays
    assert "AMPERE_80" in reply.stdout
    assert "%flash use --gpu GROUP" in reply.stdout


def test_terminal(engine: Engine) -> None:
    script = (
        "%load_ext flash_nb\n%flash pick\n%flash use --cpu cpu3g-4-16 plain\n"
        "get_ipython().run_cell_magic('flash_remote', '', 'v = 7')\nprint('here', v, plain.name)\n"
        "import sys; print('widgets', 'ipywidgets' in sys.modules)\n"
    )
    printed = in_terminal(script)
    assert "AMPERE_80      A100 PCIe, A100 SXM4" in printed
    assert "Choose: %flash use --gpu GROUP" in printed
    assert "✓ plain is this notebook's default · CPU 4 vCPU 16 GB (cpu3g-4-16)" in printed
    assert "here 7 plain" in printed
    assert "on plain" in printed
    assert "widgets False" in printed


def test_loading_the_extension_imports_no_widgets(kernel: Kernel) -> None:
    program = (
        "import sys; from IPython.core.interactiveshell import InteractiveShell as S; "
        "S.instance().run_line_magic('load_ext', 'flash_nb'); "
        "print({'ipywidgets', 'pydantic', 'httpx', 'flash_nb.notebook.choosing'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"

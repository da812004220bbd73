"""``%flash jobs`` in a real kernel: the live table, and its buttons pressed as a front end would."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kernels import Display, Engine, Kernel, Reply, detach, in_terminal, wait_for

VIEW = "application/vnd.jupyter.widget-view+json"
BUTTONS = {"Cancel", "Retry", "Logs", "✕"}


FORGET = "from flash_nb.sdk.session import current_session; current_session().board._posts.clear()"


@pytest.fixture(autouse=True)
def nothing_left(kernel: Kernel) -> Iterator[None]:
    """End what a test has left, collect it, and forget it."""
    yield
    kernel.run("%flash cancel --all").ok()
    kernel.run("%flash jobs").ok()  # takes over: with nobody to press buttons, there are none
    wait_for(lambda: not live(kernel))
    kernel.run(f"{FORGET}\n%flash attach\n{FORGET}").ok()


def live(kernel: Kernel) -> list[dict[str, object]]:
    told = kernel.run("%flash jobs --json").ok().stdout.splitlines()
    return [job for job in map(json.loads, told) if job["status"] in {"IN_QUEUE", "IN_PROGRESS"}]


def table(kernel: Kernel, *, person: bool = False) -> Reply:
    return kernel.wait(kernel.start_as_is("%flash jobs", person=person)).ok()


def now(kernel: Kernel, display: Display) -> str:
    """Return what a display shows, without running a cell."""
    kernel.value("0")
    return display.text


def shows(kernel: Kernel, display: Display, pattern: str) -> None:
    """Wait until a display shows something, without running a cell."""
    wait_for(lambda: re.search(pattern, now(kernel, display)))


def words(kernel: Kernel) -> set[str]:
    """Return what is written on the buttons that are shown."""
    kernel.value("0")
    boxes = [each for each in kernel.widgets.values() if each["_model_name"] == "BoxModel"]
    shown = [kernel.widgets[child.removeprefix("IPY_MODEL_")] for box in boxes for child in box["children"]]
    return {each["description"] for each in shown if each["_model_name"] == "ButtonModel"}


def state(kernel: Kernel, **wanted: str) -> dict[str, Any]:
    """Return the state of the one widget that is like this, as a front end knows it now."""
    kernel.value("0")
    return kernel.widgets[kernel.widget(**wanted)]


# --- the table ------------------------------------------------------------------------------------


def test_it_follows_jobs_while_no_cell_runs(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag, "print('in the end')")
    reply = table(kernel)
    (display,) = reply.displays
    assert re.search(r"(○ queued|◐ running) +In \[\d+\] +notebook", display.text)
    flag.touch()
    shows(kernel, display, r"^✓ 1 completed .*\n.*\n\d+ +✓ completed +In \[\d+\] .* in the end$")
    assert "◐" not in display.data["text/html"]


def test_it_wakes_up_when_a_job_begins(kernel: Kernel, flag: Path) -> None:
    display = table(kernel).displays[0]
    assert display.text == "No jobs in this kernel yet."
    detach(kernel, flag)
    shows(kernel, display, "◐ running")
    flag.touch()
    shows(kernel, display, "✓ 1 completed")


def test_a_time_goes_on_while_a_job_runs_and_stops_with_it(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag)
    display = table(kernel).displays[0]
    shows(kernel, display, r"In \[\d+\] .* 2 s +2 s")
    flag.touch()
    shows(kernel, display, "✓ 1 completed")
    kernel.run("task = get_ipython()._flash_magics.notebook.jobs_view._task").ok()
    assert kernel.value("task") is None


def test_a_second_table_takes_over(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag)
    first = table(kernel).displays[0]
    shows(kernel, first, "◐ running")
    second = table(kernel).displays[0]
    as_it_was = now(kernel, first)
    flag.touch()
    shows(kernel, second, "✓ 1 completed")
    assert first.text == as_it_was
    assert "◐ 1 running" in first.text


def test_at_most_four_repaints_in_any_second(kernel: Kernel, flag: Path) -> None:
    display = table(kernel).displays[0]
    printing = "import time\nfor n in range(400):\n    print(n, flush=True)\n    time.sleep(0.01)"
    for _ in range(3):
        kernel.run(f"%%flash_remote --detach\n{printing}").ok()
    shows(kernel, display, "✓ 3 completed")
    times = kernel.update_times[display.display_id or ""]
    assert len(times) >= 8
    for place, begun in enumerate(times):
        assert sum(time - begun < timedelta(seconds=1) for time in times[place:]) <= 4


def test_all_and_json(kernel: Kernel, flag: Path) -> None:
    flag.touch()
    for _ in range(32):
        detach(kernel, flag)
    kernel.run("%flash wait").ok()
    assert now(kernel, table(kernel).displays[0]).endswith("and 2 more: %flash jobs --all")
    every = kernel.run("%flash jobs --all").ok()
    assert every.displays[0].text.count("✓ completed") == 32
    told = [json.loads(line) for line in kernel.run("%flash jobs --json").ok().stdout.splitlines()]
    assert {job["status"] for job in told} == {"COMPLETED"}
    assert [job["number"] for job in told] == sorted((job["number"] for job in told), reverse=True)


def test_a_function_has_its_name(kernel: Kernel) -> None:
    kernel.run(
        """
        from flash_nb import CpuLiveServerless, remote
        @remote(CpuLiveServerless(name="tabled"))
        def double(x):
            return 2 * x
        double.submit(4).result()
        """
    ).ok()
    assert re.search(r"✓ completed +double\(\) +tabled", table(kernel).displays[0].text)


def test_in_a_terminal_it_is_printed_once(engine: Engine) -> None:
    script = "%load_ext flash_nb\nget_ipython().run_cell_magic('flash_remote', '', 'x = 1')\n%flash jobs\n"
    printed = in_terminal(script)
    assert len(re.findall(r"1 +✓ completed +In \[2\] +notebook", printed)) == 1


# --- the buttons ----------------------------------------------------------------------------------


def test_cancel_and_retry(kernel: Kernel, flag: Path) -> None:
    cell = detach(kernel, flag, "late = 5")
    reply = table(kernel, person=True)
    display, buttons = reply.displays
    assert VIEW in buttons.data
    assert words(kernel) == BUTTONS
    kernel.click("Cancel")
    shows(kernel, display, "⊘ 1 cancelled")
    assert "⊘ cancelled" in cell.record
    wait_for(lambda: not state(kernel, description="Retry")["disabled"])
    assert state(kernel, description="Cancel")["disabled"]
    kernel.click("Retry")
    shows(kernel, display, "◐ 1 running")
    flag.touch()
    shows(kernel, display, "✓ 1 completed")
    assert kernel.run("late").ok().result == {"text/plain": "5"}
    assert "✓ completed" in cell.record
    assert state(kernel, description="Retry")["disabled"]


def test_what_is_chosen_is_cancelled_and_stays_chosen(kernel: Kernel, flag: Path) -> None:
    for _ in range(2):
        detach(kernel, flag)
    display = table(kernel, person=True).displays[0]
    shows(kernel, display, "◐ 2 running")
    assert state(kernel, _model_name="DropdownModel")["index"] == 0
    kernel.set(kernel.widget(_model_name="DropdownModel"), 1, trait="index")
    kernel.click("Cancel")
    shows(kernel, display, r"⊘ 1 cancelled")
    first, second = live(kernel), kernel.run("%flash jobs --json").ok().stdout.splitlines()
    assert [job["number"] for job in first] == [json.loads(second[0])["number"]]
    assert state(kernel, _model_name="DropdownModel")["index"] == 1
    detach(kernel, flag)
    wait_for(lambda: len(state(kernel, _model_name="DropdownModel")["_options_labels"]) == 3)
    assert state(kernel, _model_name="DropdownModel")["index"] == 2
    flag.touch()


def test_logs_are_shown_go_on_and_are_hidden(kernel: Kernel, flag: Path) -> None:
    kernel.run(
        "%%flash_remote --detach\nimport pathlib, time\nprint('<begins>')\n"
        f"while not pathlib.Path({str(flag)!r}).exists(): time.sleep(0.01)\nprint('ends')"
    ).ok()
    display = table(kernel, person=True).displays[0]
    shows(kernel, display, "<begins>")
    kernel.click("Logs")
    wait_for(lambda: "&lt;begins&gt;" in state(kernel, _model_name="HTMLModel")["value"])
    flag.touch()
    wait_for(lambda: "ends" in state(kernel, _model_name="HTMLModel")["value"])
    kernel.click("Logs")
    wait_for(lambda: state(kernel, _model_name="HTMLModel")["value"] == "")


def test_what_cannot_be_retried_is_said(kernel: Kernel, flag: Path) -> None:
    kernel.run("%%flash_remote --detach\n1 / 0").ok()
    display = table(kernel, person=True).displays[0]
    shows(kernel, display, "✗ 1 failed")
    wait_for(lambda: not state(kernel, description="Retry")["disabled"])
    kernel.run("%flash down --all").ok()
    kernel.click("Retry")
    wait_for(lambda: "cannot be retried" in state(kernel, _model_name="HTMLModel")["value"])


def test_closed_they_leave_plain_html_and_no_model(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag)
    display, buttons = table(kernel, person=True).displays
    shows(kernel, display, "◐ running")
    kernel.click("✕")
    wait_for(lambda: not words(kernel))
    assert kernel.widgets == {}
    assert {*buttons.data} == {"text/html", "text/plain"}
    flag.touch()
    shows(kernel, display, "✓ 1 completed")  # the table goes on
    assert kernel.widgets == {}


def test_another_table_takes_over_their_place(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag)
    first = table(kernel, person=True).displays[1]
    second = table(kernel, person=True).displays[1]
    assert words(kernel) == BUTTONS
    assert VIEW not in first.data
    assert VIEW in second.data
    kernel.run("%unload_ext flash_nb").ok()
    assert kernel.widgets == {}
    assert VIEW not in second.data
    kernel.run("%load_ext flash_nb").ok()


def test_they_go_when_nothing_happens_and_come_with_the_next_job(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag, "1 / 0")
    kernel.run("import flash_nb.notebook.jobs_controls as module; module.QUIET_S = 0.5").ok()
    try:
        _, buttons = table(kernel, person=True).displays
        flag.touch()
        wait_for(lambda: now(kernel, buttons).startswith("%flash jobs shows the buttons again"))
        assert kernel.widgets == {}
        flag.unlink()
        detach(kernel, flag)
        wait_for(lambda: words(kernel) == BUTTONS)
        assert VIEW in buttons.data
    finally:
        kernel.run("module.QUIET_S = 120").ok()


def test_they_go_when_the_notebook_is_saved_for_what_is_saved_holds_their_view(
    kernel: Kernel, flag: Path, tmp_path: Path
) -> None:
    file = tmp_path / "saved.ipynb"
    file.write_text("{}")
    detach(kernel, flag)
    kernel.run(f"import os; os.environ['JPY_SESSION_NAME'] = {str(file)!r}").ok()
    kernel.run("import flash_nb.notebook.jobs_controls as module; module.SAVED_QUIET_S = 0.2").ok()
    try:
        _, buttons = table(kernel, person=True).displays
        assert VIEW in buttons.data
        later = time.time() + 5
        os.utime(file, (later, later))
        wait_for(lambda: now(kernel, buttons).startswith("%flash jobs shows the buttons again"))
        assert kernel.widgets == {}
        assert VIEW not in buttons.data
    finally:
        kernel.run("module.SAVED_QUIET_S = 5; del os.environ['JPY_SESSION_NAME']").ok()


def test_nobody_there_no_buttons(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag)
    assert len(table(kernel).displays) == 1
    assert kernel.widgets == {}
    kernel.run("%%flash_remote\n1").ok()


def test_nothing_to_press_for_no_buttons(kernel: Kernel) -> None:
    assert len(table(kernel, person=True).displays) == 1


def test_widgets_are_few(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag)
    table(kernel, person=True)
    views = [
        state
        for state in kernel.widgets.values()
        if state.get("_view_name") not in {None, "LayoutView", "StyleView"}
    ]
    assert len(views) <= 8


# --- after the kernel was killed ------------------------------------------------------------------


def test_attach(kernel: Kernel, flag: Path) -> None:
    kernel.run("%flash attach").ok()
    detach(kernel, flag, "print('said')\nlate = 5")
    kernel.restart()
    kernel.widgets.clear()
    reply = table(kernel, person=True)
    assert "1 job of a former kernel can be taken up: %flash attach" in reply.displays[0].text
    assert words(kernel) == {"Attach", "✕"}
    kernel.click("Attach")
    shows(kernel, reply.displays[0], "◐ 1 running")
    assert "former kernel" not in reply.displays[0].text
    wait_for(lambda: kernel.value("'late' in dir()"))
    flag.touch()
    assert kernel.run("late").ok().result == {"text/plain": "5"}


def test_the_kernels_end_leaves_no_view(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag)
    _, buttons = table(kernel, person=True).displays
    assert VIEW in buttons.data
    kernel.end()
    assert {*buttons.data} == {"text/html", "text/plain"}
    assert kernel.widgets == {}
    kernel.restart()

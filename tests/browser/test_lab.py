"""What a newcomer does in JupyterLab: run all, read, press stop, save, come back."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence

from lab import TIMEOUT_S, LabServer, OpenNotebook
from playwright.sync_api import expect

Notebook = Callable[[Sequence[str]], OpenNotebook]

LOAD = "%load_ext flash_nb"

FIRST_REMOTE = """\
%%flash_remote
import time
import pandas as pd
import matplotlib.pyplot as plt

for step in range(6):
    print("step", step)
    time.sleep(1)
total = 6 * 7
frame = pd.DataFrame({"place": ["Ulm", "Bonn"], "value": [3, 4]})
frame.plot(x="place", kind="bar", figsize=(4, 1.5))
frame"""

ENDLESS = """\
%%flash_remote
print("started")
while True:
    pass"""

WRONG = """\
%%flash_remote
def ratio(a, b):
    return a / b

ratio(1, 0)"""


def test_run_all(notebook: Notebook) -> None:
    opened = notebook([LOAD, FIRST_REMOTE, 'print(f"{total=}", len(frame))'])
    opened.run_all()

    # It streams: what the worker printed is there before it is done.
    text = opened.output(1).element_handle()
    opened.page.wait_for_function(
        r"area => /running/.test(area.innerText) && /step 1/.test(area.innerText)"
        r" && !/step 5|completed/.test(area.innerText)",
        arg=text,
        polling=50,
        timeout=TIMEOUT_S * 1000,
    )
    opened.screenshot("running-light")

    expect(opened.record(1)).to_contain_text("completed")
    expect(opened.record(1)).to_have_count(1)
    expect(opened.output(1)).to_contain_text("step 5")
    expect(opened.output(1).locator('img[src^="data:image/png"]')).to_be_visible()
    expect(opened.output(1).locator("table.dataframe")).to_contain_text("Bonn")
    expect(opened.prompt(1)).to_have_text("[2]:")
    expect(opened.output(2)).to_contain_text("total=42 2")

    opened.record(1).locator("summary").click()
    expect(opened.record(1)).to_contain_text("pandas")
    expect(opened.record(1)).to_contain_text("frame (DataFrame")
    opened.screenshot("completed-light")


def test_stop_button(notebook: Notebook, lab: LabServer) -> None:
    opened = notebook([LOAD, ENDLESS, "%%flash_remote\n2**10"])
    opened.run_cell(0)
    expect(opened.prompt(0)).to_have_text("[1]:")
    opened.run_cell(1)
    expect(opened.output(1)).to_contain_text("started")
    expect(opened.record(1)).to_contain_text("running")
    expect(opened.prompt(1)).to_have_text("[*]:")

    opened.press_stop()
    pressed = time.monotonic()
    expect(opened.prompt(1)).to_have_text("[2]:")
    assert time.monotonic() - pressed < 5  # half a second where the browser has a processor to itself
    expect(opened.output(1)).to_contain_text("KeyboardInterrupt")
    expect(opened.record(1)).to_contain_text(re.compile("cancelled|cancelling"))
    opened.screenshot("cancelled-light")
    wait_until_no_worker_computes(lab)

    opened.run_cell(2)
    expect(opened.output(2)).to_contain_text("1024")
    expect(opened.record(2)).to_contain_text("completed")
    expect(opened.record(1)).to_contain_text("⊘ cancelled")


def test_error_stops_run_all(notebook: Notebook) -> None:
    opened = notebook([LOAD, WRONG, "print('went on')"])
    opened.run_all()
    expect(opened.record(1)).to_contain_text("failed")
    expect(opened.output(1)).to_contain_text("ZeroDivisionError")
    expect(opened.output(1)).to_contain_text("Cell In[2], line 5")
    expect(opened.output(1)).to_contain_text("----> 3     return a / b")
    expect(opened.prompt(1)).to_have_text("[2]:")
    expect(opened.prompt(2)).to_have_text("[ ]:")
    expect(opened.output(2)).not_to_contain_text("went on")
    opened.screenshot("failed-light")


def test_saved_notebook(notebook: Notebook, lab: LabServer) -> None:
    opened = notebook([LOAD, "%%flash_remote\nprint('printed')\nvalue = [1, 2]\nvalue", WRONG])
    opened.run_all()
    expect(opened.prompt(2)).to_have_text("[3]:")
    opened.save()
    lab.shut_kernels_down()  # nothing but the file is left

    opened.open()
    expect_readable(opened)

    lab.set_theme("JupyterLab Dark")
    opened.open()
    expect(opened.page.locator("body")).to_have_attribute("data-jp-theme-light", "false")
    expect_readable(opened)
    opened.screenshot("saved-dark")

    # A notebook from someone else is not trusted: JupyterLab drops what it does not like in HTML.
    document = json.loads(opened.file.read_text())
    document["cells"][1]["source"] = "# from elsewhere"
    opened.file.write_text(json.dumps(document))
    lab.set_theme("JupyterLab Light")
    opened.open()
    expect_readable(opened)
    expect(opened.record(1).locator("div").first).to_have_css("border-left-width", "3px")
    opened.screenshot("untrusted-light")


def expect_readable(opened: OpenNotebook) -> None:
    expect(opened.record(1)).to_contain_text("✓ completed")
    expect(opened.record(2)).to_contain_text("✗ failed")
    expect(opened.output(1)).to_contain_text("[1, 2]")
    expect(opened.output(2)).to_contain_text("Cell In[3], line 5")
    expect(opened.page.locator("body")).not_to_contain_text(re.compile("model not found", re.IGNORECASE))


def wait_until_no_worker_computes(lab: LabServer) -> None:
    give_up_at = time.monotonic() + TIMEOUT_S
    while "busy" in (states := set(lab.flash("engine", "status")["workers"].values())):
        assert time.monotonic() < give_up_at, states
        time.sleep(0.2)

"""A day with detached cells in JupyterLab: watch, cancel, retry, restart, attach, read, save, come back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from lab import LabServer, OpenNotebook
from playwright.sync_api import Locator, expect

Notebook = Callable[[Sequence[str]], OpenNotebook]

LOAD = "%load_ext flash_nb"
WIDER_THAN_SHOWN = """\
area => [...area.querySelectorAll("*")]
    .filter(each => each.scrollWidth > each.clientWidth + 1)
    .filter(each => /auto|scroll/.test(getComputedStyle(each).overflowX))
    .map(each => each.outerHTML.slice(0, 200))"""
LONG = """\
%%flash_remote --detach
import pathlib, time
for epoch in range(1, 1000):
    print(f"epoch {{epoch}}: loss {{1 / epoch:.3f}}", flush=True)
    if pathlib.Path({flag!r}).exists():
        break
    time.sleep(0.2)
{name} = "{value}\""""
WRONG = """\
%%flash_remote --detach --name checks
frame = {"height": [1.0, 2.0]}
frame["a column name that is long enough to be cut off where the page ends, and then some"]"""


def test_a_day_with_detached_cells(notebook: Notebook, lab: LabServer) -> None:
    flag = lab.root / "go"
    opened = notebook(
        [
            LOAD,
            LONG.format(flag=str(flag), name="trained", value="a trained model"),
            WRONG,
            LONG.format(flag=str(flag), name="other", value="another one"),
            "%flash jobs",
            "%flash attach",
            "print(trained, 'and', other)",
        ]
    )

    # Watch: three cells return at once, and the table tells what becomes of them.
    for number in range(4):
        opened.run_cell(number)
    expect(opened.record(2)).to_contain_text("✗ failed")
    opened.run_cell(4)
    table = opened.output(4)
    expect(table).to_contain_text("◐ 2 running")
    expect(row(table, 3)).to_contain_text(re.compile(r"◐ running.*In \[4\].*epoch \d"))
    expect(row(table, 2)).to_contain_text("✗ failed")
    expect(table.get_by_role("button", name="Cancel")).to_be_enabled()
    expect(row(table, 1)).to_contain_text(re.compile(r"epoch \d\d"))
    opened.screenshot("jobs-running-light")

    # Cancel one, by its button; read its log; run it again.
    table.get_by_role("button", name="Cancel").click()
    expect(row(table, 3)).to_contain_text("⊘ cancelled")
    expect(opened.record(3)).to_contain_text("⊘ cancelled")
    table.get_by_role("button", name="Logs").click()
    expect(table.locator(".jupyter-widgets pre")).to_contain_text("epoch 1: loss 1.000")
    opened.screenshot("jobs-log-light")
    table.get_by_role("button", name="Retry").click()
    expect(row(table, 3)).to_contain_text("◐ running")
    expect(opened.record(3)).to_contain_text("◐ running")

    # Restart. What ran goes on without the kernel; the new one takes it up.
    opened.restart_kernel()
    opened.run_cell(0)
    expect(opened.prompt(0)).to_have_text("[1]:")
    opened.run_cell(4)
    expect(table).to_contain_text("2 jobs of a former kernel can be taken up: %flash attach")
    expect(table.get_by_role("button", name="Attach")).to_be_enabled()
    opened.run_cell(5)
    expect(opened.record(5)).to_have_count(2)
    expect(table).to_contain_text("◐ 2 running")
    flag.touch()
    opened.run_cell(6)
    expect(opened.output(6)).to_contain_text("a trained model and another one")
    expect(table).to_contain_text("✓ 2 completed")
    table.get_by_role("button", name="✕").click()
    expect(table.get_by_role("button")).to_have_count(0)

    # Save; come back in the dark, without a kernel.
    opened.save()
    expect_clean(opened.file.read_text())
    lab.shut_kernels_down()
    lab.set_theme("JupyterLab Dark")
    opened.open()
    expect(table).to_contain_text("✓ 2 completed")
    expect(row(table, 1)).to_contain_text("✓ completed")
    expect(opened.record(2)).to_contain_text("✗ failed")
    expect(opened.record(5).first).to_contain_text("✓ completed")
    expect(opened.output(6)).to_contain_text("a trained model and another one")
    expect(opened.page.locator("body")).not_to_contain_text(re.compile("model not found", re.IGNORECASE))
    opened.screenshot("jobs-saved-dark")


def test_buttons_in_the_dark_and_in_a_narrow_window(notebook: Notebook, lab: LabServer) -> None:
    lab.set_theme("JupyterLab Dark")
    flag = lab.root / "narrow"
    opened = notebook([LOAD, LONG.format(flag=str(flag), name="trained", value=""), WRONG, "%flash jobs"])
    for number in range(4):
        opened.run_cell(number)
    table = opened.output(3)
    expect(row(table, 1)).to_contain_text("epoch 3")
    table.get_by_role("combobox").select_option(index=0)
    expect(table.get_by_role("button", name="Retry")).to_be_enabled()
    table.get_by_role("button", name="Logs").click()
    expect(table.locator(".jupyter-widgets pre")).to_contain_text("KeyError")
    opened.screenshot("jobs-log-dark")
    opened.page.set_viewport_size({"width": 900, "height": 900})
    try:
        expect(row(table, 1)).to_contain_text("◐ running")
        opened.screenshot("jobs-narrow-dark")
        assert opened.page.evaluate(WIDER_THAN_SHOWN, table.element_handle()) == []
    finally:
        opened.page.set_viewport_size({"width": 1200, "height": 1100})

    # Shut down with the buttons there: the kernel takes them along.
    opened.shut_down_kernel()
    expect(table.get_by_role("button")).to_have_count(0)
    opened.save()
    expect_clean(opened.file.read_text())


def expect_clean(text: str) -> None:
    """Check that a saved notebook has no trace of widgets, of a home folder or of a key."""
    assert "widget" not in json.dumps([json.loads(text)["metadata"], outputs(text)])
    for secret in (str(Path.home()) + "/", "Authorization", "api_key", "rpa_"):
        assert secret not in text


def outputs(text: str) -> list[object]:
    return [cell.get("outputs") for cell in json.loads(text)["cells"]]


def row(table: Locator, number: int) -> Locator:
    """Return the row of a job."""
    cell = table.page.locator("td:first-child").filter(has_text=re.compile(rf"^{number}$"))
    return table.locator("tbody tr").filter(has=cell)

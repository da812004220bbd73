"""The resource picker in JupyterLab: with the keyboard alone, with the mouse, saved, in both themes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from lab import LabServer, OpenNotebook
from playwright.sync_api import Locator, expect

Notebook = Callable[[Sequence[str]], OpenNotebook]

CELLS = (
    "%load_ext flash_nb",
    "%flash pick train",
    "%%flash_remote\nwhere = 6 * 7\nwhere",
)


CLOSED = "The picker is closed; nothing was chosen."


def picker_of(opened: OpenNotebook) -> Locator:
    return opened.output(1).locator(".flash-pick")


def tab_to(wanted: Locator) -> None:
    """Press Tab until a control has the focus, as somebody without a mouse does."""
    for _ in range(60):
        if wanted.evaluate("node => node === document.activeElement"):
            return
        wanted.page.keyboard.press("Tab")
    raise AssertionError("Tab does not reach it")


def open_picker(opened: OpenNotebook) -> Locator:
    opened.run_cell(0)
    expect(opened.prompt(0)).to_have_text("[1]:")
    opened.run_cell(1)
    picker = picker_of(opened)
    expect(picker).to_contain_text("BLACKWELL_180")
    return picker


def runs_on_the_h100(opened: OpenNotebook) -> None:
    """Have a bare cell run on what was picked, and look at its record."""
    opened.run_cell(2)
    expect(opened.record(2)).to_contain_text("completed cell on train")
    expect(opened.record(2)).to_contain_text("simulated")
    opened.record(2).locator("summary").click()
    expect(opened.record(2)).to_contain_text("H100 80 GB (ADA_80_PRO)")


def saves_no_widget(opened: OpenNotebook) -> str:
    """Save, and return the file, which must not need a widget."""
    opened.save()
    text = opened.file.read_text()
    assert "widget-view" not in text
    assert "widgets" not in json.loads(text)["metadata"]
    assert "model_id" not in text
    return text


def test_with_the_keyboard_alone(notebook: Notebook, lab: LabServer) -> None:
    opened = notebook(CELLS)
    picker = open_picker(opened)
    keyboard = opened.page.keyboard
    search = picker.get_by_placeholder("Search")
    tab_to(search)
    keyboard.type("at least 80 GB h100")
    boxes = picker.locator(".flash-group:visible input")
    expect(boxes).to_have_count(1)
    tab_to(boxes.first)
    keyboard.press("Space")
    expect(picker).to_contain_text("$4.18 an hour of work")
    expect(picker).to_contain_text("$0.35 idling 5 min after it")
    expect(picker).to_contain_text("Prices of 20")
    idle = picker.get_by_label("idle seconds")
    tab_to(idle)
    keyboard.press("Control+A")
    keyboard.type("60")
    use = picker.get_by_role("button", name="Use", exact=True)
    tab_to(use)
    expect(picker).to_contain_text("$0.070 idling 1 min after it")
    keyboard.press("Enter")
    expect(picker).to_have_count(0)
    expect(opened.output(1)).to_contain_text("✓ train is this notebook's default · H100 80 GB (ADA_80_PRO)")
    expect(opened.output(1)).not_to_contain_text("model not found")
    runs_on_the_h100(opened)
    assert "idleTimeout=60" in saves_no_widget(opened)

    lab.shut_kernels_down()
    lab.set_theme("JupyterLab Dark")
    opened.open()
    expect(opened.output(1)).to_contain_text("✓ train is this notebook's default")
    opened.output(1).locator("summary").click()
    expect(opened.output(1)).to_contain_text("gpus=[GpuGroup.ADA_80_PRO]")
    opened.screenshot("picked-saved-dark")


def test_with_the_mouse(notebook: Notebook) -> None:
    opened = notebook(CELLS)
    picker = open_picker(opened)
    opened.screenshot("picker-light")
    picker.get_by_role("cell", name="H100").click(position={"x": 150, "y": 12}, force=True)
    picker.get_by_text("A100 PCIe").click(force=True)
    expect(picker).to_contain_text("$2.74–4.18 an hour of work")
    picker.get_by_role("button", name="↑").click()
    expect(picker.locator("option").first).to_have_text("AMPERE_80")
    picker.get_by_role("button", name="↓").click()
    expect(picker.locator("option").first).to_have_text("ADA_80_PRO")
    picker.get_by_role("button", name="Code").click()
    expect(picker.locator("pre")).to_contain_text("gpus=[GpuGroup.ADA_80_PRO, GpuGroup.AMPERE_80]")
    opened.screenshot("picker-chosen-light")
    picker.get_by_role("button", name="CPU").click()
    expect(picker.locator("pre")).to_contain_text("CpuLiveServerless")
    expect(picker).to_contain_text("No price is known for CPU instances")
    opened.screenshot("picker-cpu-light")
    picker.get_by_role("button", name="GPU").click()
    picker.get_by_text("A100 PCIe").click(force=True)
    expect(picker).to_contain_text("$4.18 an hour of work")
    picker.get_by_role("button", name="Use").click()
    expect(opened.output(1)).to_contain_text("✓ train is this notebook's default")
    runs_on_the_h100(opened)
    opened.screenshot("picked-light")
    saves_no_widget(opened)


def test_closed_with_the_button(notebook: Notebook, lab: LabServer) -> None:
    lab.set_theme("JupyterLab Dark")
    opened = notebook(CELLS)
    picker = open_picker(opened)
    picker.get_by_text("A100 PCIe").click(force=True)
    expect(picker).to_contain_text("an hour of work")
    opened.screenshot("picker-dark")
    picker.get_by_role("button", name="Close").click()
    expect(opened.output(1)).to_have_text(CLOSED)
    saves_no_widget(opened)


def test_closed_with_the_extension(notebook: Notebook) -> None:
    opened = notebook([*CELLS[:2], "%unload_ext flash_nb"])
    open_picker(opened)
    opened.run_cell(2)
    expect(opened.output(1)).to_have_text(CLOSED)
    saves_no_widget(opened)


def test_closed_with_the_kernel(notebook: Notebook) -> None:
    opened = notebook(CELLS)
    open_picker(opened)
    opened.shut_kernel_down()
    expect(opened.output(1)).to_have_text(CLOSED)
    saves_no_widget(opened)

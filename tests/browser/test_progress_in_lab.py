"""The progress of a map in JupyterLab: while it runs, when it is saved, and in a notebook of others."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from lab import LabServer, OpenNotebook
from playwright.sync_api import expect

MAP = """\
import flash_nb
from flash_nb import CpuLiveServerless, remote

@remote(resource_config=CpuLiveServerless(name="mapped", workersMax=2, idleTimeout=60))
def load(name):
    import time
    time.sleep(0.2)
    if name == "photo-3.png":
        raise OSError(f"cannot read {name}: <truncated>")
    return len(name)

run = flash_nb.map(load, [f"photo-{n}.png" for n in range(20)], max_parallel=4)"""


def test_progress(notebook: Callable[[Sequence[str]], OpenNotebook], lab: LabServer) -> None:
    opened = notebook([MAP, "results = await run"])
    opened.run_all()
    expect(opened.output(0)).to_contain_text("◐ running load() on mapped")
    expect(opened.output(0)).to_contain_text(
        "item 3 ('photo-3.png'): OSError: cannot read photo-3.png: <trunc"
    )
    opened.screenshot("map-running-light")
    expect(opened.output(1)).to_contain_text("MapError: 1 of 20 items of load() failed.")
    expect(opened.output(0)).to_contain_text("✗ failed load() on mapped · 20/20 · 1 failed")
    opened.save()
    lab.shut_kernels_down()

    # As if it came from someone else: JupyterLab drops what it does not like in HTML.
    document = json.loads(opened.file.read_text())
    document["cells"][0]["source"] = "# from elsewhere"
    opened.file.write_text(json.dumps(document))
    lab.set_theme("JupyterLab Dark")
    opened.open()
    expect(opened.output(0)).to_contain_text("✗ failed load() on mapped · 20/20 · 1 failed")
    parts = opened.output(0).locator("span[style*='inline-block']")
    expect(parts).to_have_count(3)
    expect(parts.first).to_have_css("height", "5px")
    opened.screenshot("map-saved-dark")

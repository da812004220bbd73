"""From cells to an answer of what was built, in JupyterLab: export, diff, build, preview, stop; then save."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence

import httpx
import pytest
from lab import LabServer, OpenNotebook
from playwright.sync_api import expect

Notebook = Callable[[Sequence[str]], OpenNotebook]

FUNCTION = """\
from flash_nb import CpuLiveServerless, remote

words = CpuLiveServerless(name="words")
STOP_WORDS = {"the", "and"}

@remote(words)
def count(text: str):
    return len([word for word in text.split() if word not in STOP_WORDS])"""
REMOTE = """\
%%flash_remote -r words
numbers = [n * n for n in range(4)]"""
BUILD = f"%flash build app --preview --port 0 --python-version {sys.version_info[0]}.{sys.version_info[1]}"


def test_a_notebook_becomes_a_project_that_answers(notebook: Notebook, lab: LabServer) -> None:
    opened = notebook(
        [
            "%load_ext flash_nb",
            FUNCTION,
            REMOTE,
            "%flash export app",
            "%flash diff app",
            BUILD,
            "url = %flash preview --url\nprint(url)",
            "%flash preview --stop",
        ]
    )
    opened.save()  # an export reads the file
    for number in range(7):
        opened.run_cell(number)
        expect(opened.prompt(number)).to_have_text(f"[{number + 1}]:")
    expect(opened.output(3)).to_contain_text("✓ exported")
    expect(opened.output(3)).to_contain_text("make_numbers")
    expect(opened.output(4)).to_contain_text("no differences")
    expect(opened.output(5)).to_contain_text("✓ built")
    expect(opened.output(5)).to_contain_text("✓ preview")
    url = opened.output(6).inner_text().strip()
    pictures(opened, "light")
    answer = httpx.post(f"{url}/count", json={"text": "the cat and the dog"}, timeout=60)
    assert answer.json() == 2
    opened.run_cell(7)
    expect(opened.output(7)).to_contain_text("The preview is over.")
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, timeout=10)
    opened.save()
    saved = json.loads(opened.file.read_text())
    assert "widgets" not in saved["metadata"]
    assert "✓ built" in json.dumps(saved["cells"][5]["outputs"], ensure_ascii=False)
    lab.set_theme("JupyterLab Dark")
    opened.open()
    expect(opened.output(5)).to_contain_text("✓ preview")
    pictures(opened, "dark")


def pictures(opened: OpenNotebook, theme: str) -> None:
    """Keep pictures of the records."""
    for number, name in ((3, "export"), (5, "build")):
        opened.cell(number).scroll_into_view_if_needed()
        opened.screenshot(f"project-{name}-{theme}")

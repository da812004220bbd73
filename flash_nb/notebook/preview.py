"""``%flash preview``: an artifact that runs in this kernel while its cells go on."""

from __future__ import annotations

import atexit
import socket
from collections import deque
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flash_nb.errors import ProjectError
from flash_nb.loop import LoopThread
from flash_nb.sdk.look import BOX, GREEN
from flash_nb.sdk.outputs import Place

if TYPE_CHECKING:
    from flash_nb.notebook.notebook import Notebook
    from flash_nb.project.preview.gateway import Served

KEPT_LINES = 500
_CELL = "text-align:left;padding:1px 12px 1px 0;vertical-align:top"


class RunningPreview:
    """A preview on a thread of its own, until it is closed or the kernel ends.

    Args:
        archive: The artifact.
        port: Where to listen; None: 8000, or the next free one.

    Attributes:
        log: The last lines of its workers: the resource's name and the line.

    Raises:
        ProjectError: It cannot listen there.
    """

    def __init__(self, archive: Path, port: int | None) -> None:
        from flash_nb.project.preview import Preview

        self.log: deque[tuple[str, str]] = deque(maxlen=KEPT_LINES)
        self._thread = LoopThread()
        self._preview = Preview(archive, _listen(port), say=lambda name, line: self.log.append((name, line)))

    @property
    def url(self) -> str:
        """Where it answers."""
        return self._preview.url

    @property
    def resources(self) -> Sequence[Served]:
        """What it serves."""
        return self._preview.resources

    def start(self) -> None:
        """Start it, and wait until each resource answers.

        Raises:
            ProjectError, ManifestError: It cannot be served; nothing of it is left.
            KeyboardInterrupt: The user interrupted; nothing of it is left.
        """
        self._thread.run(self._preview.__aenter__())
        atexit.register(self.close)
        try:
            self._thread.run(self._preview.ready())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it: no process, port or folder of it is left."""
        atexit.unregister(self.close)
        self._thread.run(self._preview.__aexit__(None, None, None))

    def show(self) -> None:
        """Show what it serves, and how to call it."""
        rows = [(each.key, each.kind, each.example) for each in self.resources]
        ends = "it ends with %flash preview --stop, and with the kernel"
        body = "".join(
            f'<tr><td style="{_CELL}">{escape(key)}</td><td style="{_CELL}">{escape(kind)}</td>'
            f'<td style="{_CELL}"><code>{escape(example)}</code></td></tr>'
            for key, kind, example in rows
        )
        html = (
            f'<div style="{BOX.format(colour=GREEN)}"><span style="color:{GREEN};font-weight:600">✓ preview'
            f'</span> at <a href="{self.url}">{self.url}</a> · {ends}'
            f'<table style="border:none;border-collapse:collapse;font-size:12px">{body}</table></div>'
        )
        text = [f"✓ preview at {self.url} · {ends}"]
        width = max((len(key) for key, _, _ in rows), default=0)
        text += [f"  {key:<{width}}  {kind}\n  {'':<{width}}  {example}" for key, kind, example in rows]
        Place("preview").show(html, "\n".join(text))


def begin(notebook: Notebook, archive: Path, port: int | None) -> None:
    """Run an artifact, in place of the one that runs.

    Raises:
        ProjectError, ManifestError: It cannot be served.
    """
    notebook.end_preview()
    running = RunningPreview(archive, port)
    running.start()
    notebook.preview = running
    running.show()


def preview(
    ctx: typer.Context,
    *,
    stop: Annotated[bool, typer.Option("--stop", help="End it.")] = False,
    logs: Annotated[bool, typer.Option("--logs", help="Print what its workers printed.")] = False,
    url: Annotated[bool, typer.Option("--url", help="Return its address.")] = False,
) -> str | None:
    """Show the preview that runs in this kernel; %flash build --preview starts it."""
    notebook: Notebook = ctx.obj
    running = notebook.preview
    if running is None:
        raise ProjectError("No preview runs in this kernel.", hint="Start one: %flash build --preview")
    if logs:
        for name, line in running.log:
            typer.echo(f"{name}  {line}")
    if stop:
        notebook.end_preview()
        typer.echo("The preview is over.")
    elif url:
        return running.url
    elif not logs:
        running.show()
    return None


def _listen(port: int | None) -> socket.socket:
    from flash_nb.project.address import PortBusyError
    from flash_nb.project.preview import PORT, listen

    try:
        return listen(port=PORT if port is None else port)
    except PortBusyError as busy:
        if port is not None or not busy.next_port:
            raise
        return listen(port=busy.next_port)

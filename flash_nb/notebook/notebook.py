"""A notebook in its kernel: what its magics share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell

from flash_nb.cells.magic_line import digest
from flash_nb.notebook.pending import Pending, WaitBeforeReads

if TYPE_CHECKING:
    from flash_nb.notebook.cell import PreparedCell
    from flash_nb.notebook.cell_job import CellJob
    from flash_nb.notebook.cell_run import CellRun
    from flash_nb.notebook.default import Default
    from flash_nb.notebook.jobs_view import JobsView
    from flash_nb.notebook.picker import Picker
    from flash_nb.notebook.preview import RunningPreview
    from flash_nb.resources.serverless import ServerlessResource
    from flash_nb.sdk.board import Origin


def _running_cell(shell: Any) -> str:
    """Return the id of the cell that runs: if it is the one that loads the magics, no event tells it."""
    request = shell.get_parent() if hasattr(shell, "get_parent") else {}
    return str((request or {}).get("metadata", {}).get("cellId", ""))


class Notebook:
    """One notebook: its shell, the cell that runs, and the jobs that nobody waits for.

    Attributes:
        shell: IPython's.
        left: Jobs of cells whose end nobody waits for: of detached cells, of interrupted ones.
        map: The last run of a ``%%flash_map``.
        waiting: Has cells that read the names of these jobs wait for them.
        default: What a cell runs on that does not say it; None for a CPU.
        picker: The picker that is open, if one is.
        jobs_view: The live table of jobs, once there is one.
        preview: The artifact that runs in this kernel, if one does.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.left: list[CellJob] = []
        self.map: CellRun | None = None
        self.waiting = WaitBeforeReads(shell.user_ns)
        self.default: Default | None = None
        self.picker: Picker | None = None
        self.jobs_view: JobsView | None = None
        self.preview: RunningPreview | None = None
        self._cell = _running_cell(shell)

    @property
    def namespace(self) -> dict[str, Any]:
        """The user's."""
        names: dict[str, Any] = self.shell.user_ns
        return names

    @property
    def path(self) -> str:
        """Where the notebook lies, as its front end says it; else the folder that it runs in."""
        told = self.namespace.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
        return str(told or Path.cwd())

    def saved_at(self) -> float:
        """Return when the notebook's file was last written, in POSIX seconds; 0 if there is none."""
        try:
            path = Path(self.path)
            return path.stat().st_mtime if path.is_file() else 0.0
        except OSError:
            return 0.0

    def origin(self, source: str) -> Origin:
        """Return where a job of the cell that runs comes from.

        Args:
            source: The cell's text.
        """
        from flash_nb.sdk.board import Origin

        return Origin(self.path, self._cell, self.shell.displayhook.prompt_count, digest(source))

    def before_cell(self, info: Any = None) -> None:
        """Bind what has come since the last cell; called before each one."""
        # Front ends number the cells of a file; a terminal has none, and old versions do not tell.
        self._cell = getattr(info, "cell_id", None) or ""
        self.collect()

    def collect(self) -> None:
        """Show what has come of the jobs that were left, and bind the names of those that are over."""
        for job in [*self.left]:
            if job.collect():
                self.left.remove(job)
        if self.map is not None:
            self.map.bind_if_done()

    def run(self, job: CellJob, resource: ServerlessResource, cell: PreparedCell) -> bool:
        """Run a cell's job: send it, and wait for its end unless it is detached.

        Returns:
            Whether it is over.

        Raises:
            Exception: What it failed with.
            KeyboardInterrupt: The user interrupted; the job has been cancelled.
        """
        try:
            job.submit(resource, cell, self.origin(cell.text.raw))
            if cell.options.detach:
                job.detach()
            else:
                job.finish()
        except KeyboardInterrupt as interrupt:
            job.interrupt()
            self.leave(job)  # its record is to say how it ended
            shown = [f"KeyboardInterrupt: {job.name} is cancelled."]
            interrupt._render_traceback_ = lambda: shown  # type: ignore[attr-defined]
            raise
        if cell.options.detach:
            self.leave(job)
            return False
        if (exception := job.exception) is not None:
            raise self.as_local(exception)
        return True

    def leave(self, job: CellJob) -> None:
        """Leave a job alone, unless it is over."""
        if not job.collect():
            self.left.append(job)

    def close(self) -> None:
        """Close what has widgets, and leave what is shown as it is; end what runs in this kernel.

        See `flash_nb.notebook.panel`.
        """
        picker, self.picker = self.picker, None
        if picker is not None:
            picker.close()
        if self.jobs_view is not None:
            self.jobs_view.close()
        self.end_preview()

    def end_preview(self) -> None:
        """End the preview, if one runs in this kernel."""
        running, self.preview = self.preview, None
        if running is not None:
            running.close()

    def wait_for(self, names: Iterable[str]) -> None:
        """Wait until names of detached cells are bound.

        Raises:
            Exception: What their job failed with.
            KeyboardInterrupt: The user interrupted; the jobs go on.
        """
        for name in names:
            value = self.namespace.get(name)
            if isinstance(value, Pending):
                failure = value._flash_job.failure_of(name)
                if failure is not None:
                    raise self.as_local(failure)

    def as_local(self, exception: BaseException) -> BaseException:
        """Have IPython show the remote frames alone: none of ours, none of its own."""
        if "_render_traceback_" not in vars(exception):  # else it was raised before, in frames of ours
            shown = self.rendered(exception)
            exception._render_traceback_ = lambda: shown  # type: ignore[attr-defined]
        return exception

    def rendered(self, exception: BaseException) -> list[str]:
        """Return what IPython shows of an exception: of our own without frames, its sentence."""
        from flash_nb.errors import FlashError

        if isinstance(exception, FlashError) and exception.__traceback__ is None:
            return exception._render_traceback_()
        shown: list[str] = self.shell.InteractiveTB.structured_traceback(
            type(exception), exception, exception.__traceback__, tb_offset=0
        )
        return shown

"""A real kernel and a real engine, as a front end and a terminal see them."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

TIMEOUT_S = 60

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Display:
    """One output area with rich data; `data` is what it shows now."""

    data: dict[str, Any]
    display_id: str | None = None
    updates: int = 0

    @property
    def text(self) -> str:
        return str(self.data.get("text/plain", ""))


@dataclass
class Reply:
    """What one cell has brought until now, as a front end would show it.

    Attributes:
        order: What came, in order: ``stdout``, ``stderr``, ``display``, ``result``, ``error``, …
    """

    id: str
    status: str = ""
    stdout: str = ""
    stderr: str = ""
    displays: list[Display] = field(default_factory=list)
    result: dict[str, Any] | None = None
    ename: str = ""
    evalue: str = ""
    traceback: str = ""
    paged: str = ""
    order: list[str] = field(default_factory=list)
    idle: bool = False
    clear_next: bool = False

    @property
    def done(self) -> bool:
        return self.idle and bool(self.status)

    @property
    def record(self) -> str:
        """The job record as text; empty if there is none."""
        records = [display.text for display in self.displays if _is_record(display)]
        assert len(records) <= 1, f"more than one record: {records}"
        return records[0] if records else ""

    @property
    def shown(self) -> list[Display]:
        """The displays without the record."""
        return [display for display in self.displays if not _is_record(display)]

    def ok(self) -> Reply:
        """Return it, if the cell succeeded."""
        assert self.status == "ok", f"{self.status}: {self.traceback or self.evalue}\n{self.stderr}"
        return self


def _is_record(display: Display) -> bool:
    return (display.display_id or "").startswith("flash-")


class Kernel:
    """A kernel with a front end that only takes notes."""

    def __init__(self, client: BlockingKernelClient, manager: KernelManager) -> None:
        self._client = client
        self._manager = manager
        self._replies: dict[str, Reply] = {}
        self.widgets: dict[str, dict[str, Any]] = {}  # the state of each widget that is open
        self.update_times: dict[str, list[datetime]] = {}
        """When each display was updated, as the kernel's clock says, by its id."""

    def run(self, code: str, timeout: float = TIMEOUT_S) -> Reply:
        """Execute a cell and wait for its end."""
        return self.wait(self.start(code), timeout=timeout)

    def run_in_person(self, code: str) -> Reply:
        """Execute a cell for somebody who can press buttons, and wait for its end."""
        return self.wait(self.start_as_is(code, person=True))

    def remote(self, body: str, options: str = "", timeout: float = TIMEOUT_S) -> Reply:
        """Execute a remote cell and wait for its end."""
        return self.run(f"%%flash_remote {options}\n{textwrap.dedent(body).strip()}", timeout)

    def start(self, code: str) -> Reply:
        """Execute a cell without waiting."""
        return self.start_as_is(textwrap.dedent(code).strip())

    def start_as_is(self, code: str, cell: str = "", *, person: bool = False) -> Reply:
        """Execute a cell without taking off its indentation and its blank lines.

        Args:
            code: Its text.
            cell: Its id in the notebook; a front end tells it, a terminal does not.
            person: Whether somebody could answer what it asks; then widgets make sense.
        """
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": person,
            "stop_on_error": True,
        }
        message = self._client.session.msg("execute_request", content)
        if cell:
            message["metadata"]["cellId"] = cell
        self._client.shell_channel.send(message)
        return self._note(message["header"]["msg_id"])

    def wait(
        self,
        reply: Reply,
        until: Callable[[Reply], object] = lambda reply: reply.done,
        timeout: float = TIMEOUT_S,
    ) -> Reply:
        """Take messages until something holds of a reply."""
        give_up_at = time.monotonic() + timeout
        while not until(reply):
            left = give_up_at - time.monotonic()
            assert left > 0, f"it did not come in {timeout:g} s: {reply}"
            if reply.idle and not reply.status:
                self._take_reply(left)
            else:
                assert not reply.done, f"the cell ended before it came: {reply}"
                self._take_output(left)
        return reply

    def value(self, expression: str) -> Any:
        """Return the value of an expression in the kernel, by its repr."""
        request = self._client.execute("", silent=True, user_expressions={"value": f"repr(({expression}))"})
        reply = self.wait(self._note(request))
        answer = json.loads(reply.evalue)["value"]
        assert answer["status"] == "ok", answer
        text = ast.literal_eval(answer["data"]["text/plain"])
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text

    def widget(self, **state: Any) -> str:
        """Return the id of the one open widget that has this in its state."""
        found = [key for key, held in self.widgets.items() if state.items() <= held.items()]
        assert len(found) == 1, f"{len(found)} widgets have {state}"
        return found[0]

    def set(self, widget: str, value: Any, *, trait: str = "value") -> None:
        """Give a widget a value as somebody does in a front end."""
        self.widgets[widget][trait] = value
        self._tell(widget, {"method": "update", "state": {trait: value}, "buffer_paths": []})

    def click(self, button: str) -> None:
        """Click a button, by its text."""
        self._tell(self.widget(description=button), {"method": "custom", "content": {"event": "click"}})

    def listen(self) -> None:
        """Take one message of those that no cell waits for."""
        self._take_output(TIMEOUT_S)

    def _tell(self, widget: str, data: dict[str, Any]) -> None:
        message = self._client.session.msg("comm_msg", {"comm_id": widget, "data": data})
        self._client.shell_channel.send(message)
        reply = self._note(message["header"]["msg_id"])
        reply.status = "ok"  # there is no reply to it
        self.wait(reply)

    def complete(self, code: str) -> list[str]:
        """Press the tabulator where ``|`` is in a cell, else at its end; return what is offered.

        All that is offered goes on from what is replaced.
        """
        before, _, after = code.partition("|")
        request = self._client.complete(before + after, len(before))
        give_up_at = time.monotonic() + TIMEOUT_S
        while (message := self._client.get_shell_msg(timeout=give_up_at - time.monotonic()))[
            "parent_header"
        ].get("msg_id") != request:
            self._receive_reply(message)
        found = message["content"]
        assert found["status"] == "ok", found
        assert found["cursor_end"] == len(before)
        replaced = before[found["cursor_start"] :]
        assert all(each.startswith(replaced) for each in found["matches"]), (replaced, found["matches"])
        return list(found["matches"])

    def ask(self) -> None:
        """Ask what front ends ask for while cells run or wait; nobody reads the answers."""
        self._client.complete("pri", 3)
        self._client.comm_info()
        self._client.kernel_info()

    def interrupt(self) -> None:
        """Press the stop button."""
        self._manager.interrupt_kernel()

    def restart(self) -> None:
        """Kill the kernel and start it anew, with the extension loaded."""
        self._manager.restart_kernel(now=True)
        self._client.wait_for_ready(timeout=TIMEOUT_S)
        self.run("%load_ext flash_nb").ok()

    def end(self) -> None:
        """Have the kernel end itself, and take what it says at last."""
        self._client.shutdown()
        wait_for(lambda: not self._manager.is_alive())
        self._take_output(timeout=1)
        while self._client.iopub_channel.msg_ready():
            self._take_output(timeout=1)

    def _note(self, message_id: str) -> Reply:
        return self._replies.setdefault(message_id, Reply(message_id))

    def _take_reply(self, timeout: float) -> None:
        try:
            message = self._client.get_shell_msg(timeout=timeout)
        except queue.Empty:
            return
        self._receive_reply(message)

    def _receive_reply(self, message: dict[str, Any]) -> None:
        reply = self._replies.get(message["parent_header"].get("msg_id"))
        if reply is not None and message["msg_type"] == "execute_reply":
            content = message["content"]
            reply.status = content["status"]
            if not reply.ename:  # a UsageError is text on stderr, not an error message
                reply.ename, reply.evalue = content.get("ename", ""), content.get("evalue", "")
            for payload in content.get("payload", ()):
                if payload["source"] == "page":
                    reply.paged += _ANSI.sub("", payload["data"]["text/plain"])
            if content.get("user_expressions"):
                reply.evalue = json.dumps(content["user_expressions"])

    def _take_output(self, timeout: float) -> None:
        try:
            message = self._client.get_iopub_msg(timeout=timeout)
        except queue.Empty:
            return
        if message["msg_type"].startswith("comm_"):
            self._receive_comm(message["msg_type"], message["content"])
            return
        if message["msg_type"] == "update_display_data":  # whoever caused it: a front end goes by the id
            self._update(message["content"])
            times = self.update_times.setdefault(message["content"]["transient"]["display_id"], [])
            times.append(message["header"]["date"])
            return
        reply = self._replies.get(message["parent_header"].get("msg_id"))
        if reply is not None:
            self._receive(reply, message["msg_type"], message["content"])

    def _receive(self, reply: Reply, kind: str, content: dict[str, Any]) -> None:
        if kind == "status":
            reply.idle = content["execution_state"] == "idle"
            return
        if kind == "clear_output":
            reply.clear_next = True
            if not content["wait"]:
                _clear(reply)
            reply.order.append("clear")
            return
        if kind == "execute_input":
            return
        _clear(reply)
        reply.order.append(_add(reply, kind, content))

    def _receive_comm(self, kind: str, content: dict[str, Any]) -> None:
        comm, data = content["comm_id"], content.get("data", {})
        if kind == "comm_open" and content["target_name"] == "jupyter.widget":
            self.widgets[comm] = data["state"]
        elif kind == "comm_close":
            self.widgets.pop(comm, None)
        elif data.get("method") == "update":
            self.widgets[comm] |= data["state"]

    def _update(self, content: dict[str, Any]) -> None:
        for reply in self._replies.values():
            for display in reply.displays:
                if display.display_id == content["transient"]["display_id"]:
                    display.data = content["data"]
                    display.updates += 1


def run(kernel: Kernel, code: str) -> str:
    """Run a cell; return the text of its value, else what it printed."""
    reply = kernel.run(textwrap.dedent(code)).ok()
    return str(reply.result["text/plain"]) if reply.result else reply.stdout


def value(kernel: Kernel, expression: str) -> Any:
    """Return the value of an expression that may await."""
    run(kernel, f"got = {expression}")
    return kernel.value("got")


def _clear(reply: Reply) -> None:
    if reply.clear_next:
        reply.clear_next = False
        reply.stdout = reply.stderr = ""
        reply.displays.clear()


def _add(reply: Reply, kind: str, content: dict[str, Any]) -> str:
    match kind:
        case "stream":
            setattr(reply, content["name"], getattr(reply, content["name"]) + content["text"])
            return str(content["name"])
        case "display_data":
            reply.displays.append(Display(content["data"], content.get("transient", {}).get("display_id")))
            return "record" if _is_record(reply.displays[-1]) else "display"
        case "execute_result":
            reply.result = content["data"]
            return "result"
        case "error":
            reply.ename, reply.evalue = content["ename"], content["evalue"]
            reply.traceback = _ANSI.sub("", "\n".join(content["traceback"]))
            return "error"
    return kind


@contextlib.contextmanager
def started(folder: Path, **environ: str) -> Iterator[Kernel]:
    """Start a kernel of this interpreter.

    Args:
        folder: Where it runs.
        **environ: Variables of its environment, beside ours.
    """
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(folder), env={**os.environ, **environ})
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=TIMEOUT_S)
        yield Kernel(client, manager)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


class Engine:
    """The engine of this test session, asked through the command line."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def status(self) -> Any:
        return json.loads(self._flash("status").stdout)

    def stop(self) -> None:
        self._flash("stop")

    def jobs(self) -> Any:
        """Return the newest jobs, the newest first."""
        return self.call("jobs")

    def call(self, method: str, **params: Any) -> Any:
        """Make a call of the control plane, as another client; return its answer."""
        script = (
            "import asyncio, json, sys\n"
            "from flash_nb.backends.local import connect\n"
            "from flash_nb.settings import load\n"
            "async def call(method, params):\n"
            "    client = await connect(load(), 'test', start=False)\n"
            "    print(json.dumps(await client.call(method, **json.loads(params))))\n"
            "asyncio.run(call(*sys.argv[1:]))"
        )
        command = [sys.executable, "-c", script, method, json.dumps(params)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(ran.stdout)

    @staticmethod
    def _flash(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flash_nb", "engine", command, "--json"],
            capture_output=True,
            text=True,
            check=False,
        )


def detach(kernel: Kernel, flag: Path, body: str = "") -> Reply:
    """Start a detached cell that goes on when the flag is set."""
    return kernel.run(detached(flag, body)).ok()


def detached(flag: Path, body: str) -> str:
    """Return such a cell."""
    return f"%%flash_remote --detach\n{waiting(flag)}{body}"


def waiting(flag: Path) -> str:
    """Return the lines of a cell that wait for the flag."""
    return f"import pathlib, time\nwhile not pathlib.Path({str(flag)!r}).exists(): time.sleep(0.01)\n"


def in_terminal(script: str) -> str:
    """Return what IPython prints in a terminal that the lines of a script are typed into."""
    ran = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--simple-prompt", "--colors=NoColor"],
        input=script,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    return ran.stdout


def wait_for(condition: Callable[[], object], timeout: float = 10) -> None:
    """Wait until something holds that nobody tells us of."""
    give_up_at = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < give_up_at, f"it did not hold within {timeout:g} s"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends between opening and reading
        return False


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

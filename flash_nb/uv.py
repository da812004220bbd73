"""uv: how it is run, what it says of its progress, and why it failed, in one sentence.

Both who builds environments for workers and who builds artifacts install with it. Pure but for `program`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


def program() -> str:
    """Return the path of the uv that is installed beside flash_nb.

    Raises:
        FileNotFoundError: It has been removed.
    """
    from uv import find_uv_bin

    return os.fspath(find_uv_bin())


def variables(base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to run uv with: the machine's index settings stay, a project's do not.

    uv does not know pip's variables, so the ones that say where packages come from are translated.
    """
    strange = {"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH"}
    strange |= {"UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_PROJECT", "UV_WORKING_DIR"}
    kept = {name: value for name, value in base.items() if name not in strange}
    for ours, pips in (
        ("UV_INDEX_URL", "PIP_INDEX_URL"),
        ("UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL"),
        ("SSL_CERT_FILE", "PIP_CERT"),
    ):
        if pips in base:
            kept.setdefault(ours, base[pips])
    return kept | {"NO_COLOR": "1", "UV_NO_WRAP": "1"}


_DOWNLOADING = re.compile(r"Downloading (\S+).* \(([\d.]+)([KMG]?)i?B\)")
_SCALE = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


class Progress:
    """Turns the lines of one uv run into short phrases.

    Attributes:
        announced: Bytes of each file that it began to download, by package; it names those from 1 MB on.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._downloads: dict[str, float] = {}
        self.announced: dict[str, int] = {}

    def line(self, text: str) -> None:
        """Take one line of uv's output."""
        text = without_secrets(text.strip())
        verb, _, rest = text.partition(" ")
        if begun := _DOWNLOADING.match(text):
            self._downloads[begun[1]] = float(begun[2]) * _SCALE[begun[3]]
            self.announced[begun[1]] = round(self._downloads[begun[1]])
            self._say_download()
        elif verb == "Downloaded":
            self._downloads.pop(rest, None)
            self._say_download()
        elif verb in {"Resolved", "Prepared"}:
            self._say(f"{verb.lower()} {rest.partition(' in ')[0]}")
        elif verb == "Building":
            self._say(f"building {rest}")

    def _say_download(self) -> None:
        """Name the largest download under way: it is the one that everybody waits for."""
        if not self._downloads:
            return
        name, size = max(self._downloads.items(), key=lambda item: item[1])
        more = len(self._downloads) - 1
        self._say(f"downloading {name} ({size / 1e6:.0f} MB)" + (f" and {more} more" if more else ""))


class _Row(NamedTuple):
    """A row of the table below.

    In `pattern`, NAME is a package's name, REST its extras, markers and versions, and SPEC both.
    """

    kind: str
    pattern: str
    sentence: str
    hint: str

    def search(self, text: str) -> re.Match[str] | None:
        """Look for the pattern; compiled only here, since few engines ever see a failure."""
        pattern = self.pattern.replace("SPEC", "NAMEREST")
        pattern = pattern.replace("NAME", r"[A-Za-z0-9][\w.-]*(?![\w.-])")
        pattern = pattern.replace("REST", r"(?:\[[^\]]*\])?(?:\{[^}]*\})?[^\s{]*")
        return re.search(pattern, text)


_OTHER_VERSION = "Ask for another version, or leave the version out."
_OTHER_PYTHON = "Ask for another version of the package, or run it on another Python."
_LOOSEN = "Loosen or leave out one of the versions."

# The first that matches uv's message, its lines joined by single spaces. `{asked}` is all that was
# asked for. What uv writes was the same, but for punctuation, in 0.5.31, 0.8.22 and 0.13.9.
_FAILURES = (
    _Row(
        "network",
        r"client error \(Connect\)|error sending request for url|operation timed out",
        "{asked} cannot be installed: the network is unreachable, or the package index does not answer.",
        "Check the connection; behind a proxy or with an index of your own, set HTTPS_PROXY or UV_INDEX_URL.",
    ),
    _Row(
        "offline",
        r"network (?:was|is|connectivity is) disabled",
        "{asked} cannot be installed: uv is set to be offline, and its cache does not hold everything.",
        "Unset UV_OFFLINE, or install it once while online.",
    ),
    _Row(
        "status",
        r"HTTP status \w+ error \((?P<status>[^)]*)\) for url \((?P<url>[^)\s]*)\)",
        "{asked} cannot be installed: the server answered {status!r} to {url}.",
        "Check the address, and the credentials for it.",
    ),
    _Row(
        "build",
        r"Failed to (?:download and )?build `(?P<what>[^`]+)`.*Git operation failed",
        "The dependency {what!r} cannot be installed: git cannot fetch it.",
        "Check the address, the branch, and that this machine may read the repository.",
    ),
    _Row(
        "build",
        r"Failed to (?:download and )?build:? `(?P<what>[^`]+)`",
        "The dependency {what!r} cannot be installed: it has no wheel that fits, and its build failed.",
        "Ask for a version with wheels for this Python, or install what its build asks for.",
    ),
    _Row(
        "unknown",
        r"(?P<what>NAME) was not found in the package registry",
        "The dependency {what!r} cannot be installed: it is not on the package index.",
        "Is it misspelt? The name to install can differ from the name to import: cv2 is in opencv-python.",
    ),
    _Row(
        "version",
        r"there (?:is|are) no versions? of (?P<what>SPEC)",
        "The dependency {what!r} cannot be installed: there is no such version.",
        _OTHER_VERSION,
    ),
    _Row(
        "version",
        r"only (?P<has>SPEC) (?:is|are) available and (?:you require|SPEC depends on) (?P<what>SPEC),",
        "The dependency {what!r} cannot be installed: there is no such version, only {has}.",
        _OTHER_VERSION,
    ),
    _Row(
        "wheel",
        # The last one: it is the newest version.
        r".* (?P<what>SPEC) ha(?:s|ve) no (?:usable wheels|wheels with a matching)",
        "The dependency {what!r} cannot be installed: it has no wheel for this Python and machine.",
        _OTHER_PYTHON,
    ),
    _Row(
        "python",
        r"Python version \((?P<has>\S*)\) does not satisfy Python(?P<wanted>\S+) and (?P<what>SPEC) depends",
        "The dependency {what!r} cannot be installed: it needs Python {wanted}, and this is {has}.",
        _OTHER_PYTHON,
    ),
    _Row(
        "conflict",
        r"you require (?P<a>(?P<name>NAME)REST) and (?P<b>(?P=name)(?![\w.-])REST), we can",
        "{a} and {b} contradict each other.",
        _LOOSEN,
    ),
    _Row(
        "conflict",
        r"(?P<a>SPEC) depends on (?P<c>NAME)REST and (?P<b>SPEC) depends on (?P=c)(?![\w.-])",
        "{a} and {b} need different versions of {c}.",
        _LOOSEN,
    ),
    _Row(
        "conflict",
        r"(?P<a>SPEC) depends on (?P<c>NAME)REST (?:.*And because|and) you require "
        r"(?P<b>(?P=c)(?![\w.-])REST), we can",
        "{a} and {b} cannot be installed together: {a} needs another version of {c}.",
        _LOOSEN,
    ),
    _Row(
        "conflict",
        r"requirements are unsatisfiable",
        "{asked} cannot be installed: no set of versions satisfies everything.",
        _LOOSEN,
    ),
    _Row(
        "other", "", "{asked} cannot be installed.", "uv's words above say why; `uv pip install` repeats it."
    ),
)


class Failure(NamedTuple):
    """Why uv failed.

    Attributes:
        kind: What sort of failure it is: a word of the table above.
        what: The requirement or package at fault; empty if it is not one alone.
        sentence: What happened.
        hint: The next step.
        said: uv's own lines.
    """

    kind: str
    what: str
    sentence: str
    hint: str
    said: Sequence[str]


def explain(requirements: Sequence[str], output: str) -> Failure:
    """Return why an installation failed, from what uv wrote.

    Args:
        requirements: What was asked for.
        output: All that uv wrote.
    """
    lines = error_lines(output)
    text = " ".join(" ".join(map(_undrawn, lines)).split())
    asked = ("The dependency " if len(requirements) == 1 else "The dependencies ") + listed(requirements)
    for row in _FAILURES:
        if match := row.search(text):
            groups = match.groupdict()
            sentence = row.sentence.format(asked=asked, **groups)
            return Failure(row.kind, groups.get("what") or "", sentence, row.hint, lines)
    raise AssertionError("the last failure matches everything")


def without_secrets(text: str) -> str:
    """Hide the user and password in addresses: an index of one's own often has them."""
    return re.sub(r"(?<=://)[^/@\s]+@", "****@", text)


def listed(names: Sequence[str]) -> str:
    """Return names for a sentence: ``'a', 'b' and 'c'``."""
    quoted = [repr(name) for name in names]
    return " and ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))


def error_lines(output: str) -> list[str]:
    """Return uv's message without what it wrote before: steps that went well, and warnings."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    begins = ("error:", "No solution", "Failed to")
    starts = (number for number, line in enumerate(lines) if _undrawn(line).startswith(begins))
    return lines[next(starts, 0) :]


def _undrawn(line: str) -> str:
    """Return the line without the tree that uv draws before it."""
    return line.lstrip(" ×╰├│─▶")

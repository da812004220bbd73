"""Which files of a folder belong into an artifact, and why the others do not.

Four layers of rules in gitignore's syntax; of those that match a path, the last says what happens::

    usual rules        what no project means to ship; a rule of the project may take it back: ``!tests/``
    .gitignore         of the folder, then those of folders below it, for what is in them
    .flashignore       the same: it is about artifacts, so it wins over .gitignore
    never              secrets, and state of tools. No rule takes these back

As with git, nothing is found again in a folder that is left out. A link is followed if it leads to
something in the project that is not left out for good; elsewhere it is left out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from flash_nb.cells.secret import MOST_SEARCHED, form_of
from flash_nb.errors import ProjectError
from flash_nb.project.declared import Place, Trouble

IGNORE_FILES = (".gitignore", ".flashignore")

_USUAL = """
__pycache__/ *.py[cod] *$py.class .ipynb_checkpoints/ *.ipynb
tests/ test_*.py *_test.py conftest.py
/dist/ /build/ *.egg-info/ *.egg
.idea/ .vscode/ .DS_Store Thumbs.db *.swp *~
.mypy_cache/ .pytest_cache/ .ruff_cache/ .hypothesis/ .tox/ .nox/ .coverage htmlcov/ node_modules/
.gitignore .flashignore .gitattributes .github/ .pre-commit-config.yaml
"""

_NEVER = """
.git/ .hg/ .svn/ .flash/ /.build/ .runpod/ .venv/ venv/
.env .env.* *.env !.env.example !.env.sample !.env.template
*.pem *.key *.p12 *.pfx *.jks *.keystore *.kdbx *.ppk *.asc *.gpg
id_rsa* id_dsa* id_ecdsa* id_ed25519* !id_*.pub
.netrc _netrc .pypirc .npmrc .pgpass .htpasswd .git-credentials .dockercfg .docker/config.json
.aws/ .ssh/ .gnupg/ .azure/ .kube/ .config/gcloud/ kubeconfig* *.kubeconfig
credentials.json client_secret*.json service-account*.json service_account*.json .streamlit/secrets.toml
"""

_ENVIRONMENT_MARKS = ("pyvenv.cfg", "conda-meta")
MOST_READ = 64 * 1024 * 1024
"""Bytes of a file that are searched for secrets."""
_LONGEST_FORM = 1_200  # characters of the longest secret


@dataclass(frozen=True)
class Sources:
    """What a look at a folder found.

    Attributes:
        files: Relative to the folder, with ``/``, sorted.
        left_out: Why, by path; a folder that is left out as a whole ends with ``/``.
    """

    files: tuple[str, ...]
    left_out: Mapping[str, str]


def files_in(root: Path) -> tuple[str, ...]:
    """Return the files that belong into an artifact: relative to the folder, with ``/``, sorted."""
    return sources_in(root).files


def why_left_out(root: Path, path: str) -> str:
    """Return why a file is left out: ``"by the rule 'data/' in .gitignore:3"``.

    Empty if it belongs, or if there is no such file.
    """
    left_out = sources_in(root).left_out
    parts = PurePosixPath(path).parts
    above = ["/".join(parts[:count]) for count in range(1, len(parts))]
    return next(
        (left_out[each] for each in (*(f"{folder}/" for folder in above), path) if each in left_out), ""
    )


def sources_in(root: Path) -> Sources:
    """Look at every file of a folder.

    Raises:
        ProjectError: It is no folder, or an ignore file of it makes no sense.
    """
    root = root.resolve()
    if not root.is_dir():
        raise ProjectError(
            f"There is no folder {root}.", hint="Go to your project's folder, or make one: flash init"
        )
    walk = _Walk(root)
    walk.folder("", root, _Rules.first(), frozenset({root}))
    return Sources(tuple(sorted(walk.files)), dict(sorted(walk.left_out.items())))


def fingerprint(root: Path, files: Iterable[str]) -> str:
    """Return the SHA-256 of the files' paths and contents: equal for equal sources, wherever they lie."""
    total = sha256()
    for path in sorted(files):
        content = (root / path).read_bytes()
        total.update(f"{path}\0{len(content)}\0".encode(errors="surrogateescape"))
        total.update(content)
    return total.hexdigest()


def secrets_in(root: Path, files: Iterable[str]) -> list[Trouble]:
    """Return a trouble for each text that holds something of the form of a key, at its first line."""
    found = []
    for path in files:
        if hit := _first_secret(root / path):
            line, what = hit
            fix = "Read it from the environment: os.environ[…], set by env={…} of the resource"
            found.append(
                Trouble(
                    Place(path, line),
                    f"This would be packed, and has the form of {what}",
                    f"{fix}. If it is no secret: flash build --allow-secrets",
                )
            )
    return found


def _first_secret(path: Path) -> tuple[int, str] | None:
    with path.open("rb") as file:
        begin = file.read(8192)
        if b"\0" in begin:
            return None
        text = (begin + file.read(MOST_READ)).decode(errors="replace")
    step = MOST_SEARCHED - _LONGEST_FORM
    for start in range(0, len(text), step):
        part = text[start : start + MOST_SEARCHED]
        if what := form_of(part):
            lines = part.splitlines()
            inside = next((number for number, line in enumerate(lines) if form_of(line)), 0)
            return text.count("\n", 0, start) + inside + 1, what
    return None


# ---- the rules ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _RuleFile:
    """The rules of one ignore file, for what lies below its folder.

    Attributes:
        base: The folder: ``""`` or ``"a/b/"``.
        where: What a rule of it is called, without its line; empty for the built-in ones.
        spec: The rules.
        lines: Their numbers and texts.
    """

    base: str
    where: str
    spec: GitIgnoreSpec
    lines: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, base: str, where: str, lines: Iterable[str]) -> _RuleFile:
        numbered = enumerate(lines, 1)
        kept = tuple((number, line) for number, line in numbered if line.strip() and not line.startswith("#"))
        try:
            return cls(base, where, GitIgnoreSpec.from_lines(line for _, line in kept), kept)
        except ValueError as error:  # its own error for a pattern is one
            raise ProjectError(
                f"{where or 'The built-in rules'}: {error}", hint="Correct or remove that rule."
            ) from None

    def decide(self, path: str) -> tuple[bool, str] | None:
        """Return whether a path is left out and by which rule; None if no rule is about it."""
        answer = self.spec.check_file(path.removeprefix(self.base))
        if answer.include is None or answer.index is None:
            return None
        number, rule = self.lines[answer.index]
        place = f"in {self.where}:{number}" if self.where else "of flash_nb"
        return answer.include, f"by the rule {rule.strip()!r} {place}"


@dataclass(frozen=True)
class _Rules:
    """All rules that are about the files of one folder, the weakest first."""

    usual: _RuleFile
    by_name: Mapping[str, tuple[_RuleFile, ...]]

    @classmethod
    def first(cls) -> _Rules:
        return cls(_RuleFile.of("", "", _USUAL.split()), dict.fromkeys(IGNORE_FILES, ()))

    def within(self, base: str, folder: Path) -> _Rules:
        """Return the rules for a folder: those of the ones above it, and its own."""
        by_name = dict(self.by_name)
        for name in IGNORE_FILES:
            file = folder / name
            if file.is_file():
                lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
                by_name[name] = (*by_name[name], _RuleFile.of(base, f"{base}{name}", lines))
        return _Rules(self.usual, by_name)

    def reason(self, path: str) -> str:
        """Return why a path is left out; empty if it is not."""
        never = _FOR_GOOD.decide(path.lower())
        if never and never[0]:
            return f"{never[1]}: it is never packed"
        for file in (
            *(each for name in reversed(IGNORE_FILES) for each in reversed(self.by_name[name])),
            self.usual,
        ):
            if decided := file.decide(path):
                return decided[1] if decided[0] else ""
        return ""


_FOR_GOOD = _RuleFile.of("", "", _NEVER.split())


class _Walk:
    """One walk over a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: list[str] = []
        self.left_out: dict[str, str] = {}

    def folder(self, base: str, folder: Path, rules: _Rules, above: frozenset[Path]) -> None:
        """Look at a folder: `base` is its path as the artifact has it, `above` it and those above it."""
        rules = rules.within(base, folder)
        for entry in _entries(folder):
            path = base + entry.name
            real = Path(entry.path)
            if entry.is_symlink():
                real = real.resolve()
                if why := self._why_not_followed(real, above):
                    self.left_out[path] = why
                    continue
            try:
                mode = real.stat().st_mode
            except OSError as error:
                self.left_out[path] = f"because it cannot be read: {error.strerror}"
                continue
            if stat.S_ISDIR(mode):
                self._subfolder(f"{path}/", real, rules, above)
            elif why := rules.reason(path):
                self.left_out[path] = why
            elif stat.S_ISREG(mode):
                self.files.append(path)
            else:
                self.left_out[path] = "because it is no regular file"

    def _subfolder(self, path: str, real: Path, rules: _Rules, above: frozenset[Path]) -> None:
        if why := rules.reason(path):
            self.left_out[path] = why
        elif any((real / mark).exists() for mark in _ENVIRONMENT_MARKS):
            self.left_out[path] = "because it is an environment of Python"
        else:
            self.folder(path, real, rules, above | {real})

    def _why_not_followed(self, real: Path, above: frozenset[Path]) -> str:
        """Return why a link to this is not followed; empty if it is."""
        if not real.exists():
            return "because it is a link to nothing"
        if not real.is_relative_to(self.root):
            return "because it is a link to something outside the project"
        if real in above:
            return "because it is a link to a folder that it is in"
        target = real.relative_to(self.root).as_posix()
        parts = target.split("/")
        ways = ["/".join(parts[:count]) + "/" for count in range(1, len(parts))]
        never = (
            _FOR_GOOD.decide(each.lower())
            for each in (*ways, target, f"{target}/" if real.is_dir() else target)
        )
        if any(each and each[0] for each in never):
            return f"because it is a link to {target}, which is never packed"
        return ""


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        yield from sorted(found, key=lambda entry: entry.name)

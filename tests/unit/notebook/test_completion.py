"""Completion: a cell's text and a cursor to what may stand there."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flash_nb.cells.options import map_parser, parser
from flash_nb.notebook.commands import group
from flash_nb.notebook.completion import Completions, Query, complete
from flash_nb.notebook.grammar import CLAUSE, Command, Parameter, from_argparse, from_typer
from flash_nb.resources.cpu import CpuInstanceType
from flash_nb.resources.gpu import GpuGroup

REMOTE = from_argparse(parser())
COMMANDS = from_typer(group())
MAP = from_argparse(map_parser(), first=CLAUSE)
GRAMMARS = {"%%flash_remote": REMOTE, "%%flash_map": MAP, "%flash": COMMANDS}.get

SMALL = Command(
    parameters=(
        Parameter(("-g", "--gpu"), "GROUP", repeats=True),
        Parameter(("--in",), "a,b"),
        Parameter(("--mode",), "M", choices=("fast", "slow")),
        Parameter(("--detach",)),
        Parameter((), "WHAT"),
        Parameter((), "NAME", repeats=True),
    )
)
WORDS = {
    "GROUP": ("AMPERE_80", "AMPERE_24", "NVIDIA A40"),
    "a,b": ("frames", "labels", "frames_2"),
    "NAME": ("one", "two"),
}


def words(query: Query) -> tuple[str, ...]:
    return WORDS.get(query.parameter.takes, ())


def found(text: str, grammars=GRAMMARS, words=words) -> tuple[str, list[str]]:
    """Return what is replaced and what may stand there; ``|`` is the cursor, else it is at the end."""
    before, _, after = text.partition("|")
    done = complete(before + after, len(before), grammars=grammars, words=words)
    assert done is not None
    return before[done.start :], [item.text for item in done.items]


@pytest.mark.parametrize(
    ("line", "typed", "expected"),
    [
        ("", "", ["--gpu", "--in", "--mode", "--detach"]),
        ("-", "-", ["-g", "--gpu", "--in", "--mode", "--detach"]),
        ("--d", "--d", ["--detach"]),
        ("--detach --", "--", ["--gpu", "--in", "--mode"]),
        ("--mode fast --m", "--m", []),
        ("--mode=fast --m", "--m", []),
        ("--gpu A --g", "--g", ["--gpu"]),
        ("--gpu ", "", ["AMPERE_80", "AMPERE_24"]),
        ("-g AMPERE_8", "AMPERE_8", ["AMPERE_80"]),
        ("--gpu=AMPERE_2", "AMPERE_2", ["AMPERE_24"]),
        ('--gpu "', "", ["AMPERE_80", "AMPERE_24", "NVIDIA A40"]),
        ("--gpu 'NVIDIA A", "NVIDIA A", ["NVIDIA A40"]),
        ("--gpu NVIDIA\\ A", "", []),
        ('--gpu "NVIDIA A40"', "", []),
        ("--gpu AMPERE_80 --gpu A", "A", ["AMPERE_80", "AMPERE_24"]),
        ("--mode ", "", ["fast", "slow"]),
        ("--in ", "", ["frames", "labels", "frames_2"]),
        ("--in labels,fr", "fr", ["frames", "frames_2"]),
        ("--in=labels,frames,", "", ["frames_2"]),
        ("--unknown x", "x", []),
        ("--nothing=", "--nothing=", []),
        ("here ", "", ["one", "two", "--gpu", "--in", "--mode", "--detach"]),
        ("here one two t", "t", ["two"]),
    ],
)
def test_a_line(line, typed, expected):
    assert found(f"%%flash {line}", grammars=lambda _: SMALL) == (typed, expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%flash en", ["endpoints", "engine"]),
        ("%flash engine st", ["start", "status", "stop"]),
        ("%flash engine logs -", ["--json", "--lines", "-n", "--help"]),
        ("%flash engine nothing ", []),
        ("%flash endpoints --ba", ["--backend"]),
        ("%flash backend ", ["local", "runpod", "auto", "--help"]),
        ("%flash backend r", ["runpod"]),
        ("%flash cancel --a", ["--all"]),
        ("    %flash down --al", ["--all"]),
        ("x = 1\n%flash conf", ["config"]),
        ("%%flash_remote --ba", ["--backend"]),
        ("%%flash_map x i", ["in"]),
        ("%%flash_map x in xs --max-p", ["--max-parallel"]),
        ("%flash cache c", ["clear"]),
        ("%%flash_remote --backend l", ["local"]),
        ("# a comment\n\n%%flash_remote --ti", ["--timeout"]),
        ("%%flash_remote --de|--detach\nx = 1", ["--deps", "--detach", "--define"]),
    ],
)
def test_our_own_parsers(line, expected):
    assert found(line)[1] == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "%",
        "%flas",
        "%flash",
        "%%flash_remote",
        "%%flash_remote --gpu A\n--gpu ",
        "x = 1\n%%flash_remote --",
        " %%flash_remote --",
        "%%flash_other --",
        "%%flash --",
        "print('%flash ')",
        "%%flash_remote|  --gpu",
    ],
)
def test_elsewhere_there_is_nothing_to_say(text):
    before, _, after = text.partition("|")
    assert complete(before + after, len(before), grammars=GRAMMARS, words=words) is None


def test_what_a_question_for_words_says():
    asked = []
    text = "# c\n%%flash_remote --gpu A --out 'x,|'\nx = 1\ny = 2"
    found(text, words=lambda query: asked.append(query) or ["yes"])
    assert asked == [Query(REMOTE.option("--out"), "x,", ("--gpu", "A", "--out"), "x = 1\ny = 2")]


@pytest.mark.parametrize(
    ("line", "parser"), [("%%flash_remote", parser()), ("%%flash_map x in xs", map_parser())]
)
def test_every_option_of_a_cell_completes(line, parser):
    options = [text for action in parser._actions for text in action.option_strings]
    assert len(options) > 10
    for option in options:
        assert option in found(f"{line} {option[:-1]}")[1]


def commands(command, path=()):
    yield path, command
    for name, below in command.commands.items():
        yield from commands(below, (*path, name))


@pytest.mark.parametrize(("path", "command"), [*commands(COMMANDS)], ids=lambda each: repr(each)[:20])
def test_every_command_and_option_of_flash_completes(path, command):
    line = " ".join(("%flash", *path, ""))
    assert set(command.commands) <= set(found(line)[1])
    for parameter in command.parameters:
        for option in parameter.options:
            assert option in found(f"{line}{option[:-1]}")[1]


# --- whatever is typed --------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *("%%flash_remote ", "%flash ", "%%flash_map ", " ", "\n", "#", "'", '"', "\\", "=", ",", "-", "--"),
        *("--gpu", "--in", "--out", "--backend", "AMPERE_", "NVIDIA A", "engine", "logs", "cancel", "-r"),
    ]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=12).map("".join)
ALL_WORDS = [*GpuGroup, *CpuInstanceType, "NVIDIA A40", "it's", "frames", "", "a\nb", "x,y"]


@given(TEXTS, st.data())
@example("%%flash_remote --gpu 'it", None)
def test_completions_go_on_from_what_is_typed(text, data):
    cursor = len(text) if data is None else data.draw(st.integers(0, len(text)))
    done = complete(text, cursor, grammars=GRAMMARS, words=lambda _: ALL_WORDS)
    if done is None:
        return
    assert isinstance(done, Completions)
    typed = text[done.start : cursor]
    assert "\n" not in typed
    assert done.start <= cursor
    line = text[:cursor].rpartition("\n")[2].partition("flash")[2].partition(" ")[2]
    for item in done.items:
        assert item.text.startswith(typed)
        assert "\n" not in item.text
        assert _can_be_cut(line.removesuffix(typed) + item.text)


def _can_be_cut(line: str) -> bool:
    """Tell if the magic can cut a completed line into words, once an open quote is closed."""

    def cut(line: str) -> bool:
        try:
            return shlex.split(line) is not None
        except ValueError:
            return False

    return any(cut(line + end) for end in ("", "'", '"'))


@given(st.text(min_size=1).filter(lambda word: not set(word) & set("\n\"'\\")), st.data())
def test_a_chosen_completion_is_read_as_that_word(word, data):
    quote = data.draw(st.sampled_from(["'", '"']))
    before = f"%%flash_remote --name x --gpu {quote}"
    typed, items = found(before + word[: data.draw(st.integers(0, len(word)))], words=lambda _: [word])
    assert (before + word).startswith(before + typed)
    assert items == [word]
    assert shlex.split(before + items[0] + quote)[-1] == word

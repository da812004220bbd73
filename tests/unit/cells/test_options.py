"""The magic line: what is understood, and what one sentence refuses."""

from __future__ import annotations

import pytest
from IPython.core.error import UsageError

from flash_nb.cells.options import CellOptions, parse, parse_map, parser


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", CellOptions()),
        ("-r gpu", CellOptions(resource="gpu")),
        ("--gpu AMPERE_80 --gpu ADA_24", CellOptions(gpus=("AMPERE_80", "ADA_24"))),
        ("--cpu cpu5c-4-8 --name small", CellOptions(cpu="cpu5c-4-8", name="small")),
        ("--deps 'numpy>=2, pandas'", CellOptions(deps=("numpy>=2", "pandas"))),
        ("--in a,b --out c", CellOptions(inputs=("a", "b"), outputs=("c",))),
        ("--out ''", CellOptions(outputs=())),
        ("--timeout 1.5 --detach", CellOptions(timeout=1.5, detach=True)),
        ("--define", CellOptions(define=True)),
        ("--cache", CellOptions(cache=True)),
        ("--refresh", CellOptions(cache=True, refresh=True)),
    ],
)
def test_options(line, expected):
    assert parse(line) == expected


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--gpuu A", "no such option: --gpuu; did you mean '--gpu'?"),
        ("--time 3", "no such option: --time; did you mean '--timeout'?"),
        ("--timeout soon", "'soon' is not a number of seconds"),
        ("--timeout 0", "0 is not more than 0 seconds"),
        ("--out a-b", "'a-b' is not a name"),
        ("--gpu A --cpu b", "--gpu and --cpu exclude each other"),
        ("-r x --gpu A", "--resource excludes"),
        ("--run --define", "--run and --define exclude each other"),
        ("--define --refresh", "--define excludes --cache and --refresh"),
        ("--name 'x", "No closing quotation"),
        ("--gpu", "expected one argument"),
        ("--backend runpot", "argument --backend: 'runpot' is unknown; did you mean 'runpod'?"),
        ("--backend mine", "argument --backend: 'mine' is unknown; choose from local, runpod"),
    ],
)
def test_a_mistake_is_one_sentence(line, sentence):
    with pytest.raises(UsageError) as raised:
        parse(line)
    text = str(raised.value)
    assert sentence in text
    assert "\n" not in text
    assert text.startswith("%%flash_remote: ")


def test_options_of_a_map():
    clause, chosen = parse_map("a, b in zip(xs, '--x') --max-parallel 8 -r gpu --timeout 5 --out v")
    assert (clause.text, clause.names) == ("a, b in zip(xs, '--x')", ("a", "b"))
    assert chosen == CellOptions(
        resource="gpu", timeout=5, outputs=("v",), max_parallel=8, magic="%%flash_map", items=clause
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", "say what each item is: x in xs"),
        ("x in xs --max-paralel 8", "no such option: --max-paralel; did you mean '--max-parallel'?"),
        ("x in xs --max-parallel 0", "0 lets nothing run"),
        ("x in xs --max-parallel many", "'many' is not a number"),
        ("x in xs --detach", "no such option: --detach"),
        ("x in xs --cache", "no such option: --cache"),
        ("x in xs --gpu A --cpu b", "--gpu and --cpu exclude each other"),
    ],
)
def test_a_mistake_of_a_map_is_one_sentence(line, sentence):
    with pytest.raises(UsageError) as raised:
        parse_map(line)
    text = str(raised.value)
    assert sentence in text
    assert "\n" not in text
    assert text.startswith("%%flash_map: ")


def test_the_help_names_every_option():
    text = parser().format_help()
    for option in (
        "--resource",
        "--gpu",
        "--cpu",
        "--name",
        "--deps",
        "--in",
        "--out",
        "--timeout",
        "--detach",
    ):
        assert option in text

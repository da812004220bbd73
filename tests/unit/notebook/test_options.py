"""The magic line: what is understood, and what one sentence refuses."""

from __future__ import annotations

import pytest
from IPython.core.error import UsageError

from flash_nb.notebook.options import CellOptions, parse, parser


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

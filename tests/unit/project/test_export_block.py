"""Blocks: what a user writes around them survives, and what somebody changes inside is noticed."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from flash_nb.project.export.block import Block, Parsed, merged, parse

words = st.text(string.ascii_lowercase, min_size=1, max_size=8)
bodies = st.lists(
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\n\r#<"), max_size=8)
)
blocks = st.builds(lambda name, lines: Block("a b.ipynb", name, "\n".join(["x", *lines])), words, bodies)
several = st.lists(blocks, max_size=5, unique_by=lambda block: block.id)


@given(several, st.sampled_from(["a.py", "README.md", "requirements.txt"]))
def test_what_is_written_is_read(new, name):
    found = parse(merged(Parsed(""), new, name=name))
    assert [each.block for each in found.found] == new
    assert not any(each.is_edited or each.is_open for each in found.found)


@given(several, several, st.lists(words, min_size=6, max_size=6))
def test_what_stands_outside_survives_any_other_export(first, second, own):
    text = "\n".join(
        [
            f"# own {own[0]}",
            *(f"{b.written(markdown=False)}\n# own {w}" for b, w in zip(first, own[1:], strict=False)),
        ]
    )
    text = merged(parse(text), first, name="a.py")
    again = merged(parse(text), second, name="a.py")
    lines = [line for line in text.split("\n") if line.startswith("# own ")]
    assert sorted(line for line in again.split("\n") if line.startswith("# own ")) == sorted(lines)
    assert merged(parse(again), second, name="a.py") == again
    assert [each.block for each in parse(again).found] == second


def test_a_change_inside_is_noticed_and_line_endings_are_none():
    text = merged(Parsed(""), [Block("a.ipynb", "c1", "x = 1\ny = 2")], name="a.py")
    assert not parse(text.replace("\n", "\r\n")).found[0].is_edited
    assert parse(text.replace("x = 1", "x = 3")).found[0].is_edited
    assert parse(text.replace("# %% end", "")).found[0].is_open


def test_a_file_without_blocks_is_all_the_users():
    assert parse("x = 1\n").before == "x = 1\n"
    assert not parse("x = 1\n").found

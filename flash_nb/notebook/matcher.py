"""Completion in IPython: one of its matchers, for the lines of our magics alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

if TYPE_CHECKING:
    from flash_nb.notebook.completion import Completions
    from flash_nb.notebook.grammar import Command
    from flash_nb.notebook.notebook import Notebook

Matcher = Callable[[CompletionContext], SimpleMatcherResult]


def matcher(notebook: Notebook) -> Matcher:
    """Return a matcher for ``custom_matchers`` of IPython's completer.

    It fails in silence: IPython shows a traceback to whoever only types. What fails is logged.
    """

    def complete_flash(context: CompletionContext) -> SimpleMatcherResult:
        lines = context.full_text.split("\n")
        if not lines[context.cursor_line].lstrip().startswith(("%flash", "%%flash")):
            return _result([], "", suppress=False)
        cursor = sum(len(line) + 1 for line in lines[: context.cursor_line]) + context.cursor_position
        try:
            found = _complete(notebook, context.full_text, cursor)
        except Exception:
            logging.getLogger(__name__).debug("completion of %%flash failed", exc_info=True)
            found = None
        if found is None:
            return _result([], "", suppress=False)
        items = [SimpleCompletion(each.text, type=each.kind) for each in found.items]
        return _result(items, context.full_text[found.start : cursor], suppress=True)

    made: Matcher = context_matcher(identifier="flash_nb")(complete_flash)
    return made


def _result(items: list[SimpleCompletion], typed: str, *, suppress: bool) -> SimpleMatcherResult:
    return SimpleMatcherResult(
        completions=items, matched_fragment=typed, suppress=suppress, do_not_suppress=set(), ordered=True
    )


def _complete(notebook: Notebook, text: str, cursor: int) -> Completions | None:
    from flash_nb.notebook.completion import complete
    from flash_nb.notebook.vocabulary import Vocabulary

    return complete(text, cursor, grammars=_grammar, words=Vocabulary(notebook).words)


def _grammar(magic: str) -> Command | None:
    from flash_nb.notebook.grammar import CLAUSE, from_argparse, from_typer

    if magic == "%flash":
        from flash_nb.notebook.commands import group

        return from_typer(group())
    from flash_nb.cells.options import map_parser, parser

    if magic == "%%flash_remote":
        return from_argparse(parser())
    return from_argparse(map_parser(), first=CLAUSE) if magic == "%%flash_map" else None

"""IPython's syntax: what becomes Python, what is refused, and what is left alone."""

import ast
import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flash_nb.cells.shell import SHELL, translate
from flash_nb.errors import UnsupportedMagicError

COMMANDS = {
    "plain": ("!ls -l", "S('ls -l')"),
    "space": ("!  ls  ", "S('ls')"),
    "empty": ("!", "S('')"),
    "indented": ("if x:\n    !ls\n    y", "if x:\n    S('ls')\n    y"),
    "assigned": ("v = !ls", "v = S('ls', capture=True)"),
    "assigned, indented": ("if x:\n  v=!ls", "if x:\n  v=S('ls', capture=True)"),
    "assigned to several": ("a, d['k=v'] = b = !ls", "a, d['k=v'] = b = S('ls', capture=True)"),
    "assigned, annotated": ("v: list = ! ls", "v: list = S('ls', capture=True)"),
    "captured": ("!!ls", "S('ls', capture=True)"),
    "quotes": ('!echo it\'s "so"', "S('echo it\\'s \"so\"')"),
    "backslash": ("!echo a\\tb", "S('echo a\\\\tb')"),
    "continued": ("!ls \\\n  -l \\\n  -a\nx = 1", "S('ls    -l    -a')\n\n\nx = 1"),
    "continued to the end": ("!ls \\", "S('ls')"),
    "carriage return": ("!ls\r\nx = 1", "S('ls')\nx = 1"),
    "several": ("!a\nx = [\n  1]\n!b", "S('a')\nx = [\n  1]\nS('b')"),
    "question mark": ("!ls file?", "S('ls file?')"),
}
EXPANSIONS = {
    "expression": ("!cat {path} {d['a b']} { x[1:2] }", "S('cat {} {} {}'.format(path, d['a b'], x[1:2]))"),
    "closing brace in it": ("!cat {d['}']}", "S('cat {}'.format(d['}']))"),
    "set in it": ("!cat {len({1, 2})}", "S('cat {}'.format(len({1, 2})))"),
    "doubled braces": ("!awk '{{print $1}}' {f}", "S(\"awk '{{print $1}}' {}\".format(f))"),
    "doubled braces alone": ("!awk '{{print $1}}' f", "S(\"awk '{print $1}' f\")"),
    "not Python": ("!awk '{print $1}' {f} {{", "S(\"awk '{print $1}' {f} {{\")"),
    "brace expansion": ("!mkdir -p x/{a,b}", "S('mkdir -p x/{a,b}')"),
    "empty braces": ("!find . -exec rm {} \\;", "S('find . -exec rm {} \\\\;')"),
    "comment in braces": ("!echo {a # }", "S('echo {a # }')"),
    "known": ("!echo $known/$known.name.", "S('echo {}/{}.'.format(known, known.name))"),
    "known, in braces": ("!echo ${known}x", "S('echo {}x'.format(known))"),
    "the shell's": (
        "!echo $HOME ${HOME} ${known:-1} $1 $$ $(ls)",
        "S('echo $HOME ${HOME} ${known:-1} $1 $$ $(ls)')",
    ),
    "doubled dollar": ("!echo $$known", "S('echo $known')"),
    "doubled braces after a dollar": ("!echo ${{known}}", "S('echo ${known}')"),
    "single quotes": ("!echo '$known' \"$known\"", "S('echo \\'$known\\' \"{}\"'.format(known))"),
    "assigned in the cell": ("for f in x:\n    !cat $f $g", "for f in x:\n    S('cat {} $g'.format(f))"),
    "assigned later": ("!cat $f\nimport a.b as f", "S('cat {}'.format(f))\nimport a.b as f"),
    "captured in the cell": ("v = !ls\n!cat $v", "v = S('ls', capture=True)\nS('cat {}'.format(v))"),
    "a keyword": ("!echo $known.class", "S('echo $known.class')"),
}


@pytest.mark.parametrize(("source", "python"), (COMMANDS | EXPANSIONS).values(), ids=COMMANDS | EXPANSIONS)
def test_commands_become_calls(source, python):
    translated = translate(source, known=["known"])
    assert translated.source == python.replace("S(", f"{SHELL}(")
    assert translated.dependencies == ()
    ast.parse(translated.source)


INSTALLS = {
    "%pip install a": "a",
    "%pip install a 'b>=1' \"c[x]<2\" -q": "a b>=1 c[x]<2",
    "%pip install -qU --quiet a --upgrade  # newest": "a",
    "!pip install a": "a",
    "!pip3 install a": "a",
    "!python -m pip install a": "a",
    "!python3.11 -m pip install a": "a",
    "!{sys.executable} -m pip install a": "a",
    "%uv pip install a": "a",
    "!uv pip install --system a": "a",
    "%pip install \\\n    a \\\n    b": "a b",
    "%pip install": "",
}


@pytest.mark.parametrize(("source", "dependencies"), INSTALLS.items())
def test_installs_become_dependencies(source, dependencies):
    translated = translate(f"if x:\n    {source}\nimport a")
    assert translated.dependencies == tuple(dependencies.split())
    blank = "\n" * source.count("\n")
    assert translated.source == f"if x:\n    pass{blank}\nimport a"


def test_a_requirement_with_an_address():
    assert translate("%pip install 'a @ https://host/a.whl#sha256=1'").dependencies == (
        "a @ https://host/a.whl#sha256=1",
    )


REFUSED = {
    "%time f()": "%time f()",
    "%%time\nf()": "%%time",
    "%%bash\nls 'it": "Write each command",
    "x = %env HOME": "'x = %env HOME'",
    "?f": "?f",
    "f?": "f?",
    "f.x[0]??": "f.x[0]??",
    "%f?": "%f?",
    "*int*?": "*int*?",
    "%cd /tmp": "os.chdir",
    "%pip list": "!pip",
    "%%pip install a": "!pip",
    "v = %pip install a": "!pip",
    "%conda install a": "%pip install",
    "%pip install -r requirements.txt": "option -r",
    "!pip install --index-url=https://host a": "--index-url=https://host",
    "%pip install -e .": "option -e",
    "%pip install .": "'.'",
    "!pip install a && ls": "'&&'",
    "%pip install {a}": "'{a}'",
    "%pip install $a": "'$a'",
    "%pip install 'a": "quotation",
    "%pip install git+https://host/a": "name @",
}


@pytest.mark.parametrize(("source", "part"), REFUSED.items())
def test_other_magics_are_refused(source, part):
    with pytest.raises(UnsupportedMagicError) as raised:
        translate(f"x = 1\n\nif x:\n    !ls\n    {source}\n")
    assert "Line 5" in raised.value.message
    assert part in str(raised.value)
    assert raised.value.hint


UNTOUCHED = {
    "plain": "x = 1\n",
    "await": "await f()\nasync with a: pass",
    "magics in a string": 's = """\n!ls\n%time\nf?\n"""',
    "operators": "a = (5\n % 3)",
    "comment": "# !ls\n# v = !ls\n# f?",
    "broken": "def f(:\n    pass",
    "broken, with a percent": "x = = 5\n% 3",
    "unclosed bracket": "x = (1,\n!ls\n",
    "unclosed string": "x = '''\n!ls\n%time",
    "assignment in a string": "x = 'y = !ls'\n1 +",
    "assignment in a comment": "x = 1  # y = !ls\n1 +",
    "keyword argument": "f(a=!ls)",
    "augmented": "x += !ls",
    "comparison": "x == !ls",
    "null byte": "x = '\0'",
    "surrogate": "x = '\ud800'\n1 +",
}


@pytest.mark.parametrize("source", UNTOUCHED.values(), ids=UNTOUCHED)
def test_python_is_left_alone_broken_or_not(source):
    assert translate(source).source == source


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ('s = """\n!ls\n"""\n!ls', 's = """\n!ls\n"""\n'),
        ("a = (5\n % 3)\n!ls", "a = (5\n % 3)\n"),
        ("x = 1 + \\\n  2\n!ls", "x = 1 + \\\n  2\n"),
        ("@d\ndef f(\n  x): # (\n\n    return x\n!ls", "@d\ndef f(\n  x): # (\n\n    return x\n"),
        ("try:\n    1\nfinally:\n    2\n!ls", "try:\n    1\nfinally:\n    2\n"),
        ("x = 1  # y = !ls\n!ls", "x = 1  # y = !ls\n"),
        ("x = f'{a!r}' 'y = !ls'\n!ls", "x = f'{a!r}' 'y = !ls'\n"),
    ],
)
def test_python_around_commands_is_left_alone(source, kept):
    assert translate(source).source == f"{kept}{SHELL}('ls')"


def test_syntax_errors_keep_their_line():
    with pytest.raises(SyntaxError) as raised:
        ast.parse(translate("!ls \\\n  -l\n%pip install a\nx = = 1\n!ls").source)
    assert raised.value.lineno == 4


PIECES = [
    "!",
    "!ls",
    "%",
    "%pip install ",
    "a",
    "=",
    " = ",
    "?",
    "$a",
    "${",
    "{",
    "}",
    "'",
    '"""',
    "(",
    ")",
    "\\",
    "#",
]
PIECES += ["\n", "\n    ", "\r", "\f", ":", "if a", "f'", "-q", "\0", "é", "\ud800", ";", ",", "&&", "@", "1"]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(max_size=60))
@example("!{a\r}")
def test_any_text_is_translated_or_refused(source):
    with contextlib.suppress(UnsupportedMagicError):
        translated = translate(source, known=["a"])
        assert translated.source.count("\n") == source.count("\n")


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60),
    st.sampled_from(["!", "v = !", "!!"]),
)
def test_any_command_becomes_python(command, start):
    if command.endswith("\\") or "pip" in command:
        return
    ast.parse(translate(f"{start}{command}", known=["a"]).source)


@given(st.text(st.sampled_from("{}$'\"ab.:!#, \\x"), max_size=30))
def test_any_command_with_marks_becomes_python(command):
    ast.parse(translate(f"!{command}", known=["a"]).source)


@given(st.lists(st.sampled_from(["x = 1", "s = '''\n%a\n'''", "f(\n  1)", "if x:\n  y", "# !a"]), max_size=6))
def test_plain_python_comes_back_as_it_is(statements):
    source = "\n".join(statements)
    assert translate(source).source == source
    assert translate(f"{source}\n!ls").source == f"{source}\n{SHELL}('ls')"

"""Secrets: names that say that they hold one, and texts that have the form of one.

Nothing here returns a part of a text, not even its beginning: a finding is shown, saved and logged.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

Doubt = Literal["no", "perhaps", "yes"]
"""Whether a name says that it holds a secret; "perhaps": its value has to decide."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ALWAYS = frozenset(
    {"apikey", "credential", "credentials", "passphrase", "passwd", "password", "secret", "secrets"}
)
# The words before that make a key, a password or a token of something that opens doors.
_KEYS = "access account api auth encryption private secret signing ssh"
_PASSED = "admin db ftp mysql pg postgres root smtp user"
_TOKENS = """access api auth bearer bot deploy discord gh github gitlab hf hub huggingface id jwt npm oauth
openai pypi refresh replicate runpod secret session slack telegram wandb"""
_OPENED_BY = {
    last: frozenset(words.split())
    for last, words in {"key": _KEYS, "pass": _PASSED, "pwd": _PASSED, "token": _TOKENS}.items()
}
# Tokens of a text.
_PIECES = frozenset(
    {
        "bos",
        "cls",
        "current",
        "end",
        "eos",
        "first",
        "last",
        "mask",
        "max",
        "min",
        "new",
        "next",
        "num",
        "pad",
    }
    | {"prev", "previous", "sep", "special", "start", "stop", "unk"}
)


@lru_cache(maxsize=4096)  # asked anew for every value of every call
def doubt(name: str) -> Doubt:
    """Tell whether a name says that it holds a secret.

    The last words of the name decide: ``api_key`` does, ``api_key_count`` and ``tokenizer`` do not.
    ``token`` and ``pwd`` alone may be a piece of text and a folder.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    if words and words[-1].isdigit():
        words.pop()
    if words[-2:] == ["key", "id"]:  # AWS_ACCESS_KEY_ID
        words.pop()
    before, last = ["", "", *words][-2:]
    if last in _ALWAYS or before in _OPENED_BY.get(last, ()):
        return "yes"
    if last == "token" and before not in _PIECES:
        return "yes" if name.isupper() else "perhaps"
    return "perhaps" if last == "pwd" else "no"


# A text that every such secret holds, found fast, and the form from there on. ``(?<!\wab)`` after ``ab``
# asks for the beginning of a word there.
_FORMS = (
    ("a Runpod key", "rpa_", r"(?<!\wrpa_)[A-Za-z0-9]{20}"),
    ("an API key", "sk-", r"(?<!\wsk-)[A-Za-z0-9_-]{20}"),
    ("a GitHub token", "gh", r"(?<!\wgh)[opusr]_[A-Za-z0-9]{30}"),
    ("a GitHub token", "github_pat_", r"\w{20}"),
    ("a GitLab token", "glpat-", r"[\w-]{20}"),
    ("an AWS access key", "AKIA", r"(?<!\wAKIA)[A-Z0-9]{16}\b"),
    ("an AWS access key", "ASIA", r"(?<!\wASIA)[A-Z0-9]{16}\b"),
    ("a Google key", "AIza", r"[\w-]{35}"),
    ("a Hugging Face token", "hf_", r"(?<!\whf_)[A-Za-z0-9]{30}"),
    ("a Slack token", "xox", r"[abeprs]-[A-Za-z0-9-]{10}"),
    ("an npm token", "npm_", r"(?<!\wnpm_)[A-Za-z0-9]{36}"),
    ("a PyPI token", "pypi-AgE", r"[\w-]{20}"),
    ("a Stripe key", "k_live_", r"[A-Za-z0-9]{16}"),
    ("a signed web token", "eyJ", r"[\w-]{10,500}\.eyJ[\w-]{10,500}\.[\w-]{10}"),
    ("a private key", "-----BEGIN ", r"[A-Z ]{0,20}PRIVATE KEY"),
    ("an address with a password", "://", r"[^\s:/@{}$]{1,100}:[^\s:/@{}$<>*]{1,200}@"),
)
_SEARCHED = tuple((what, begin, re.compile(re.escape(begin) + rest)) for what, begin, rest in _FORMS)
MOST_SEARCHED = 20_000
"""How many characters of a text are looked at."""


def form_of(text: str) -> str:
    """Return what a text, or a part of it, has the form of, e.g. "a GitHub token"; empty if of nothing."""
    text = text[:MOST_SEARCHED]
    for what, begin, form in _SEARCHED:
        if begin in text and form.search(text):
            return what
    return ""


def says_secret(name: str, text: str) -> bool:
    """Tell whether a text is a secret because of the name that it goes by."""
    sure = doubt(name)
    if sure == "perhaps":
        return len(text) >= 16 and not re.search(r"\s|^[/~.<]", text)  # noqa: PLR2004 - no word is as long
    return sure == "yes" and bool(text.strip())

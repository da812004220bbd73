"""Secrets: told from names and from forms, and from what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.cells.secret import doubt, form_of, says_secret

SURE = """API_KEY api_key apiKey APIKey openai_api_key AWS_SECRET AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID
TOKEN HF_TOKEN hf_token github_token access_token access_token2 password dbPassword db_pass passwd
passphrase client_secret secret credentials private_key SECRET_KEY"""
PERHAPS = "token my_token pwd"
NOT = """token_count tokens tokenizer key keys monkey api_key_count eos_token EOS_TOKEN pad_token next_token
first_pass compass public_key primary_key sort_key secretary password_hint keyboard x _ X1 tokenize passes
number_of_secrets_found author authority"""


@pytest.mark.parametrize(("names", "expected"), [(SURE, "yes"), (PERHAPS, "perhaps"), (NOT, "no")])
def test_names(names, expected):
    for name in names.split():
        assert (name, doubt(name)) == (name, expected)


FORMS = {
    "rpa_" + "A1" * 20: "a Runpod key",
    "sk-" + "a1" * 20: "an API key",
    "sk-ant-api03-" + "a1" * 20: "an API key",
    "key=ghp_" + "a" * 36: "a GitHub token",
    "github_pat_" + "a1_" * 20: "a GitHub token",
    "glpat-" + "x" * 20: "a GitLab token",
    "AKIAIOSFODNN7EXAMPLE": "an AWS access key",
    "AIza" + "b" * 35: "a Google key",
    "hf_" + "aB" * 17: "a Hugging Face token",
    "xoxb-1234567890-abc": "a Slack token",
    "npm_" + "a" * 36: "an npm token",
    "pypi-AgE" + "x" * 30: "a PyPI token",
    "sk_live_" + "a" * 24: "a Stripe key",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmN": "a signed web token",
    "-----BEGIN RSA PRIVATE KEY-----\nMII": "a private key",
    "postgres://me:hunter2@db.example/x": "an address with a password",
    "x" * 1000 + " sk-" + "a1" * 20: "an API key",
}
HARMLESS = [
    "",
    "task-" + "a" * 40,
    "risk-averse-" + "a" * 40,
    "sk-short",
    "https://example.org:8080/a@b",
    "https://user@example.org",
    "postgres://{user}:{password}@host",
    "AKIA",
    "see https://a.b/c: mail@example.org",
    "-----BEGIN CERTIFICATE-----",
    "eyJ" * 1000,
]


@pytest.mark.parametrize(("text", "what"), FORMS.items())
def test_forms(text, what):
    assert form_of(text) == what


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_texts(text):
    assert form_of(text) == ""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("password", "correct horse", True),
        ("password", "", False),
        ("password", "  ", False),
        ("token", "walk", False),
        ("token", "A" * 16, True),
        ("token", "a long sentence of words", False),
        ("pwd", "/home/somebody/projects/notebook", False),
        ("tokens", "A" * 40, False),
    ],
)
def test_a_name_with_its_text(name, text, expected):
    assert says_secret(name, text) is expected


@given(st.text())
def test_what_is_told_holds_nothing_of_the_text(text):
    assert form_of(text) in {"", *FORMS.values()}
    assert doubt(text) in {"no", "perhaps", "yes"}

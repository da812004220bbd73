"""The API key: where it is found, and that nothing shows it."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import stat
import traceback

import httpx
import pytest

from flash_nb.backends.auth import ApiKey, config_file, find_key, require_key
from flash_nb.errors import ApiKeyError, SettingsError

KEY = "rpa_SECRETSECRETSECRET"


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home" / ".runpod").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    return tmp_path


def find(home, argument=None, **environ):
    return find_key(argument, environ={"HOME": str(home / "home"), **environ}, folder=home / "work")


def sent(key) -> str:
    request = httpx.Request("GET", "http://127.0.0.1/")
    return key.authorize(request).headers["authorization"]


def test_the_first_place_that_has_a_key_counts(home):
    assert find(home) is None
    config = home / "home" / ".runpod" / "config.toml"
    config.write_text('apikey = "rpa_ctl"\n')
    assert sent(find(home)) == "Bearer rpa_ctl"
    config.write_text('apikey = "rpa_ctl"\n[default]\napi_key = "rpa_config"\n')
    assert sent(find(home)) == "Bearer rpa_config"
    assert find(home).source == str(config)
    (home / "work" / ".env").write_text("OTHER=1\nRUNPOD_API_KEY=rpa_dotenv\n")
    assert sent(find(home)) == "Bearer rpa_dotenv"
    assert find(home).source == str(home / "work" / ".env")
    assert sent(find(home, RUNPOD_API_KEY=" rpa_environment\n")) == "Bearer rpa_environment"
    assert sent(find(home, RUNPOD_API_KEY="  ")) == "Bearer rpa_dotenv"
    assert sent(find(home, "rpa_argument", RUNPOD_API_KEY="rpa_environment")) == "Bearer rpa_argument"


def test_reading_a_dotenv_file_leaves_the_environment_alone(home):
    before = dict(os.environ)
    (home / "work" / ".env").write_text(f"RUNPOD_API_KEY={KEY}\nA_NEW_NAME=1\n")
    find(home)
    assert dict(os.environ) == before


@pytest.mark.parametrize("show", [repr, str, "{}".format, "%s".__mod__, lambda key: f"{[key]!r}"])
def test_nothing_shows_it(show):
    assert show(ApiKey(KEY, "the test")).strip("[]") == "<API key from the test>"


@pytest.mark.parametrize("travel", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_does_not_travel(travel):
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        travel(ApiKey(KEY, "the test"))


def test_it_is_in_no_log(caplog):
    caplog.set_level(logging.DEBUG)
    key = ApiKey(KEY, "the test")
    logging.getLogger("x").warning("%s %r", key, key)
    with httpx.Client(auth=key.authorize, trust_env=False) as client, pytest.raises(httpx.ConnectError):
        client.get("http://127.0.0.1:9/")
    assert KEY not in caplog.text


@pytest.mark.parametrize("text", ["", "two words", "key\nX-Other: 1", "schlüssel", "a\x00"])
def test_what_is_no_key_is_refused_without_being_shown(text):
    with pytest.raises(ApiKeyError, match="What the test holds is no API key") as caught:
        ApiKey(text, "the test")
    assert not text or text not in "".join(traceback.format_exception(caught.value))


def test_a_broken_config_is_named_and_not_quoted(home):
    (home / "home" / ".runpod" / "config.toml").write_text(f"api_key = {KEY}\n")
    with pytest.raises(SettingsError, match=r"config\.toml is not TOML") as caught:
        find(home)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_without_a_key_the_error_says_how_to_get_one(home):
    with pytest.raises(ApiKeyError, match="flash login"):
        require_key(environ={"HOME": str(home / "home")}, folder=home / "work")


def test_keeping_a_key_keeps_all_else_and_shuts_others_out(home):
    file = config_file({"HOME": str(home / "home")})
    other = '# my settings\napikey = "old" # ctl\n\n[other]\nx = [1, 2]  # kept\n'
    file.write_text(other)
    file.chmod(0o644)
    ApiKey(KEY, "the test").keep(file)
    assert file.read_text().startswith(other)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sent(find(home)) == f"Bearer {KEY}"
    ApiKey("rpa_new", "the test").keep(file)
    assert sent(find(home)) == "Bearer rpa_new"
    assert "SECRET" not in file.read_text()
    assert [each.name for each in file.parent.iterdir()] == ["config.toml"]


def test_keeping_a_key_where_there_is_nothing(tmp_path):
    file = config_file({"HOME": str(tmp_path)})
    ApiKey(KEY, "the test").keep(file)
    assert file.read_text() == f'[default]\napi_key = "{KEY}"\n'
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_broken_config_is_not_overwritten(tmp_path):
    file = config_file({"HOME": str(tmp_path)})
    file.parent.mkdir()
    file.write_text("= 1")
    with pytest.raises(SettingsError):
        ApiKey(KEY, "the test").keep(file)
    assert file.read_text() == "= 1"

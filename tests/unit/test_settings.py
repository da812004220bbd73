"""Settings: layers, their order, and errors that say what to write instead."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import pytest

from flash_nb.errors import SettingsError
from flash_nb.settings import (
    CHANGEABLE,
    MAX_SOCKET_PATH,
    MEANINGS,
    NAMES,
    TYPED,
    WORDS,
    Settings,
    load,
    shown,
)


def project(folder: Path, text: str) -> Path:
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder


def test_defaults(tmp_path):
    settings = load(environ={}, folder=tmp_path)
    assert settings.python == sys.executable
    assert settings.home.is_absolute()
    assert settings.cache != settings.home
    assert settings.engine_idle_s == 300.0
    assert settings.allow_apt is False


def test_argument_beats_environment_beats_project_beats_default(tmp_path):
    folder = project(tmp_path, '[tool.flash_nb]\npython = "project"\nengine_idle_s = 1\nallow_apt = true\n')
    environ = {"FLASH_PYTHON": "environment", "FLASH_ENGINE_IDLE_S": "2"}
    settings = load(environ=environ, folder=folder, python="argument")
    assert (settings.python, settings.engine_idle_s, settings.allow_apt) == ("argument", 2.0, True)
    assert load(environ={}, folder=folder).python == "project"
    assert load(environ=environ, folder=folder, python=None).python == "environment"


def test_the_nearest_project_counts(tmp_path):
    project(tmp_path, '[tool.flash_nb]\npython = "outer"\n')
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert load(environ={}, folder=inner).python == "outer"
    project(tmp_path / "a", '[project]\nname = "x"\n')
    assert load(environ={}, folder=inner).python == sys.executable


def test_an_unknown_key_is_refused_with_a_suggestion(tmp_path):
    folder = project(tmp_path, "[tool.flash_nb]\nengine_idle = 3\n")
    with pytest.raises(
        SettingsError, match="no setting 'engine_idle'; did you mean 'engine_idle_s'"
    ) as caught:
        load(environ={}, folder=folder)
    assert str(folder / "pyproject.toml") in caught.value.message
    assert "allow_apt" in caught.value.hint


def test_broken_toml_names_the_file(tmp_path):
    folder = project(tmp_path, "[tool.flash_nb]\npython = \n")
    with pytest.raises(SettingsError, match=r"pyproject\.toml is not TOML"):
        load(environ={}, folder=folder)


def test_a_project_that_only_mentions_us_is_fine(tmp_path):
    folder = project(tmp_path, "# see [tool.flash_nb]\n[tool.other]\nx = 1\n")
    assert load(environ={}, folder=folder).python == sys.executable


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_what_is_true(value, tmp_path):
    assert load(environ={"FLASH_ALLOW_APT": value}, folder=tmp_path).allow_apt is True


@pytest.mark.parametrize("value", ["0", "false", "No", "off", ""])
def test_what_is_false(value, tmp_path):
    assert load(environ={"FLASH_ALLOW_APT": value}, folder=tmp_path).allow_apt is False


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"FLASH_ALLOW_APT": "perhaps"}, "allow_apt = 'perhaps' is neither true nor false"),
        ({"FLASH_ENGINE_IDLE_S": "soon"}, "engine_idle_s = 'soon' is not a float"),
        ({"FLASH_TRANSPORT": "pigeon"}, "transport = 'pigeon' is not one of unix, tcp"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_its_place(environ, message, tmp_path):
    with pytest.raises(SettingsError) as caught:
        load(environ=environ, folder=tmp_path)
    assert caught.value.message == message
    assert caught.value.hint == f"It comes from: {next(iter(environ))}"


def test_origins_say_where_each_came_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = project(tmp_path, '[tool.flash_nb]\npython = "project"\nengine_idle_s = 1\ntransport = "tcp"\n')
    (folder / ".env").write_text("FLASH_ENGINE_IDLE_S=2\nFLASH_PYTHON=dotenv\nFLASH_BACKED=x\n")
    settings = load(environ={"FLASH_PYTHON": "environment"}, folder=folder, backend="local")
    assert settings.origins == {
        "transport": "pyproject.toml",
        "engine_idle_s": "FLASH_ENGINE_IDLE_S in .env",
        "python": "FLASH_PYTHON",
        "backend": "argument",
    }
    assert (settings.transport, settings.engine_idle_s, settings.python) == ("tcp", 2.0, "environment")


def test_only_our_variables_are_read_from_dotenv_and_none_is_set(tmp_path):
    (tmp_path / ".env").write_text("HOME=/elsewhere\nhome=/x\nFLASH_BACKEND=local\nFLASH_ALLOW_APT\n")
    before = dict(os.environ)
    settings = load(environ={}, folder=tmp_path)
    assert [*settings.origins] == ["backend"]
    assert dict(os.environ) == before


def test_a_dotenv_that_is_no_text_is_named(tmp_path):
    (tmp_path / ".env").write_bytes(b"FLASH_BACKEND=\xff\xfe")
    with pytest.raises(SettingsError, match=r"\.env is not UTF-8 text"):
        load(environ={}, folder=tmp_path)


def test_a_value_of_dotenv_that_cannot_be_used_names_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("FLASH_BACKEND=runpot\n")
    with pytest.raises(SettingsError, match="did you mean 'runpod'") as caught:
        load(environ={}, folder=tmp_path)
    assert caught.value.hint == "It comes from: FLASH_BACKEND in .env"


def test_where_a_file_is_shown(tmp_path, monkeypatch):
    here = tmp_path / "project" / "notebooks"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert shown(here / ".env") == ".env"
    assert shown(here / "a" / "b") == "a/b"
    project(tmp_path / "project", "[tool.flash_nb]\nallow_apt = true\n")
    assert load(environ={}).origins == {"allow_apt": "../pyproject.toml"}
    assert shown(tmp_path / "me" / "x") == "~/x"
    assert shown(Path("/usr/bin/python3")) == "/usr/bin/python3"


def test_a_changed_setting_says_who_changed_it(tmp_path):
    settings = load(environ={}, folder=tmp_path)
    changed = settings.changed("allow_apt", "on", origin=TYPED)
    assert (changed.allow_apt, changed.origins) == (True, {"allow_apt": "this notebook"})
    assert settings.allow_apt is False
    with pytest.raises(SettingsError, match="no setting 'alow_apt'; did you mean 'allow_apt'"):
        settings.changed("alow_apt", "on", origin=TYPED)
    with pytest.raises(SettingsError, match="no setting 'origins'"):
        settings.changed("origins", "on", origin=TYPED)


def test_every_setting_has_a_meaning():
    assert set(MEANINGS) == set(NAMES)
    assert set(NAMES) >= {*CHANGEABLE, *WORDS}


def test_paths_are_absolute_and_know_the_users_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/somewhere")
    settings = load(environ={"FLASH_HOME": "here", "FLASH_CACHE": "~/there"}, folder=tmp_path)
    assert settings.home == tmp_path / "here"
    assert settings.cache == Path("/somewhere/there")


def test_settings_are_frozen(tmp_path):
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(environ={}, folder=tmp_path).python = "other"  # type: ignore[misc]


def test_files_lie_in_the_home():
    settings = Settings(home=Path("/h"), cache=Path("/c"))
    assert (str(settings.state_file), str(settings.log_file)) == ("/h/engine.json", "/h/engine.log")
    assert settings.engine_url == "unix:/h/engine.sock"


def test_a_home_too_deep_for_a_socket_gets_one_elsewhere():
    deep = Settings(home=Path("/h" * 80), cache=Path("/c"))
    other = Settings(home=Path("/i" * 80), cache=Path("/c"))
    assert len(deep.engine_url) < MAX_SOCKET_PATH
    assert deep.engine_url != other.engine_url
    assert deep.engine_url == Settings(home=Path("/h" * 80), cache=Path("/d")).engine_url


def test_tcp_lets_the_engine_choose_its_port(tmp_path):
    assert load(environ={"FLASH_TRANSPORT": "tcp"}, folder=tmp_path).engine_url == "tcp:127.0.0.1:0"


def test_who_runs_endpoints(tmp_path):
    assert load(environ={}, folder=tmp_path).backend == "auto"
    folder = project(tmp_path, '[tool.flash_nb]\nbackend = "local"\ndown_on_exit = true\n')
    assert load(environ={}, folder=folder).backend == "local"
    assert load(environ={}, folder=folder).down_on_exit is True
    assert load(environ={"FLASH_BACKEND": "runpod"}, folder=folder).backend == "runpod"
    with pytest.raises(SettingsError, match=r"backend = 'runpot' is not one of .*; did you mean 'runpod'"):
        load(environ={"FLASH_BACKEND": "runpot"}, folder=folder)

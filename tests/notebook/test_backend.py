"""The same cells on Runpod: here the engine plays it, behind Runpod's own addresses."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def cloud(engine, kernel):
    """What the kernel needs to take the engine for Runpod; it goes back to the local engine afterwards."""
    done = subprocess.run(
        [sys.executable, "-m", "flash_nb", "engine", "start", "--json"],
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    started = json.loads(done.stdout)
    variables = {**started["runpod"], "RUNPOD_API_KEY": started["api_key"]}
    kernel.run(f"import os; os.environ.update({variables!r})").ok()
    return started


@pytest.fixture(autouse=True)
def back_to_local(kernel, cloud):
    yield
    kernel.run("%flash backend local").ok()


def test_the_first_record_names_who_runs_it_and_so_does_the_first_after_a_change(kernel, cloud):
    assert "local engine" in kernel.remote("1").ok().record
    assert "local engine" not in kernel.remote("1").ok().record
    assert kernel.run("%flash backend runpod").ok().stdout == "Endpoints are run by: runpod\n"
    assert "Runpod" in kernel.remote("1").ok().record
    assert "Runpod" not in kernel.remote("1").ok().record


def test_cells_functions_and_errors_are_as_on_the_local_engine(kernel, cloud):
    kernel.run("%flash backend runpod").ok()
    kernel.run("n = 20").ok()
    reply = kernel.remote("print('hello')\nm = n + 1\nm * 2").ok()
    assert (reply.stdout, reply.result["text/plain"]) == ("hello\n", "42")
    assert kernel.value("m") == 21
    failed = kernel.remote("def f():\n    raise KeyError('lost')\nf()", "--run")
    assert failed.ename == "KeyError"
    assert "raise KeyError('lost')" in failed.traceback
    kernel.run(
        """
        from flash_nb import CpuLiveServerless, remote
        @remote(CpuLiveServerless(name="cloudy"))
        def double(x):
            return 2 * x
        print((await double(4)).output)
        """
    ).ok()


def test_one_cell_elsewhere(kernel, cloud):
    kernel.remote("1").ok()
    reply = kernel.remote("1", "--backend runpod").ok()
    assert "Runpod" in reply.record
    assert kernel.run("%flash backend").ok().stdout == "Endpoints are run by: local\n"


def test_what_the_image_has_is_not_installed(kernel, cloud):
    """Runpod's GPU image has PyTorch; the engine, which plays Runpod, would install it if asked to."""
    kernel.run("%flash backend runpod").ok()
    cell = "import importlib.util\nif importlib.util.find_spec('torch'): import torch\nimport toolz\nran = 1"
    reply = kernel.remote(cell, "--gpu ADA_24").ok()
    assert kernel.value("ran") == 1
    assert "toolz is not installed here: the newest toolz of PyPI is taken" in reply.stderr
    assert "torch" not in reply.stderr
    (record,) = [each for each in reply.displays if each.text == reply.record]
    assert "toolz" in record.data["text/html"]
    assert "torch" not in record.data["text/html"]


def test_what_exists_and_how_it_ends(kernel, cloud):
    kernel.run("%flash backend runpod").ok()
    kernel.remote("1", "--name ending").ok()
    listed = json.loads(kernel.run("%flash endpoints --json").ok().stdout)
    (ending,) = [each for each in listed if each["name"] == "ending"]
    assert ending["is_ours"]
    assert ending["billing"] >= 1
    assert "workers billed now" in kernel.run("%flash endpoints").ok().stdout.replace("worker b", "workers b")
    assert kernel.run("%flash down ending").ok().stdout == f"Deleted ending ({ending['id']}).\n"
    assert kernel.run("%flash down ending").ename == "EndpointNotFoundError"
    again = kernel.remote("1", "--name ending").ok()
    assert "it was made again" in again.stderr
    kernel.run("%flash down ending").ok()


def test_mistakes_are_one_sentence(kernel, cloud):
    assert "did you mean 'runpod'" in kernel.run("%flash backend runpot").stderr
    assert "Say which endpoints" in kernel.run("%flash down").evalue
    assert "no such option" in kernel.run("%flash endpoints --jsn").stderr.lower()
    assert kernel.run("%flash backend local").ok()


def test_the_key_is_in_no_output_and_no_variable(kernel, cloud):
    kernel.run("%flash backend runpod").ok()
    key = cloud["api_key"]
    reply = kernel.run(
        "import flash_nb.sdk.session as s; b = s.current_session().backend\n"
        "print(b, vars(b), vars(b.client), b.client.key, vars(s.current_session()))"
    ).ok()
    assert key[:8] not in reply.stdout
    kernel.run("from IPython import get_ipython; get_ipython().run_line_magic('xmode', 'Verbose')")
    kernel.run(
        "import os; good = os.environ.pop('RUNPOD_API_KEY'); os.environ['RUNPOD_API_KEY'] = 'rpa_WRONG'"
    )
    kernel.run("s.current_session()._backends.pop('runpod'); s.current_session()._endpoints.clear()")
    try:
        failed = kernel.remote("1", "--backend runpod --name other")
        assert "Runpod refuses the API key from the environment (RUNPOD_API_KEY)." in failed.evalue
        for text in (failed.evalue, failed.traceback, failed.stderr, failed.record):
            assert "rpa_WRONG" not in text
            assert key[:8] not in text
    finally:
        kernel.run("os.environ['RUNPOD_API_KEY'] = good; s.current_session()._backends.pop('runpod', None)")
        kernel.run("get_ipython().run_line_magic('xmode', 'Context')")


def test_prices_and_stock_are_live(kernel, cloud):
    kernel.run("%flash backend runpod").ok()
    (shown,) = kernel.run_in_person("%flash pick live").ok().displays
    assert "Prices and stock live from Runpod's catalog, 20" in shown.text
    assert "high" in shown.text
    kernel.set(kernel.widget(description="AMPERE_80"), True)
    kernel.click("Use")
    assert "✓ live is this notebook's default" in shown.text
    assert "live from Runpod" in shown.data["text/html"]
    record = kernel.remote("1").ok().record
    assert ("on live" in record, "simulated" in record) == (True, False)
    kernel.run("%flash use --none").ok()


def test_without_a_key_the_shipped_prices_are_shown(kernel, cloud):
    kernel.run("from flash_nb.sdk.session import Session, current_session, set_session").ok()
    kernel.run("key, before = os.environ.pop('RUNPOD_API_KEY'), current_session()").ok()
    kernel.run("from flash_nb.settings import load; import dataclasses").ok()
    kernel.run("set_session(Session(dataclasses.replace(load(), backend='runpod')))").ok()
    try:
        (shown,) = kernel.run_in_person("%flash pick").ok().displays
        assert "Prices of 20" in shown.text
        assert "and there is none" in shown.text
        kernel.click("Close")
    finally:
        kernel.run("os.environ['RUNPOD_API_KEY'] = key; set_session(before)").ok()

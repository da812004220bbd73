"""``%flash`` as a person meets it: help, completion through the kernel protocol, settings, slips."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernels import Kernel

from flash_nb.resources.cpu import CpuInstanceType
from flash_nb.resources.gpu import GpuGroup, GpuType

# --- help -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["%flash", "%flash --help", "%flash?"])
def test_the_list_of_commands(kernel: Kernel, line: str) -> None:
    reply = kernel.run(line).ok()
    shown = (reply.stdout + reply.paged).splitlines()
    for command in ("backend", "wait", "config", "endpoints", "engine"):
        assert any(each.startswith(f"  {command} ") for each in shown), command
    assert all(len(each) <= 88 for each in shown if "File:" not in each)
    assert not any(sign in reply.stdout for sign in "│╭…")


def test_what_a_command_says_of_itself(kernel: Kernel) -> None:
    shown = kernel.run("%flash cancel --help").ok().stdout
    assert shown.startswith("Usage: %flash cancel")
    assert "--all" in shown
    assert "│" not in shown
    assert kernel.run("%flash engine").ok().stdout.count("\n") > 6
    assert "flash_nb 0" in kernel.run("%flash --version").ok().stdout


def test_a_group_may_do_something_by_itself(fresh: Kernel, tmp_path: Path) -> None:
    fresh.run(f"import os; os.environ['FLASH_CACHE'] = {str(tmp_path)!r}").ok()
    fresh.run("%load_ext flash_nb").ok()
    assert fresh.run("%flash cache").ok().stdout.startswith("No results are kept")
    assert "clear" in fresh.run("%flash cache --help").ok().stdout
    assert "Deleted" in fresh.run("%flash cache clear").ok().stdout


def test_typer_is_imported_by_the_first_command_not_by_loading(fresh: Kernel) -> None:
    fresh.run("%load_ext flash_nb\nimport sys").ok()
    fresh.complete("%%flash_remote --g")
    assert fresh.value("'typer' in sys.modules, 'flash_nb.sdk.session' in sys.modules") == (False, False)
    assert "cancel" in fresh.complete("%flash ")
    assert fresh.value("'typer' in sys.modules") is True


# --- completion -----------------------------------------------------------------------------------


def test_every_gpu_and_cpu_completes(kernel: Kernel) -> None:
    assert kernel.complete("%%flash_remote --gpu ") == [*GpuGroup, *GpuType.__members__]
    assert set(GpuType) < set(kernel.complete('%%flash_remote --gpu "|"'))
    assert kernel.complete("%%flash_remote --cpu ") == [*CpuInstanceType]
    assert kernel.complete("# hours\n%%flash_remote --gpu AMPERE_8|\nx = 1") == ["AMPERE_80"]


def test_what_a_default_resource_may_be_completes(kernel: Kernel) -> None:
    kernel.run(
        """
        from flash_nb import CpuLiveServerless, LiveLoadBalancer
        machines, api = CpuLiveServerless(name="m"), LiveLoadBalancer(name="a")
        """
    ).ok()
    assert "machines" in kernel.complete("%flash use ")
    assert "api" not in kernel.complete("%flash use ")
    assert kernel.complete("%flash use --gpu AMPERE_8") == ["AMPERE_80"]
    assert kernel.complete("%flash use --cpu cpu5c-4") == ["cpu5c-4-8"]
    assert kernel.complete("%flash use --gpu ANY --datacenter EUR") == ["EUR-NO-1"]
    assert kernel.complete("%flash use --env FLASH_HO") == ["FLASH_HOME"]


def test_the_clause_of_a_map_completes(kernel: Kernel) -> None:
    kernel.run("prices = [1, 2]").ok()
    assert kernel.complete("%%flash_map price i") == ["in"]
    assert kernel.complete("# all\n%%flash_map price in pri|\nprice * 2") == ["prices"]
    assert kernel.complete("%%flash_map price in prices --gpu AMPERE_8") == ["AMPERE_80"]


def test_names_of_the_notebook_complete(kernel: Kernel) -> None:
    kernel.run(
        """
        from flash_nb import CpuLiveServerless, LiveServerless
        workers, frames, _hidden = CpuLiveServerless(name="w"), [1], 2
        """
    ).ok()
    assert "workers" in kernel.complete("%%flash_remote -r ")
    assert kernel.complete("%%flash_remote -r wor") == ["workers"]
    assert kernel.complete("%%flash_remote --resource fra") == []
    assert "workers" in kernel.complete("%%flash_remote --in fra,wor")
    assert "frames" not in kernel.complete("%%flash_remote --in frames,")
    assert kernel.complete("%%flash_remote --out |\nlosses = [0]\nbest = 1")[:2] == ["best", "losses"]
    assert "_hidden" not in kernel.complete("%%flash_remote --in ")
    assert "In" not in kernel.complete("%%flash_remote --in ")


def test_jobs_complete_only_if_there_is_a_session(fresh: Kernel, kernel: Kernel) -> None:
    fresh.run("%load_ext flash_nb").ok()
    assert not [each for each in fresh.complete("%flash logs ") if not each.startswith("--")]
    assert fresh.value("__import__('flash_nb').sdk.session.session_if_any()") is None
    kernel.remote("1").ok()
    number = kernel.value("__import__('flash_nb').sdk.session.current_session().board.posts()[0].number")
    assert kernel.complete("%flash logs ")[0] == str(number)
    assert str(number) not in kernel.complete("%flash cancel ")  # it is over


def test_settings_and_their_values_complete(kernel: Kernel) -> None:
    assert kernel.complete("%flash config down") == ["down_on_exit"]
    assert kernel.complete("%flash config backend r") == ["runpod"]


def test_notebooks_complete(kernel: Kernel) -> None:
    kernel.run(
        "from pathlib import Path\nPath('one.ipynb').touch(); Path('two.txt').touch(); Path('sub').mkdir()"
    )
    assert kernel.complete("%flash check o") == ["one.ipynb"]
    assert kernel.complete("%flash demo ")[:2] == ["one.ipynb", "sub/"]
    assert kernel.complete("%flash demo sub/../o") == ["sub/../one.ipynb"]


def test_others_complete_elsewhere(kernel: Kernel) -> None:
    kernel.run("longish_name = 1").ok()
    assert "longish_name" in kernel.complete("longish_")
    assert "longish_name" in kernel.complete("%%flash_remote --gpu AMPERE_80\nlongish_")
    assert "longish_name" not in kernel.complete("%%flash_remote --in longish_name,")


def test_what_fails_in_completion_is_not_seen(kernel: Kernel) -> None:
    kernel.run(
        """
        from flash_nb.cells import options
        parser, options.parser = options.parser, lambda: 1 / 0
        """
    ).ok()
    assert "--gpu" not in kernel.complete("%%flash_remote --g")
    kernel.run("options.parser = parser").ok()
    assert "--gpu" in kernel.complete("%%flash_remote --g")


# --- settings -------------------------------------------------------------------------------------


def test_settings_can_be_seen_and_changed(kernel: Kernel) -> None:
    assert kernel.run("%flash config allow_apt").ok().stdout.split()[:3] == ["allow_apt", "false", "default"]
    kernel.run("%flash config allow_apt true").ok()
    assert kernel.run("%flash config").ok().stdout.count("this notebook") == 1
    assert kernel.run("%flash config allow_apt").ok().stdout.split()[1:4] == ["true", "this", "notebook"]
    kernel.run("%flash config allow_apt false").ok()
    said = kernel.run("%flash config backend local").ok().stdout
    assert said.split()[:4] == ["backend", "local", "this", "notebook"]
    assert kernel.remote("1").ok().result == {"text/plain": "1"}


def test_the_python_of_workers_can_be_changed(kernel: Kernel) -> None:
    refused = kernel.run("%flash config home /elsewhere")
    assert "home holds from the start" in refused.evalue
    assert "FLASH_HOME=/elsewhere" in refused.evalue
    kernel.run("%flash config python no-such-python").ok()
    failed = kernel.remote("1", "--name other-python")
    assert "no-such-python" in failed.evalue
    kernel.run("%flash config python {__import__('sys').executable}").ok()
    kernel.remote("1").ok()


# --- slips ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%flash endpoint", "there is no command 'endpoint'; did you mean 'endpoints'?"),
        ("%flash engine statsu", "%flash engine: there is no command 'statsu'; did you mean 'status'?"),
        ("%flash endpoints --jsn", "%flash endpoints: no such option: --jsn; did you mean '--json'?"),
        ("%flash engine logs --line 3", "no such option: --line; did you mean '--lines'?"),
        ("%flash cancel --al", "no such option: --al; did you mean '--all'?"),
        ("%flash use --gpu AMPER_80", "did you mean"),
        ("%flash backend lokal", "did you mean 'local'?"),
        ("%flash config backnd", "There is no setting 'backnd'; did you mean 'backend'?"),
        ("%flash config backend runpot", "did you mean 'runpod'?"),
        ("%%flash_remote --gp A\n1", "no such option: --gp; did you mean '--gpu'?"),
        ("%%flash_remote --gpu 'NVIDA L4'\n1", "did you mean NVIDIA_L4?"),
        ("%%flash_remote --gpu A100\n1", "did you mean AMPERE_80"),
        ("%%flash_remote --backend runpot\n1", "did you mean 'runpod'?"),
    ],
)
def test_did_you_mean(kernel: Kernel, cell: str, said: str) -> None:
    reply = kernel.run(cell)
    assert said in reply.stderr + reply.evalue
    assert "Traceback" not in reply.traceback
    assert reply.status == "error"


def test_a_resource_misspelt(kernel: Kernel) -> None:
    kernel.run("from flash_nb import CpuLiveServerless\nmachines = CpuLiveServerless(name='m')").ok()
    assert "did you mean 'machines'?" in kernel.remote("1", "-r machine").stderr

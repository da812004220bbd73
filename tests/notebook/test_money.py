"""What cells cost: quoted before, counted while they run, summed up, and limited."""

from __future__ import annotations

import re

import pytest
from kernels import Kernel, wait_for

GPU = "%%flash_remote --gpu AMPERE_80"


def test_a_cell_is_quoted_by_the_hour_then_by_its_last_run(kernel: Kernel) -> None:
    cell = f"{GPU}\nimport time; time.sleep(0.3); quoted = 1"
    reply = kernel.start(cell)
    kernel.wait(reply, until=lambda r: "$2.74 simulated an hour" in r.record)
    assert re.search(r"✓ .* \$0\.00\d+ simulated", kernel.wait(reply).ok().record)
    again = kernel.start(cell)
    kernel.wait(again, until=lambda r: re.search(r"about \$0\.00\d+ simulated", r.record))
    kernel.wait(again).ok()


def test_the_running_cost_grows(kernel: Kernel, tmp_path) -> None:
    flag = tmp_path / "go"
    body = f"import pathlib, time\nwhile not pathlib.Path({str(flag)!r}).exists(): time.sleep(0.01)"
    reply = kernel.start(f"{GPU}\n{body}")
    seen: set[str] = set()

    def grows(r) -> bool:
        seen.update(re.findall(r"running .* (\$[\d.]+) simulated", r.record))
        return len(seen) > 2

    kernel.wait(reply, until=grows)
    flag.touch()
    kernel.wait(reply).ok()


def test_the_record_says_what_idling_costs_and_how_to_stop_it(kernel: Kernel) -> None:
    html = kernel.run(f"{GPU}\n1").ok().displays[0].data["text/html"]
    assert "up to $0.23 simulated in 5 min · stop it: %flash down notebook-ampere_80" in html


def test_a_map_counts_what_all_its_items_cost(kernel: Kernel) -> None:
    reply = kernel.run(
        "%%flash_map n in range(3) --gpu AMPERE_80\nimport time; time.sleep(0.2); slow = n"
    ).ok()
    shown = reply.displays[0].text
    cost = re.search(r"3/3 .* \$([\d.]+) simulated · simulated on this machine's CPU", shown)
    assert cost, shown
    assert float(cost[1]) >= 3 * 0.2 * 0.00076 * 0.99
    unpriced = kernel.run("%%flash_map n in range(3)\nslow = n").ok()
    assert "$" not in unpriced.displays[0].text


def test_max_cost_cancels(kernel: Kernel) -> None:
    reply = kernel.run(f"{GPU} --max-cost 0.0004\nimport time\ntime.sleep(60)")
    assert reply.ename == "JobCancelledError"
    assert "it had cost $0.00040, as --max-cost allows" in reply.evalue
    assert reply.record.startswith("⊘ cancelled")


def test_max_cost_cancels_a_detached_cell(kernel: Kernel) -> None:
    reply = kernel.run(f"{GPU} --max-cost 0.0004 --detach\nimport time\ntime.sleep(60)\nbought = 1").ok()
    wait_for(lambda: kernel.value("0") == 0 and "⊘ cancelled" in reply.record)
    assert "--max-cost" in kernel.run("bought").evalue


def test_max_cost_lets_a_cheap_cell_run(kernel: Kernel) -> None:
    kernel.run(f"{GPU} --max-cost $0.50\ncheap = 1").ok()
    assert kernel.value("cheap") == 1


@pytest.mark.parametrize("amount", ["-1", "0", "x", "inf", "nan"])
def test_an_amount_that_makes_no_sense(kernel: Kernel, amount: str) -> None:
    reply = kernel.run(f"{GPU} --max-cost {amount}\n1")
    assert reply.ename == "UsageError"
    assert amount in reply.stderr


def test_max_cost_needs_a_price(kernel: Kernel) -> None:
    reply = kernel.run("%%flash_remote --max-cost 1\n1")
    assert reply.ename == "SettingsError"
    assert "--timeout SECONDS" in reply.evalue


def test_cost_sums_up_and_names_what_idles(kernel: Kernel) -> None:
    kernel.run(f"{GPU} --name summed\n1").ok()
    kernel.run("%%flash_remote --name unpriced\n1").ok()
    shown = kernel.run("%flash cost").ok().displays[-1]
    assert re.search(r"summed +1 +\S+ \w+ +\$0\.0\d+ simulated", shown.text)
    assert re.search(r"unpriced +1 +\S+ \w+ +no price known", shown.text)
    assert "summed: 1 idle worker, $2.74 simulated an hour · stop: %flash down summed" in shown.text
    assert "prices: Runpod's documentation, 20" in shown.text
    kernel.run("%flash down summed").ok()
    assert "summed: 1 idle" not in kernel.run("%flash cost").ok().displays[-1].text


def test_the_month_outlives_the_kernel(kernel: Kernel) -> None:
    kernel.run(f"{GPU} --name kept\n1").ok()
    kernel.run("%flash cost").ok()
    kernel.restart()
    shown = kernel.run("%flash cost").ok().displays[-1].text
    assert "this notebook" not in shown
    assert re.search(r"kept +1 ", shown)

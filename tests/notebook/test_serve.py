"""``%flash init`` and ``%flash run``: shown as they go, and ended by the stop button."""

from __future__ import annotations

import re

import httpx
from kernels import Engine, Kernel, wait_for


def test_a_project_is_written_served_and_stopped(fresh: Kernel, engine: Engine) -> None:
    fresh.run("%load_ext flash_nb").ok()
    assert "Wrote 11 of 11 files into shop/." in fresh.run("%flash init shop").ok().stdout
    refused = fresh.run("open('shop/main.py', 'a').write('#')\n%flash init shop")
    assert refused.status == "error"
    assert "To overwrite them: --force" in refused.stdout

    fresh.run("%cd -q shop").ok()
    serving = fresh.start("%flash run --port 0")
    fresh.wait(serving, until=lambda reply: "Ctrl-C ends it." in reply.stdout)
    found = re.search(r"http://localhost:\d+", serving.stdout)
    assert found
    sent = httpx.post(f"{found[0]}/functions/word_lengths", json={"text": "one three"}, timeout=60)
    assert sent.json() == [3, 5]
    fresh.wait(serving, until=lambda reply: "2 words" in reply.stdout)
    fresh.interrupt()
    fresh.wait(serving)
    assert serving.status == "ok"
    assert "Deleted the endpoint shop_cpu" in serving.stdout
    assert fresh.value("1 + 1") == 2


def test_the_server_ends_with_the_kernel(fresh: Kernel) -> None:
    fresh.run("%load_ext flash_nb").ok()
    fresh.run("%flash init shop").ok()
    fresh.run("%cd -q shop").ok()
    serving = fresh.start("%flash run --port 0")
    fresh.wait(serving, until=lambda reply: "Ctrl-C ends it." in reply.stdout)
    found = re.search(r"http://localhost:\d+", serving.stdout)
    assert found
    fresh.restart()

    def refuses() -> bool:
        try:
            httpx.get(found[0])
        except httpx.TransportError:
            return True
        return False

    wait_for(refuses)

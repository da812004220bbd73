"""A program of Runpod's Flash SDK, as its users write it; prints what came of it as JSON, last.

It runs in an environment with ``runpod-flash``, and knows nothing of ours.
"""

from __future__ import annotations

import asyncio
import json

from runpod_flash import CpuLiveServerless, remote

config = CpuLiveServerless(name="official", workersMax=1, env={"GREETING": "hello"})


@remote(config)
async def pair(a, b=2):
    import os

    print("printed remotely")
    return {"sum": a + b, "pair": (a, b), "greeting": os.environ["GREETING"]}


@remote(config)
def plain(text):
    return text.upper()


@remote(config)
async def fail():
    raise LookupError("nothing here")


@remote(config, dependencies=["roman==5.2"])
def numeral(number):
    import roman

    return roman.toRoman(number)


@remote(config)
class Counter:
    def __init__(self, start):
        self.count = start

    def up(self, by=1):
        self.count += by
        return self.count


async def main() -> dict:
    found = {
        "pair": repr(await pair(1, b=5)),
        "plain": await plain("text"),
        "numeral": await numeral(9),
    }
    try:
        await fail()
    except Exception as error:  # noqa: BLE001 - the SDK raises nothing more special
        found["error"] = [type(error).__name__, str(error)]
    counter, other = Counter(10), Counter(100)
    found["counts"] = [await counter.up(), await counter.up(by=5), await other.up()]
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))

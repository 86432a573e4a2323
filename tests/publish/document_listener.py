"""Run as a process: print each document of a Bluesky bus as a JSON line."""

import asyncio
import json
import signal
import sys

import orjson
from bluesky.callbacks.zmq import RemoteDispatcher


def say(name: str, document: dict) -> None:
    sys.stdout.write(json.dumps([name, document]) + "\n")
    sys.stdout.flush()


def main(address: str, prefix: str) -> None:
    dispatcher = RemoteDispatcher(
        address, prefix=prefix.encode(), deserializer=orjson.loads, strict=True
    )
    dispatcher.subscribe(say)
    signal.signal(
        signal.SIGTERM,
        lambda *_: dispatcher.loop.call_soon_threadsafe(dispatcher._task.cancel),
    )
    dispatcher.loop.call_soon(say, "ready", {})
    try:
        dispatcher.start()
    except asyncio.CancelledError:
        return


if __name__ == "__main__":
    main(*sys.argv[1:])

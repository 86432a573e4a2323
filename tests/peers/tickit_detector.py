"""Runs tickit with the arguments it is given, its stream sockets bound only.

Its own make a PUSH socket bind and connect to one address: about half of all messages
then go to itself. Runs in the peer's environment.
"""

import sys

import aiozmq
import zmq
from tickit.adapters.io import ZeroMqPushIo
from tickit.cli import main


async def bound(host: str, port: int) -> aiozmq.ZmqStream:
    return await aiozmq.create_zmq_stream(zmq.PUSH, bind=f"tcp://{host}:{port}")


if __name__ == "__main__":
    ZeroMqPushIo.__init__.__defaults__ = ("127.0.0.1", 5555, bound)
    sys.exit(main())

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""libertem-dectris: ``ADDRESS FRAMES SIDE``; every frame decoded into an array.

Prints ``ready``, and after the series JSON: frames, processor and wall seconds.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import libertem_dectris
import numpy as np

STACK, SLOTS = 16, 512
"""Frames to a stack, and stacks held: the receiver never waits for this reader."""
PATIENCE_S = 60.0


def main() -> int:
    """Receive one series."""
    address, frames, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        receiver = libertem_dectris.DectrisConnection(
            uri=address,
            handle_path=str(Path(folder) / "socket"),
            frame_stack_size=STACK,
            num_slots=SLOTS,
            bytes_per_frame=2 * side * side,
            huge=False,
        )
        receiver.start_passive()
        print("ready", flush=True)
        began_cpu_s = _cpu_s()
        if receiver.wait_for_arm(PATIENCE_S) is None:
            raise TimeoutError("no series came")
        began_s = time.monotonic()
        client, seen = libertem_dectris.CamClient(receiver.get_socket_path()), 0
        out = np.zeros((STACK, side, side), np.uint16)
        while seen < frames:
            stack = receiver.get_next_stack(max_size=STACK)
            if stack is None:
                break
            count = len(stack)  # done with, it has none
            client.decode_range_into_buffer(stack, out[:count], 0, count)
            client.done(stack)
            seen += count
        spent = {"cpu_s": _cpu_s() - began_cpu_s, "wall_s": time.monotonic() - began_s}
        print(json.dumps({"frames": seen, **spent}), flush=True)
        client.close()
        receiver.close()
    return 0


def _cpu_s() -> float:
    """Return the processor time of all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())

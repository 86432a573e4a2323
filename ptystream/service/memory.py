"""How much memory the engine's device has, and how much of it is taken."""

import math
import os
from pathlib import Path

import torch

STATM = Path("/proc/self/statm")


def device_memory(device: torch.device) -> tuple[float, float]:
    """Return bytes in use and in all: of a GPU by anybody, else of main memory by us.

    NaN where the system doesn't tell.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return float(total - free), float(total)
    try:
        resident = int(STATM.read_text().split()[1])
        page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return math.nan, math.nan
    return float(resident * page), float(pages * page)

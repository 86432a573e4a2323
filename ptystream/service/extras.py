"""What comes to a scan from beside its stream."""

from dataclasses import dataclass

import numpy as np

from ptystream.service.first_object import FirstObject


@dataclass(frozen=True)
class Extras:
    """What came beside the stream: probes ``[modes, k, k]``, a mask (True: usable).

    ``probe`` is the input file's own, ``given_probe`` that of ``first_probe.file``,
    ``given_object`` that of ``first_object.file``.
    """

    probe: np.ndarray | None = None
    mask: np.ndarray | None = None
    given_probe: np.ndarray | None = None
    given_object: FirstObject | None = None


NO_EXTRAS = Extras()

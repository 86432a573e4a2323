"""A score for bluesky-adaptive: how good the reconstruction of a run became."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ptystream.bluesky.link import SILENT_S
from ptystream.bluesky.values import NAN
from ptystream.errors import ConfigError, StoppedError
from ptystream.publish.client import ControlClient
from ptystream.wire.curve import ClientKeys

POLL_S = 0.1


class QualityEvaluation:
    """An ``EvaluationFunction``: waits for a run's result, gives its quality.

    The run must have one suggestion: a reconstruction can't be split among several.

    Args:
        control: the service's control address.
        objective: the name of the outcome, as the optimizer knows it.
        quality: which quality: ``held_out_error`` (small is good), ``covered``, ….
        timeout_s: how long to wait for the result.
        keys: of a service with ``publish.curve``.
    """

    def __init__(
        self,
        control: str,
        objective: str = "held_out_error",
        quality: str = "held_out_error",
        timeout_s: float = 120.0,
        keys: ClientKeys | None = None,
    ) -> None:
        self._keys = keys
        self._control, self._objective = control, objective
        self._quality, self._timeout_s = quality, timeout_s

    def __call__(
        self, uid: str, suggestions: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return the outcome of the run's suggestion.

        Raises:
            ValueError: not just one suggestion.
            StoppedError: no result in time, or the service does not answer.
            ConfigError: the run was given up, or has no such quality.
        """
        if len(suggestions) != 1:
            raise ValueError(
                f"{len(suggestions)} suggestions in run {uid}, expected one"
            )
        end = self._ended(uid)
        value = (end.get("quality") or {}).get(self._quality)
        score = NAN if value is None else float(value)
        if math.isnan(score):
            raise ConfigError(
                f"run {uid} has no {self._quality}: {end['reason']}, {end['refined']}"
            )
        return [{"_id": suggestions[0]["_id"], self._objective: score}]

    def _ended(self, uid: str) -> Mapping[str, Any]:
        """Return how the run ended, once it has."""
        deadline_s = time.monotonic() + self._timeout_s
        # A busy service is waited for, as elsewhere.
        patience_s = min(SILENT_S, self._timeout_s)
        with ControlClient(self._control, patience_s, self._keys) as client:
            while time.monotonic() < deadline_s:
                reply = client.ask("ended", uid=uid)
                if not reply.get("ok"):
                    raise ConfigError(f"the service refused: {reply.get('error')}")
                if (end := reply["result"]["ended"]) is not None:
                    return end
                time.sleep(POLL_S)
        raise StoppedError(f"no result of run {uid} in {self._timeout_s:g} s")

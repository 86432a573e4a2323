"""The data-health verdict: names the fault when data contradict the configuration."""

import logging
from collections.abc import Sequence

from jaxtyping import Complex
from torch import Tensor

from ptystream.recon.exposures import Exposures
from ptystream.recon.findings import Finding
from ptystream.recon.health_round import Round
from ptystream.recon.health_sample import sample
from ptystream.recon.health_score import Score, tied
from ptystream.recon.health_words import detail
from ptystream.recon.hypotheses import Hypothesis, all_hypotheses
from ptystream.recon.options import ReconOptions

log = logging.getLogger(__name__)

DEARER = 2.0
"""Times as long as in the engine that an exposure takes in a trial: batches are small
(0.4 against 0.2 ms of one core at 64²)."""
PATIENT = 1.5
"""Time that trials take over that of the engine's own steps, where nobody waits for
pixels and data are poorly predicted: 400 frames of 64² have their verdict in 23 s."""
LEFT = 0.75
"""Of an empty object's error, but for noise, at most so much is left where a hypothesis
explains data: where frames hardly overlap, what is wrong is only as good as that."""


class Health:
    """Rounds of trials, interleaved with the engine's steps; its object is not touched.

    The first comes with enough exposures, the next at twice as many each, as long as
    held-out exposures are poorly predicted or a finding stands. Where nobody waits for
    pixels any more, trials on such data go first. By steps, never by the clock: the
    same steps give the same findings.
    """

    def __init__(
        self,
        exposures: Exposures,
        options: ReconOptions,
        hypotheses: Sequence[Hypothesis] | None = None,
    ) -> None:
        """Store; near-field patterns are as wide as their objects: they have no trials.

        ``hypotheses`` are those tried, None for all there are.
        """
        self._hypotheses = hypotheses
        self._exposures, self._options = exposures, options.health
        self._enabled = options.health.enabled and options.physics.model == "far"
        self._seed = options.engine.seed
        self._round: Round | None = None
        self._wanted, self._credit, self._poor = self._options.frames, 0.0, True
        self._told: set[str] = set()
        self.rounds = 0
        self.findings: tuple[Finding, ...] = ()

    @property
    def busy(self) -> bool:
        """Whether a round is under way."""
        return self._round is not None

    @property
    def pressing(self) -> bool:
        """Whether a round is under way that may tell why data are poorly predicted."""
        return self._poor and self.busy

    def advance(self, exposures: int, *, patient: bool = False) -> None:
        """Take what trial steps the engine's last one, of so many exposures, allows.

        ``patient``: nobody waits for pixels.
        """
        if self._round is None:
            return
        o = self._options
        share = o.share_poor if self._poor else o.share
        self._credit += exposures * (PATIENT if patient and self._poor else share)
        while self._credit > 0:
            taken = self._round.advance()
            self._credit = self._credit - DEARER * taken if taken else 0.0

    def look(self, explained: float, probe: Complex[Tensor, "m k k"]) -> None:
        """Begin a round if one is due, or end one; waits for the device then.

        Args:
            explained: part of what held-out exposures show, beyond an empty object and
                noise, that the reconstruction predicts; NaN where not known.
            probe: the first probe.
        """
        if not self._enabled:
            return
        self._poor = not explained >= self._options.explained
        if self._round is not None:
            ended = self._round.look()
            if ended is not None:
                self._round = None
                self._judge(*ended)
        elif self._due():
            self._begin(probe)

    def _due(self) -> bool:
        """Tell whether there is reason for a round, and enough to try it on."""
        doubt = self._poor or self.rounds == 0 or bool(self.findings)
        return doubt and self._exposures.count >= self._wanted

    def _begin(self, probe: Complex[Tensor, "m k k"]) -> None:
        """Begin a round; later if exposures lie along one line."""
        self._wanted = self._exposures.count + self._options.frames // 4
        got = sample(self._exposures, probe, self._options.frames)
        if got is None:
            return
        self._wanted = 2 * self._exposures.count
        tried, told = got
        self.rounds += 1
        self._round = Round(
            tried,
            told,
            self._hypotheses or all_hypotheses(),
            passes=self._options.passes,
            seed=self._seed + 2 * self.rounds,
        )

    def _judge(self, first: list[Score], again: list[Score]) -> None:
        """Name what won both times; what else is as good is named with it."""
        won = {s.hypothesis for s in first if self._wins(s)}
        faults = {h.fault for h in won}
        best = [s for s in again if self._wins(s) and s.hypothesis.fault in faults]
        if not best:
            self.findings = ()
            return
        rivals = [s for s in best[1:] if tied(best[0], s)]
        finding = Finding(
            best[0].hypothesis.fault, detail(best[0], rivals), best[0].sure
        )
        self.findings = (finding,)
        if finding.fault not in self._told:
            self._told.add(finding.fault)
            log.warning("%s: %s", finding.fault, finding.detail)

    def _wins(self, score: Score) -> bool:
        """Tell whether a hypothesis is clearly better than positions as told."""
        o = self._options
        clear = score.gain >= o.gain and score.sigmas >= o.sigmas
        return clear and score.left <= LEFT

"""Round after round of pruning, each candidate kept on disk until the next round is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from fsc.methods.held_out import Judge
from fsc.methods.journal import Journal
from fsc.methods.round_rules import Candidate, Rules
from fsc.methods.rounds import MaskedAndCut, RoundsOfPruning
from fsc.methods.training_state import values_of
from fsc.networks import cost

# A candidate with what gives its network, which only the one that goes on is asked for.
_Made = tuple[Candidate, Callable[[], MaskedAndCut | None]]


@dataclass(frozen=True)
class Ending:
    """Where iterative pruning ended.

    Attributes:
        network: of the last round.
        candidates: of all rounds, in the order of their making.
        warning: what is to be said of the end; None: nothing is.
    """

    network: MaskedAndCut
    candidates: list[Candidate]
    warning: str | None


class RoundAfterRound:
    """Prunes, scores and chooses until it is enough.

    Args:
        rules: which candidate goes on, and when it is enough.
        pruning: makes the candidates.
        judge: scores them.
        from_previous: whether the network of the round before ranks the channels and says what
            those left are to give, and not the teacher.
        journal: where every candidate is kept; None: nowhere.
    """

    def __init__(
        self,
        rules: Rules,
        pruning: RoundsOfPruning,
        judge: Judge,
        from_previous: bool,
        journal: Journal | None,
    ) -> None:
        """Only remembers."""
        self._rules, self._pruning, self._judge = rules, pruning, judge
        self._from_previous = from_previous
        self._kept = _KeptCandidates(journal)

    def run(self, flops_teacher: int) -> Ending:
        """Round after round.

        Args:
            flops_teacher: the teacher's multiply-accumulates for one image.

        Raises:
            ValueError: the first round has no candidate that is good enough.
            OSError: the journal cannot be written.
        """
        rules, network = self._rules, self._pruning.first
        candidates: list[Candidate] = []
        share, end, ran_out = 1.0, f"the {rules.rounds} rounds were over", False
        for number in range(1, rules.rounds + 1):
            made = self._round(network, number)
            best = rules.best([candidate for candidate, _ in made])
            self._kept.close([candidate for candidate, _ in made], best)
            candidates += [replace(each, is_kept=each is best) for each, _ in made]
            if best is None:
                if number == 1:
                    raise ValueError(rules.refusal(candidates))
                ran_out = not made
                end = f"round {number} gave nothing {'smaller' if ran_out else 'good enough'}"
                break
            chosen = next(network_of() for candidate, network_of in made if candidate is best)
            assert chosen is not None
            network, share = chosen, best.flops / flops_teacher
            if rules.flops is not None and share <= rules.flops:
                return Ending(network, candidates, None)
        wanted = "" if rules.flops is None else f", before {rules.flops:g}"
        sentence = f"{end} at {share:.3g} of the multiply-accumulates{wanted}"
        return Ending(network, candidates, sentence if wanted or ran_out else None)

    def _round(self, network: MaskedAndCut, number: int) -> list[_Made]:
        """The candidates of a round: those that were kept, and the others made now."""
        made: list[_Made] = []
        for ratio in self._rules.pruning_ratios:
            what = f"round {number} of {self._rules.rounds}, ratio {ratio:g}"
            pruned = partial(self._pruning.pruned, network, ratio, self._from_previous, what)
            kept = self._kept.find(number, ratio)
            if kept is not None:
                candidate, values = kept
                # One that did not go on has none: it is aligned again should it now.
                made.append((candidate, partial(pruned, values or None)))
                continue
            found = pruned()
            if found is None:
                continue
            sizes = self._pruning.flops(found), cost.parameters(found.cut)
            candidate = Candidate(number, ratio, self._judge.score(found.cut), *sizes)
            self._kept.keep(candidate, found)
            made.append((candidate, partial(_itself, found)))
        return made


class _KeptCandidates:
    """One entry of a journal for each candidate: its numbers, and its values while it may go on.

    Cutting and scoring follow from the values of its masked network, which alignment gave.

    Args:
        journal: that holds them; None: nothing is kept and nothing found.
    """

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._whole: set[str] = set()  # entries with values

    def find(self, number: int, ratio: float) -> tuple[Candidate, dict[str, Tensor]] | None:
        """A candidate and the values of its masked network, on the CPU."""
        if self._journal is None:
            return None
        otherwise = f"the cut by {ratio:g} of round {number} is made again"
        said = {"score": float, "flops": int, "parameters": int}
        entry = self._journal.read(_name(number, ratio), otherwise, said)
        if entry is None:
            return None
        values, header = entry
        if values:
            self._whole.add(_name(number, ratio))
        return Candidate(number, ratio, *(header[key] for key in said)), values

    def keep(self, candidate: Candidate, network: MaskedAndCut) -> None:
        """Writes a candidate with its values."""
        self._write(candidate, values_of(network.masked))
        self._whole.add(_name(candidate.round, candidate.pruning_ratio))

    def close(self, candidates: list[Candidate], best: Candidate | None) -> None:
        """Leaves the numbers alone of those of a round that do not go on."""
        goes_on = None if best is None else _name(best.round, best.pruning_ratio)
        for candidate in candidates:
            name = _name(candidate.round, candidate.pruning_ratio)
            if name in self._whole - {goes_on}:
                self._write(candidate, {})
                self._whole.remove(name)

    def _write(self, candidate: Candidate, values: dict[str, Tensor]) -> None:
        if self._journal is None:
            return
        header = {key: getattr(candidate, key) for key in ("score", "flops", "parameters")}
        self._journal.write(_name(candidate.round, candidate.pruning_ratio), values, header)


def _name(number: int, ratio: float) -> str:
    return f"round-{number}-ratio-{float(ratio)!r}"


def _itself(network: MaskedAndCut) -> MaskedAndCut:
    return network

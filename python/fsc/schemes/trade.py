"""What stays of each group, and what it costs to let more go, in coarse steps and then small."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping

from fsc.channels.cut_cost import CutCost, Kind
from fsc.schemes.removal import Removal
from fsc.schemes.structured import unit_of

# Steps of a group from all of its channels to none, until the goal is near.
STEPS = 50


class Trade:
    """How many channels of each group stay, and what it costs to let the next ones go.

    Args:
        kind: what is counted.
        stays: how much of it there is while all channels stay.
        cut_cost: what counts it.
        removal: what each group loses, channel by channel.
        round_to: layers keep a multiple of so many channels.
    """

    def __init__(
        self,
        kind: Kind,
        stays: int,
        cut_cost: CutCost,
        removal: Mapping[str, Removal],
        round_to: int,
    ) -> None:
        """Prices the first step of each group."""
        self.kind, self.stays, self.cut_cost, self.removal = kind, stays, cut_cost, removal
        self.left = {name: cut_cost.groups[name].size for name in removal}
        self.units = {name: unit_of(cut_cost.groups[name], round_to) for name in removal}
        self.coarse = True
        # Groups that lose no more channels.
        self.spared: set[str] = set()
        # The group that lost channels last, and what stayed before.
        self.last: tuple[str, dict[str, int], int] = "", {}, stays
        self.prices: dict[str, float] = {}
        # How many channels stay after the next step, and what it saves.
        self.steps: dict[str, tuple[int, int]] = {}
        self.reprice(removal)

    @property
    def loss(self) -> float:
        """What the channels that went lose, over all groups."""
        gone = {name: self.cut_cost.groups[name].size - count for name, count in self.left.items()}
        return sum(float(self.removal[name].loss[count]) for name, count in gone.items())

    def reach(self, goal: float) -> bool:
        """Lets channels go until no more than a goal stays; whether so many may go."""
        while self.stays > goal:
            name = self.cheapest()
            if self.coarse and (name is None or self.stays - self.saving(name) < goal):
                self.refine()
                continue
            if name is None:
                return False
            self.take(name)
        self.give_back(goal - self.stays)
        return True

    def without_last(self) -> Trade:
        """The same before the last channels went, of a group that is spared from then on."""
        name, left, stays = self.last
        other = copy.copy(self)
        other.left, other.stays, other.spared = dict(left), stays, {*self.spared, name}
        other.prices, other.steps = {}, {}
        other.reprice(self.removal)
        return other

    def refine(self) -> None:
        """From now on goes in the smallest steps."""
        self.coarse = False
        self.reprice(self.removal)

    def saving(self, name: str) -> int:
        """What the next step of a group saves."""
        return self.steps[name][1]

    def _step(self, name: str) -> tuple[int, int]:
        """The next step to a multiple of the group's unit, or the first one after it that saves.

        Channels that no layer with a cost holds save nothing by themselves, those behind them do.
        """
        size, unit = self.cut_cost.groups[name].size, self.units[name]
        step = unit * (max(1, round(size / (STEPS * unit))) if self.coarse else 1)
        left, least = self.left[name] - step, size + 1 - len(self.removal[name].loss)
        left += (-left) % unit
        while True:
            saved = self.cut_cost.saved(self.kind, self.left, name, max(left, least))
            if saved > 0 or left - unit < least:
                return left, saved
            left -= unit

    def cheapest(self) -> str | None:
        """The group that loses least for what it saves, None where no channels may go."""
        name = min(self.prices, key=self.prices.__getitem__, default=None)
        return None if name is None or self.prices[name] == math.inf else name

    def take(self, name: str) -> None:
        """Lets the next channels of a group go."""
        self.last = name, dict(self.left), self.stays
        self.left[name] = self.steps[name][0]
        self.stays -= self.saving(name)
        touched = set(self.cut_cost.touched[name])
        self.reprice(other for other in self.prices if touched & set(self.cut_cost.touched[other]))

    def give_back(self, room: float) -> None:
        """Takes channels back where they are worth most for what they cost, until none fits."""
        while True:
            best, worth, cost = "", -1.0, 0
            for name, price in self._prices_back().items():
                if price > room:
                    continue
                size, loss = self.cut_cost.groups[name].size, self.removal[name].loss
                more = self._one_back(name)
                regained = float(loss[size - self.left[name]] - loss[size - more])
                if regained / max(price, 1) > worth:
                    best, worth, cost = name, regained / max(price, 1), price
            if not best:
                return
            self.left[best] = self._one_back(best)
            room -= cost
            self.stays += cost

    def next_back(self) -> tuple[str, int]:
        """The group whose channels would take the least to come back, and how much."""
        return min(self._prices_back().items(), key=lambda each: each[1])

    def _prices_back(self) -> dict[str, int]:
        """What it would cost to take channels back, of each group that has lost some."""
        return {
            name: self.cut_cost.saved(
                self.kind, {**self.left, name: self._one_back(name)}, name, count
            )
            for name, count in self.left.items()
            if count < self.cut_cost.groups[name].size
        }

    def _one_back(self, name: str) -> int:
        return min(self.cut_cost.groups[name].size, self.left[name] + self.units[name])

    def reprice(self, names: Iterable[str]) -> None:
        """Prices the next step of some groups anew."""
        self.prices.update({name: self._price(name) for name in names})

    def _price(self, name: str) -> float:
        size, loss = self.cut_cost.groups[name].size, self.removal[name].loss
        left, saved = self.steps[name] = self._step(name)
        gone, then = size - self.left[name], size - left
        if name in self.spared or then >= len(loss) or saved <= 0:
            return math.inf
        return float(loss[then] - loss[gone]) / saved

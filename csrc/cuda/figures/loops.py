"""Counts over one iteration of the main loop of a kernel.

The main loop is the largest around an instruction of the tensor cores of which it is known how
often every loop inside that has such instructions runs (`trips`): one slab of a tile kernel. Where
there are several, it is the one with most such instructions. An iteration is counted along its
longest way: of two branches the longer one, what may be skipped is not. Loops inside count as often
as they run, once where that is not known, subroutines where they are called. Slow paths of floating
point division and roots, which are calls, count as not taken.
"""

from __future__ import annotations

from typing import NamedTuple

from figures.flow import Flow, Loop
from figures.sass import Instruction, is_integer_division, load_bytes
from figures.trips import trips_of


class Counts(NamedTuple):
    """What a warp issues on a way; `unknown` counts loops that run an unknown number of times."""

    instructions: int = 0
    products: int = 0
    divisions: int = 0
    loads: int = 0
    loaded_bytes: int = 0
    unknown: int = 0

    def plus(self, other: Counts) -> Counts:
        """Both."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))

    def times(self, count: int | None) -> Counts:
        """As often as that, or once."""
        if count is None:
            return self._replace(unknown=self.unknown + 1)
        return Counts(*(count * value for value in self[:-1]), self.unknown)

    @property
    def product_share(self) -> float:
        """The tensor cores' share of the instructions."""
        return self.products / self.instructions if self.instructions else 0.0

    @property
    def bytes_a_load(self) -> float:
        """What a thread asks for by one load."""
        return self.loaded_bytes / self.loads if self.loads else 0.0


class Ways:
    """The longest ways through a function and its loops."""

    def __init__(
        self, code: list[Instruction], entry: int = 0, calls: dict[int, Counts] | None = None
    ) -> None:
        """Read the code from an instruction on; `calls` are the subroutines that are known."""
        self.flow = Flow(code, entry)
        self._calls: dict[int, Counts] = {} if calls is None else calls
        self._loops: dict[int, Counts] = {}  # by their headers

    def of_block(self, block: int) -> Counts:
        """Every instruction of a block, with what it calls."""
        total = Counts()
        for instruction in self.flow.instructions(block):
            read = load_bytes(instruction)
            total = total.plus(
                Counts(
                    instructions=1,
                    products=int(instruction.name in ("HMMA", "DMMA", "IMMA")),
                    divisions=int(is_integer_division(instruction)),
                    loads=int(read > 0),
                    loaded_bytes=read,
                )
            )
            if instruction.name == "CALL" and not instruction.conditions:
                total = total.plus(self.of_call(instruction))
        return total

    def of_call(self, instruction: Instruction) -> Counts:
        """A subroutine, if it divides integers."""
        entry = self.flow.index.get(instruction.target if instruction.target is not None else -1)
        if entry is None:
            return Counts()
        if entry not in self._calls:
            self._calls[entry] = Counts()  # for one that calls itself
            called = Ways(self.flow.code, entry, self._calls).of_function()
            self._calls[entry] = called if called.divisions else Counts()
        return self._calls[entry]

    def of_loop(self, loop: Loop) -> Counts:
        """One iteration."""
        if loop.header not in self._loops:
            way = self._longest(loop.header, loop.body, loop.inner, loop.header)
            self._loops[loop.header] = way
        return self._loops[loop.header]

    def of_function(self) -> Counts:
        """All of it, each loop as often as is known."""
        flow = self.flow
        return self._longest(flow.entry, set(flow.order), flow.loops, None)

    def _longest(
        self, first: int, body: set[int], inner: list[Loop], back_to: int | None
    ) -> Counts:
        """From `first` to what leads back to it, or to any end."""
        loop_of = {block: loop for loop in inner for block in loop.body}
        best: dict[int, Counts] = {}  # to the end of a block, or of the loop that begins with it
        ends: list[Counts] = []
        reached: dict[int, Counts] = {first: Counts()}
        for block in self.flow.order:
            loop = loop_of.get(block)
            if block not in body or block not in reached or (loop and loop.header != block):
                continue
            own = (
                self.of_loop(loop).times(trips_of(self.flow, loop))
                if loop
                else self.of_block(block)
            )
            best[block] = reached[block].plus(own)
            leads = {
                to
                for b in (loop.body if loop else {block})
                for to in self.flow.successors[b]
                if not loop or to not in loop.body
            }
            if (back_to in leads) if back_to is not None else not leads:
                ends.append(best[block])
            for to in leads - {back_to}:
                if to in body and self.flow.place[to] > self.flow.place[block]:
                    known = reached.get(to, Counts(instructions=-1))
                    reached[to] = max(known, best[block], key=lambda way: way.instructions)
        return max(ends, key=lambda way: way.instructions, default=Counts())


class KernelCounts(NamedTuple):
    """One iteration of the main loop, and all else once; `loop` is empty without tensor cores."""

    loop: Counts
    outside: int  # instructions


def counted(code: list[Instruction]) -> KernelCounts:
    """The counts of a kernel."""
    ways = Ways(code)
    loop = max(
        (ways.of_loop(loop) for loop in _candidates(ways.flow)),
        key=lambda way: (way.products, way.instructions),
        default=Counts(),
    )
    return KernelCounts(loop, max(ways.of_function().instructions - loop.instructions, 0))


def _candidates(flow: Flow) -> list[Loop]:
    """The largest loops with products in which loops with products run a known number of times."""

    def has_products(loop: Loop) -> bool:
        return any(i.name == "HMMA" for block in loop.body for i in flow.instructions(block))

    def within(loop: Loop) -> list[Loop]:
        inner = [each for each in loop.inner if has_products(each)]
        known = all(trips_of(flow, each) is not None for each in inner)
        if known and all(within(each) == [each] for each in inner):
            return [loop]
        return [found for each in inner for found in within(each)]

    return [found for loop in flow.loops if has_products(loop) for found in within(loop)]

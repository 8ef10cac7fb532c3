"""Basic blocks of a function, what dominates them, and its loops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from figures.sass import Instruction


@dataclass(eq=False)
class Loop:
    """A natural loop: the block that it begins with, and all that lead back there."""

    header: int
    body: set[int]
    latches: list[int]  # blocks that lead back to the header
    inner: list[Loop] = field(default_factory=list)

    def with_inner(self) -> Iterator[Loop]:
        """This loop and all inside it."""
        yield self
        for loop in self.inner:
            yield from loop.with_inner()


class Flow:
    """The blocks of code that begin at an instruction; calls count as going on behind them."""

    def __init__(self, code: list[Instruction], entry: int = 0) -> None:
        """Cut code into blocks, from the instruction at index `entry` on."""
        self.code = code
        self.index = {instruction.address: i for i, instruction in enumerate(code)}
        self.entry = entry
        self.ends: dict[int, int] = {}  # of blocks, which are named by their first instruction
        self.successors: dict[int, list[int]] = {}
        self._cut()
        self.order = self._reverse_postorder()
        self.place = {block: i for i, block in enumerate(self.order)}
        self.dominator = self._dominators()
        self.loops = self._nested(self._natural_loops())

    def instructions(self, block: int) -> list[Instruction]:
        """Those of a block."""
        return self.code[block : self.ends[block]]

    def _leads_to(self, i: int) -> list[int] | None:
        """Where instruction i may go to, None where that is just the next."""
        instruction = self.code[i]
        behind = [i + 1] if i + 1 < len(self.code) else []
        if instruction.name in ("EXIT", "RET", "BRX", "JMX", "KILL"):
            if instruction.predicate in ("", "PT"):
                return []
            return behind
        # A call on a condition is a jump: for sm_80 ptxas leaves loops like that. BRA.DIV leads to
        # what warps do whose threads have parted: these do not.
        jumps = instruction.name == "BRA" and "DIV" not in instruction.modifiers
        if not jumps and not (instruction.name == "CALL" and instruction.conditions):
            return None
        target = self.index.get(instruction.target if instruction.target is not None else -1)
        there = [] if target is None else [target]
        return there + behind if instruction.conditions else there

    def _cut(self) -> None:
        leaders, waiting, last = {self.entry}, [self.entry], {}
        seen = set()
        while waiting:
            i = waiting.pop()
            while i < len(self.code) and i not in seen:
                seen.add(i)
                leads = self._leads_to(i)
                if leads is not None:
                    last[i] = leads
                    waiting += leads
                    leaders.update(leads)
                    break
                i += 1
        for leader in leaders:
            i = leader
            while i not in last and i + 1 not in leaders and i + 1 < len(self.code):
                i += 1
            self.ends[leader] = i + 1
            self.successors[leader] = last.get(i, [i + 1] if i + 1 < len(self.code) else [])

    def _reverse_postorder(self) -> list[int]:
        order, seen, stack = [], {self.entry}, [(self.entry, iter(self.successors[self.entry]))]
        while stack:
            block, left = stack[-1]
            for to in left:
                if to not in seen:
                    seen.add(to)
                    stack.append((to, iter(self.successors[to])))
                    break
            else:
                order.append(block)
                stack.pop()
        return order[::-1]

    def _predecessors(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {block: [] for block in self.order}
        for block in self.order:
            for to in self.successors[block]:
                found[to].append(block)
        return found

    def _dominators(self) -> dict[int, int]:
        """Of each block the next that dominates it (Cooper, Harvey and Kennedy, 2001)."""
        predecessors, found = self._predecessors(), {self.entry: self.entry}
        changed = True
        while changed:
            changed = False
            for block in self.order[1:]:
                new = -1
                for other in predecessors[block]:
                    if other in found:
                        new = other if new < 0 else self._common(found, other, new)
                if found.get(block) != new:
                    found[block], changed = new, True
        return found

    def _common(self, dominator: dict[int, int], a: int, b: int) -> int:
        while a != b:
            if self.place[a] > self.place[b]:
                a = dominator[a]
            else:
                b = dominator[b]
        return a

    def _dominates(self, block: int, other: int) -> bool:
        while self.place[other] > self.place[block]:
            other = self.dominator[other]
        return other == block

    def _natural_loops(self) -> list[Loop]:
        predecessors, found = self._predecessors(), {}
        for latch in self.order:
            for header in self.successors[latch]:
                if not self._dominates(header, latch):
                    continue
                loop = found.setdefault(header, Loop(header, {header}, []))
                loop.latches.append(latch)
                waiting = [latch]
                while waiting:
                    block = waiting.pop()
                    if block not in loop.body:
                        loop.body.add(block)
                        waiting += predecessors[block]
        return list(found.values())

    def _nested(self, loops: list[Loop]) -> list[Loop]:
        """The outermost loops, each with those inside."""
        outermost = []
        for loop in sorted(loops, key=lambda loop: len(loop.body)):
            around = [o for o in loops if o is not loop and loop.body < o.body]
            if around:
                min(around, key=lambda o: len(o.body)).inner.append(loop)
            else:
                outermost.append(loop)
        return outermost

"""Machine code as cuobjdump prints it, read into instructions.

A line holds an address, a predicate where there is one, the operation with its modifiers, and the
operands: `/*02f0*/  @!P0 LDG.E.128 R4, desc[UR4][R2.64] ;`.
"""

import re
from typing import NamedTuple

FUNCTION = re.compile(r"^\s*Function : (\S+)")
LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*);")
PREDICATE = re.compile(r"!?U?P[\dT]$")
TARGET = re.compile(r"(?:^|[\s,(`])(0x[0-9a-f]+)\)?\s*$")


class Instruction(NamedTuple):
    """One instruction; `name` without modifiers, such as LDG of LDG.E.128."""

    address: int
    predicate: str
    operation: str
    operands: str

    @property
    def name(self) -> str:
        """The operation without modifiers."""
        return self.operation.split(".")[0]

    @property
    def modifiers(self) -> list[str]:
        """Those of the operation, in order."""
        return self.operation.split(".")[1:]

    @property
    def target(self) -> int | None:
        """Where a branch or a call leads, None where that is in a register."""
        found = TARGET.search(self.operands)
        return int(found[1], 16) if found else None

    @property
    def conditions(self) -> list[str]:
        """The predicates on which a branch is taken: its own, and one among its operands."""
        first = self.operands.split(",")[0].strip()
        asked = [self.predicate, first if PREDICATE.match(first) else ""]
        return [one for one in asked if one not in ("", "PT", "UPT")]


def functions(dump: str) -> dict[str, list[Instruction]]:
    """The instructions of every function in a dump of cuobjdump -sass, by mangled name."""
    found: dict[str, list[Instruction]] = {}
    code: list[Instruction] = []
    for line in dump.splitlines():
        if named := FUNCTION.match(line):
            code = found.setdefault(named[1], [])
        elif match := LINE.match(line):
            address, predicate, operation, operands = match.groups()
            # What the assembler fills up with behind the last instruction never runs.
            code.append(Instruction(int(address, 16), predicate or "", operation, operands.strip()))
    return {name: without_padding(code) for name, code in found.items()}


def without_padding(code: list[Instruction]) -> list[Instruction]:
    """Code up to the branch to itself that ends every function."""
    for i, instruction in enumerate(code):
        if instruction.name == "BRA" and instruction.target == instruction.address:
            return code[:i]
    return code


def load_bytes(instruction: Instruction) -> int:
    """What a thread reads from global memory by an instruction; 0 where it is no such load."""
    if instruction.name not in ("LDG", "LDGSTS", "LD"):
        return 0
    widths = {"128": 16, "64": 8, "U8": 1, "S8": 1, "U16": 2, "S16": 2, "256": 32}
    return next((widths[m] for m in reversed(instruction.modifiers) if m in widths), 4)


def is_integer_division(instruction: Instruction) -> bool:
    """Whether this is the reciprocal of a divisor: rounded up, as nothing but division asks for."""
    return instruction.name == "I2F" and "RP" in instruction.modifiers

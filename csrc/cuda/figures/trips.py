"""How often a loop runs, where its code says so: a counter, a step and a bound that are constants.

A counter that does not begin with a constant counts as beginning with 0, as in loops that the
threads of a block share: for (k = thread() / 64; k < 32; k += 2) runs 16 times.
"""

import re
import struct
from collections.abc import Callable

from figures.flow import Flow, Loop
from figures.sass import Instruction

MOST_TRIPS = 4096
HOLDS = {
    "NE": lambda a, b: a != b,
    "EQ": lambda a, b: a == b,
    "LT": lambda a, b: a < b,
    "LE": lambda a, b: a <= b,
    "GT": lambda a, b: a > b,
    "GE": lambda a, b: a >= b,
}
REGISTER = re.compile(r"^U?R\d+$")
ZERO = ("RZ", "URZ", "SRZ")


def operands_of(instruction: Instruction) -> list[str]:
    """The operands, without what is only said for the scheduler."""
    return [operand.strip().removesuffix(".reuse") for operand in instruction.operands.split(",")]


def constant(operand: str) -> int | None:
    """The value of an operand that is a number."""
    if operand in ZERO:
        return 0
    found = re.fullmatch(r"-?0x[0-9a-f]+", operand)
    return int(operand, 16) if found else None


def written(instruction: Instruction) -> list[str]:
    """The registers that hold something new behind a move, an addition or the like."""
    first = operands_of(instruction)[0]
    if not REGISTER.match(first):
        return []
    if instruction.operation.startswith("CS2R") and "32" not in instruction.modifiers:
        prefix, number = re.fullmatch(r"(U?R)(\d+)", first).groups()  # type: ignore[union-attr]
        return [first, f"{prefix}{int(number) + 1}"]
    return [first]


def moved(instruction: Instruction) -> str | None:
    """What a move copies: a register or a number."""
    operands = operands_of(instruction)
    if instruction.name in ("MOV", "UMOV", "R2UR") or instruction.name == "CS2R":
        return operands[1]
    if instruction.operation == "IMAD.MOV.U32" and operands[1:3] == ["RZ", "RZ"]:
        return operands[3]
    if instruction.name == "HFMA2" and operands[1:3] == ["-RZ", "RZ"]:
        try:
            halves = [struct.pack("<e", float(half)) for half in (operands[4], operands[3])]
        except (ValueError, OverflowError):
            return None
        return hex(int.from_bytes(b"".join(halves), "little"))
    return None


def added(instruction: Instruction) -> tuple[str, int] | None:
    """The register and the constant of which an instruction writes the sum."""
    if instruction.name not in ("IADD3", "VIADD", "UIADD3", "IADD", "UVIADD"):
        return None
    if "X" in instruction.modifiers:
        return None
    sources = [o for o in operands_of(instruction)[1:] if not re.match(r"!?U?P", o)]
    registers = [o for o in sources if REGISTER.match(o)]
    numbers = [constant(o) for o in sources if not REGISTER.match(o)]
    if len(registers) != 1 or None in numbers:
        return None
    step = sum(number for number in numbers if number is not None)
    return registers[0], step - (1 << 32) if step >= 1 << 31 else step


def comparison(code: list[Instruction], predicate: str) -> Instruction | None:
    """What sets a predicate, the last in code; of a wide comparison its lower half."""
    for i in range(len(code) - 1, -1, -1):
        if code[i].name not in ("ISETP", "UISETP") or operands_of(code[i])[0] != predicate:
            continue
        if "EX" in code[i].modifiers:
            return comparison(code[:i], operands_of(code[i])[-1].lstrip("!"))
        return code[i]
    return None


def start_of(flow: Flow, loop: Loop, register: str) -> int | None:
    """The constant that a register holds before a loop; the last that is written to it."""
    inside = {i for block in loop.body for i in range(block, flow.ends[block])}
    for i in range(loop.header - 1, -1, -1):
        if i not in inside and register in written(flow.code[i]):
            value = moved(flow.code[i])
            return None if value is None else constant(value)
    return None


def trips_of(flow: Flow, loop: Loop) -> int | None:
    """How often a loop runs, None where that is not known."""
    if len(loop.latches) != 1:
        return None
    code = flow.instructions(loop.latches[0])
    branch = code[-1]
    goes_on = branch.target == flow.code[loop.header].address
    conditions = branch.conditions
    if branch.name != "BRA" or len(conditions) != 1:
        return None
    test = comparison(code[:-1], conditions[0].lstrip("!"))
    how = next((m for m in test.modifiers if m in HOLDS), None) if test else None
    if test is None or how is None:
        return None
    counter, bound = operands_of(test)[2], constant(operands_of(test)[3])
    if bound is None or not REGISTER.match(counter):
        return None
    holds_on = goes_on != conditions[0].startswith("!")
    return _counted(flow, loop, counter, bound, test, lambda a, b: HOLDS[how](a, b) == holds_on)


def _step_of(body: list[Instruction], counter: str) -> tuple[str, int, int] | None:
    """What is counted on in a loop, by how much, and where that is compared with the old value."""
    for i in reversed(body):
        if counter not in written(i):
            continue
        if by := added(i):
            return by[0], by[1], i.address
        # The sum is in another register at first.
        sums = [added(j) for j in body if moved(i) in written(j)]
        known = [by for by in sums if by and by[0] == counter]
        return (counter, known[-1][1], i.address) if known else None
    return None


def _counted(
    flow: Flow,
    loop: Loop,
    counter: str,
    bound: int,
    test: Instruction,
    goes_on: Callable[[int, int], bool],
) -> int | None:
    found = _step_of([i for b in sorted(loop.body) for i in flow.instructions(b)], counter)
    if found is None:
        return None
    source, step, address = found
    start = start_of(flow, loop, source)
    if start is None:
        if step <= 0:
            return None
        start = 0
    compared_first = source == counter and address > test.address
    for trip in range(1, MOST_TRIPS):
        if not goes_on(start if compared_first else start + step, bound):
            return trip
        start += step
    return None

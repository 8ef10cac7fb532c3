"""How many blocks fit on a multiprocessor, and how long a launch would take on an H100.

Nothing here has been measured: a model, of what the machine code and the host code say. A launch of
B blocks of w warps leaves b = ceil(B / 132) blocks to the busiest multiprocessor, of which
r = min(b, blocks that fit) are there at a time, and takes

    max(issue, tensor, memory, copies) + 1.4 us + waits x 1.0 us

    issue   b w i / (4 x min(1, 0.5 r w / 4)) cycles: four schedulers issue one instruction a cycle,
            a warp every second cycle at most; i = instructions of the main loop's iteration
            x products of a warp / products of the iteration + all other instructions once
    tensor  b w p / 4 x 7 cycles: p products (mma.m16n8k8) of a warp, 90 TFLOP/s for 3xTF32
    memory  bytes of the launch's buffers, each once, at 3.0 TB/s, and at most 64 bytes a cycle for
            each multiprocessor that has a block
    copies  bytes that asynchronous copies ask for, at 5.5 TB/s from the cache
    waits   barriers over all blocks

with p, copies and waits of a block of the middle as the emulator counts them. Launches follow one
another; what cuDNN convolves takes 1 / 0.7 of its time at 90 TFLOP/s. Least time, the roofline:
the larger of least bytes at 3.0 TB/s and floating point operations at 90 TFLOP/s.
"""

from __future__ import annotations

from typing import NamedTuple

from figures.launches import MULTIPROCESSORS, Launch, Recorded
from figures.loops import KernelCounts
from figures.operations import Work, main_launches

CLOCK = 1.755e9  # an H100 SXM's
BANDWIDTH = 3.0e12
CACHE_BANDWIDTH = 5.5e12
BYTES_A_CYCLE = 64  # into one multiprocessor
FLOPS = 90e12  # 3xTF32 by mma.sync: three products for one
PRODUCT = 2 * 16 * 8 * 8
PRODUCT_CYCLES = PRODUCT / (3 * FLOPS / (MULTIPROCESSORS * 4 * CLOCK))
LAUNCH_SECONDS = 1.4e-6
WAIT_SECONDS = 1.0e-6
SCHEDULERS = 4
WARP_RATE = 0.5
LIBRARY_SHARE = 0.7


class Limits(NamedTuple):
    """Of a multiprocessor."""

    warps: int
    blocks: int
    shared_bytes: int  # all blocks'
    most_shared_bytes: int  # one block's


LIMITS = {
    80: Limits(64, 32, 164 << 10, 163 << 10),
    90: Limits(64, 32, 228 << 10, 227 << 10),
    100: Limits(64, 32, 228 << 10, 227 << 10),
    120: Limits(48, 24, 100 << 10, 99 << 10),
}
REGISTERS = 64 << 10
RESERVED_BYTES = 1 << 10  # of shared memory, for each block


def blocks_that_fit(architecture: int, registers: int, threads: int, shared_bytes: int) -> int:
    """Blocks on one multiprocessor at a time; 0 where a block's shared memory is too large."""
    limits, warps = LIMITS[architecture], -(-threads // 32)
    if shared_bytes > limits.most_shared_bytes:
        return 0
    of_warp = -(-registers * 32 // 256) * 256
    by_registers = SCHEDULERS * (REGISTERS // SCHEDULERS // of_warp) // warps
    by_shared = limits.shared_bytes // (shared_bytes + RESERVED_BYTES)
    return min(by_registers, by_shared, limits.warps // warps, limits.blocks)


class Machine(NamedTuple):
    """What the model knows of each kernel on an H100, by mangled name."""

    registers: dict[str, int]
    counts: dict[str, KernelCounts]

    def fit(self, launch: Launch) -> int:
        """Blocks of a launch on a multiprocessor at a time."""
        registers = self.registers.get(launch.kernel, 32)
        return max(blocks_that_fit(90, registers, launch.threads, launch.shared_bytes), 1)

    def seconds(self, launch: Launch) -> float:
        """Of one launch."""
        counts = self.counts.get(launch.kernel)
        busiest = -(-launch.blocks // MULTIPROCESSORS)
        warps = launch.warps / SCHEDULERS  # of a block, for each scheduler
        cycles = 0.0
        if launch.products and counts and counts.loop.products:
            iterations = launch.products / counts.loop.products
            issued = iterations * counts.loop.instructions + counts.outside
            rate = min(1.0, WARP_RATE * min(busiest, self.fit(launch)) * warps)
            cycles = busiest * warps * max(issued / rate, launch.products * PRODUCT_CYCLES)
        width = min(launch.blocks, MULTIPROCESSORS) * BYTES_A_CYCLE * CLOCK
        memory = launch.buffer_bytes / min(BANDWIDTH, width)
        copies = launch.copied_bytes * launch.blocks / CACHE_BANDWIDTH
        waiting = LAUNCH_SECONDS + launch.waits * WAIT_SECONDS
        return max(cycles / CLOCK, memory, copies) + waiting

    def total(self, recorded: Recorded, flops: int) -> float:
        """Of all launches of a call, with what it leaves to libraries."""
        own = sum(map(self.seconds, recorded.launches))
        library = sum(recorded.library.values()) * LAUNCH_SECONDS
        if flops and not any(launch.products for launch in recorded.launches):
            library += flops / (LIBRARY_SHARE * FLOPS)
        return own + library


def least_seconds(work: Work) -> float:
    """The roofline."""
    return max(work.least_bytes / BANDWIDTH, work.flops / FLOPS)


def narrowest(work: Work) -> Launch | None:
    """Of the launches that do the work the one with the fewest blocks.

    Without tensor cores they are those that are given the most bytes.
    """
    launches = main_launches(work)
    if launches and not launches[0].products:
        most = max(launch.buffer_bytes for launch in launches)
        launches = [launch for launch in launches if launch.buffer_bytes == most]
    return min(launches, key=lambda launch: launch.blocks, default=None)


def is_of_library(work: Work) -> bool:
    """Whether cuDNN convolves: then neither its blocks nor its bytes are known."""
    return work.flops > 0 and not any(launch.products for launch in work.recorded.launches)


def figures_of(work: Work, machine: Machine | None) -> dict[str, float]:
    """The figures of an operation; those of time and waves with a machine alone."""

    def a_step(total) -> float:  # noqa: ANN001
        before = total(work.fewer) if work.fewer else 0
        return (total(work.recorded) - before) / work.steps

    def launched(recorded: Recorded) -> int:
        return len(recorded.launches) + sum(recorded.library.values())

    def moved(recorded: Recorded) -> int:
        return sum(launch.buffer_bytes for launch in recorded.launches)

    launch = None if is_of_library(work) else narrowest(work)
    found: dict[str, float] = {
        "blocks": launch.blocks if launch else 0,
        "launches": a_step(launched),
        "library_calls": a_step(lambda recorded: sum(recorded.library.values())),
    }
    if launch:
        found["megabytes"] = round(a_step(moved) / 1e6, 3)
        found["bytes_ratio"] = round(a_step(moved) / work.least_bytes, 3)
    if machine:
        if launch:
            slots = MULTIPROCESSORS * machine.fit(launch)
            found["waves"] = round(launch.blocks / slots, 2)
        seconds = a_step(lambda recorded: machine.total(recorded, work.flops))
        found["model_us"] = round(1e6 * seconds, 2)
        found["least_us"] = round(1e6 * least_seconds(work), 2)
        found["roofline_share"] = round(least_seconds(work) / seconds, 3)
    return found

"""What a machine can do at most: its copy bandwidth and its rate of matrix products.

python bench/machine.py [cpu|cuda]
"""

import sys
import time
from collections.abc import Callable

import torch

COPY_BYTES = 1 << 28
SIZES = {"cpu": 1024, "cuda": 8192}
REPEATS = 10


def seconds(device: str, work: Callable[[], object]) -> float:
    """Median time of one call, by the wall clock, the device having finished."""

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    work()
    times = []
    for _ in range(REPEATS):
        start = now()
        work()
        times.append(now() - start)
    return sorted(times)[REPEATS // 2]


def main(device: str) -> None:
    """Prints the bandwidth of a copy (read and write), and products of large square matrices."""
    name = (
        torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    )
    print(f"{device}, {name}, torch {torch.__version__}")
    source = torch.zeros(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    rate = 2 * COPY_BYTES / seconds(device, lambda: target.copy_(source))
    print(f"copy: {rate / 1e9:.0f} GB/s")
    size = SIZES[device]
    kinds = [("float32", torch.float32, False), ("float64", torch.float64, False)]
    if device == "cuda":
        kinds += [("TF32", torch.float32, True), ("bfloat16", torch.bfloat16, False)]
    for kind, dtype, tf32 in kinds:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        matrix = torch.randn(size, size, device=device).to(dtype)
        rate = 2 * size**3 / seconds(device, lambda matrix=matrix: matrix @ matrix)
        print(f"product {kind}: {rate / 1e12:.3g} TFLOP/s")


if __name__ == "__main__":
    where = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    if where not in SIZES or (where == "cuda" and not torch.cuda.is_available()):
        raise SystemExit(f"the device must be cpu, or cuda where there is a GPU, got {where!r}")
    main(where)

"""gram_accumulate_ against the float32 product of all columns, in turns, with the errors of both.

python bench/gram_table.py [--rounds 7]

Prints the table of docs/performance.md: one thread, process CPU time, medians. All three matrices;
errors are Frobenius norms over those of float64 products, the worst of the three.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

sys.path.append(str(Path(__file__).parent / "helpers"))

import click
import torch
from bench_gram import SHAPES, fused, plain_float32, plain_float64
from in_turns import in_turns
from torch import Tensor

# Kernel, N, C_S, C_T, H = W: larger ones, of VGG-16, beside those of `bench_gram.py`.
LARGER = [(3, 50, 64, 64, 32), (3, 50, 512, 512, 4)]
Product = Callable[[list[Tensor], Tensor, Tensor, int], None]


def empty(shape: tuple[int, ...]) -> list[Tensor]:
    """The three matrices."""
    kernel, _, *channels, _ = shape
    student, teacher = (count * kernel**2 for count in channels)
    sides = ((student, student), (teacher, student), (teacher, teacher))
    return [torch.zeros(*each, dtype=torch.float64) for each in sides]


def error(product: Product, shape: tuple[int, ...], *images: Tensor) -> float:
    """From float64."""
    found, exact = empty(shape), empty(shape)
    product(found, *images, shape[0])
    plain_float64(exact, *images, shape[0])
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True))


@click.command()
@click.option("--rounds", default=7, help="Turns of each.")
def main(rounds: int) -> None:
    """Print it."""
    torch.set_num_threads(1)
    print("| window and shape | ms | plain_float32 ÷ fused | error | error of plain_float32 |")
    print("|---|---|---|---|---|")
    for shape in [*SHAPES[4:], *LARGER, *SHAPES[:4]]:
        kernel, count, student, teacher, size = shape
        torch.manual_seed(0)
        images = [
            torch.randn(count, channels, size, size).relu() for channels in (student, teacher)
        ]
        calls = {
            product.__name__: partial(product, empty(shape), *images, kernel)
            for product in (fused, plain_float32)
        }
        ours, plain = map(median, in_turns(calls, rounds).values())
        errors = [f"{error(product, shape, *images):.1e}" for product in (fused, plain_float32)]
        name = f"{kernel}x{kernel} {shape[1:]}"
        print(
            f"| {name} | {1e3 * ours:.3g} | {plain / ours:.1f} | {' | '.join(errors)} |", flush=True
        )


if __name__ == "__main__":
    main()

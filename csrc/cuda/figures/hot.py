"""The kernels whose time matters, in one place, and names to read."""

import re

import torch

# With tensor cores: their time is that of their inner loop.
TENSOR_CORES = (
    "layer_kernel",
    "weight_gradient_kernel",
    "quadratic_kernel",
    "gram_tiles_kernel",
    "absorb_kernel",
    "resident_moments_kernel",
    "resident_images_kernel",
)
HOT = (
    *TENSOR_CORES,
    "adam_kernel",
    "sgd_kernel",
    "soft_threshold_kernel",
    "mix_kernel",
    "residual_kernel",
    "count_digits_kernel",
    "shrink_groups_kernel",
)


def short_name(mangled: str) -> str:
    """A kernel's name with its template arguments: gram_tiles_kernel<float>."""
    name = torch._C._demangle(mangled)
    name = re.sub(r"\b(?:fsc|device|c10)::", "", name).removeprefix("void ")
    name = re.sub(r"\((?:bool|int|long|unsigned|\w+)\)(?=\w)", "", name)
    depth = 0
    for i, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            return name[:i]
    return name


def is_hot(mangled: str) -> bool:
    """Whether a kernel is hot.

    Those for float64, for gradient checks, and with 64-bit indices, for inputs beyond 2^31 values,
    never are.
    """
    name, _, arguments = short_name(mangled).partition("<")
    return name in HOT and not re.search(r"\b(double|long)\b", arguments)


def is_single(mangled: str) -> bool:
    """Whether a kernel is hot and for float32, the type of all figures."""
    name, _, arguments = short_name(mangled).partition("<")
    return name in HOT and bool(re.search(r"\bfloat\b", arguments))

"""Figures of the CUDA kernels that a machine without a GPU can count: csrc/cuda/check.py.

`compiling` calls nvcc and reads what ptxas says, `sass` reads machine code, `loops` finds the main
loop of a kernel in it and counts; `launches` reads from the host emulator what the project's own
host code launches, for the `operations` of this folder; `model` makes times of both, `table` keeps
figures and compares.
"""

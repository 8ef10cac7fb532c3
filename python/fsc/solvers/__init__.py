"""Solvers of one layer's objective: tensors in, tensors out."""

"""Solvers of one layer's objective: tensors in, tensors out."""

from fsc.solvers.accelerated import Accelerated
from fsc.solvers.closed_form import ClosedForm
from fsc.solvers.proximal import Proximal

__all__ = ["Accelerated", "ClosedForm", "Proximal"]

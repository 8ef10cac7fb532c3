"""The five layer objectives of Cross Distillation, as data.

Every figure of the paper (Bai et al., 2020) is one list of terms (weight, alpha, beta):

    L(W) = 1/N * sum of weight * || act(W_T * x_T + b_T) - act(W * x_S + b) ||_F^2
    x_T = alpha h_T + (1 - alpha) h_S        x_S = (1 - beta) h_T + beta h_S        (Eq. 7)

with h_T, h_S the layer's inputs in the teacher and in the student.
"""

from dataclasses import dataclass

from fsc.arguments import check_fields


def _check_unit(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {value}")


@dataclass(frozen=True)
class Term:
    """One squared error: its weight in the sum and the mixing of the two inputs (Eq. 7)."""

    weight: float
    alpha: float
    beta: float


class Objective:
    """A layer objective: a weighted sum of squared errors."""

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of the sum."""
        raise NotImplementedError


@dataclass(frozen=True)
class Estimation(Objective):
    """Estimation error L^r, "Ours-NC" in the tables (Eq. 1, Fig. 1a)."""

    @property
    def terms(self) -> tuple[Term, ...]:
        """Each network sees its own input."""
        return (Term(1.0, 1.0, 1.0),)


@dataclass(frozen=True)
class Correction(Objective):
    """Correction loss L^c: the student's layer sees the teacher's input (Eq. 2, Fig. 1b)."""

    @property
    def terms(self) -> tuple[Term, ...]:
        """Both layers see the teacher's input."""
        return (Term(1.0, 1.0, 0.0),)


@dataclass(frozen=True)
class Imitation(Objective):
    """Imitation loss L^i: the teacher's layer sees the student's input (Eq. 3, Fig. 1c)."""

    @property
    def terms(self) -> tuple[Term, ...]:
        """Both layers see the student's input."""
        return (Term(1.0, 0.0, 1.0),)


@dataclass(frozen=True)
class Convex(Objective):
    """Convex combination of correction and imitation, "Ours" (Eq. 4).

    Args:
        mu: weight of the correction, in [0, 1]; the paper takes 0.6 for VGG, 0.9 for ResNets.

    Raises:
        ValueError: mu is outside [0, 1].
    """

    mu: float = 0.9

    def __post_init__(self) -> None:
        """Refuses a weight that is none."""
        check_fields(self)
        _check_unit("mu", self.mu)

    @property
    def terms(self) -> tuple[Term, ...]:
        """Mu of the correction and 1 - mu of the imitation."""
        return (Term(self.mu, 1.0, 0.0), Term(1.0 - self.mu, 0.0, 1.0))


@dataclass(frozen=True)
class Soft(Objective):
    """Soft cross distillation, "Ours-S" (Eq. 8, Fig. 1d).

    Args:
        alpha: share of the teacher's own input in what the teacher's layer sees, in [0, 1].
        beta: share of the student's own input in what the student's layer sees, in [0, 1].
            The paper takes (0.9, 0.3) for VGG and (0.9, 0.5) for ResNets.

    Raises:
        ValueError: alpha or beta is outside [0, 1].
    """

    alpha: float = 0.9
    beta: float = 0.5

    def __post_init__(self) -> None:
        """Refuses shares that are none."""
        check_fields(self)
        _check_unit("alpha", self.alpha)
        _check_unit("beta", self.beta)

    @property
    def terms(self) -> tuple[Term, ...]:
        """One term with both inputs mixed."""
        return (Term(1.0, self.alpha, self.beta),)

import json
from dataclasses import dataclass

import pytest
import torch
from networks import chain
from torch import Tensor, nn

import fsc
from fsc.channels.proof import channel_groups
from fsc.methods import Outcome, Task
from fsc.methods.examination import starting_point
from fsc.methods.soundness import Yardstick, is_sound
from fsc.networks.quantized_inputs import QuantizedInputConv2d
from fsc.schemes import Scheme, quantized, sparse

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})


def _wide() -> tuple[nn.Module, Tensor]:
    """A teacher whose features are so large that MiR's learning rate diverges."""
    torch.manual_seed(3)
    teacher, images = chain(), torch.randn(12, 3, 8, 8)
    with torch.no_grad():
        teacher.conv4.weight *= 1000
        teacher.conv4.bias *= 1000
        teacher.head.weight /= 1000
    return teacher, images


def test_mir_halves_its_rate_until_it_converges() -> None:
    teacher, images = _wide()
    method = fsc.MiR(steps=20, batch_size=4, max_retries=12)
    with pytest.warns(fsc.CompressionWarning, match="MiR diverged at a learning rate of 0.02, 0"):
        report = fsc.compress(teacher, images, method=method, scheme=SCHEME).report
    rates = report.learning_rates
    assert len(rates) > 1 and rates == [0.02 / 2**retry for retry in range(len(rates))]
    assert report.distance_start is not None
    assert is_sound(report.distance, report.distance_start)
    assert json.loads(json.dumps(report.to_dict()))["learning_rates"] == rates
    assert any("diverged" in sentence for sentence in report.warnings)
    last = fsc.MiR(steps=20, batch_size=4, learning_rate=rates[-1])
    again = fsc.compress(teacher, images, method=last, scheme=SCHEME).report
    assert again.distance == report.distance  # a retry starts from where the first run started


def test_mir_that_stays_far_away_says_so() -> None:
    teacher, images = _wide()
    method = fsc.MiR(steps=20, batch_size=4, max_retries=0)
    with pytest.warns(fsc.CompressionWarning, match="farther from the teacher than the pruned"):
        report = fsc.compress(teacher, images, method=method, scheme=SCHEME).report
    assert report.learning_rates == [0.02] and report.distance > report.distance_start


def test_mir_that_is_never_finite_is_an_error() -> None:
    steps: list[int] = []
    with pytest.raises(ValueError, match=r"learning_rate must be small .* got 1e\+10; tried .*5e"):
        fsc.compress(
            chain(),
            torch.randn(12, 3, 8, 8),
            method=fsc.MiR(steps=400, learning_rate=1e10, max_retries=1),
            scheme=SCHEME,
            progress=lambda what, done, total: steps.append(done),
        )
    assert max(steps) < 400  # it gives up early


def test_a_run_that_converges_has_one_rate_and_no_warning(recwarn) -> None:
    torch.manual_seed(3)
    teacher, images = chain(), torch.randn(12, 3, 8, 8)
    report = fsc.compress(teacher, images, method=fsc.MiR(steps=20), scheme=SCHEME).report
    assert report.learning_rates == [0.02]
    assert not [w for w in recwarn if "diverged" in str(w.message) or "farther" in str(w.message)]
    assert 0 < report.distance < report.distance_start


@dataclass(frozen=True)
class Spoilt:
    """A method of the user's own that multiplies the last layers."""

    factor: float

    def compress(self, task: Task) -> Outcome:
        student = starting_point(task)
        student.conv4.weight.mul_(self.factor)
        student.head.weight.mul_(self.factor)
        return Outcome(student, {})


def test_every_method_is_asked() -> None:
    teacher, images = chain(), torch.randn(6, 3, 8, 8)
    with pytest.warns(fsc.CompressionWarning, match="farther .* start by"):
        fsc.compress(teacher, images, method=Spoilt(50.0), scheme=SCHEME)
    with pytest.raises(ValueError, match="finite weights and outputs, got NaN or Inf in conv4.w"):
        fsc.compress(teacher, images, method=Spoilt(float("nan")), scheme=SCHEME)
    with pytest.raises(ValueError, match="got NaN or Inf in its outputs"):
        fsc.compress(teacher, images, method=Spoilt(1e30), scheme=SCHEME)


def test_a_teacher_without_finite_outputs_is_refused() -> None:
    teacher = chain()
    with torch.no_grad():
        for layer in (teacher.conv3, teacher.conv4, teacher.head):
            layer.weight *= 1e20
    with pytest.raises(ValueError, match="must give finite outputs, got NaN or Inf from the tea"):
        fsc.compress(teacher, torch.randn(2, 3, 8, 8), method=fsc.FSKD(), scheme=SCHEME)


def test_the_starting_point_is_the_teacher_pruned_or_rounded() -> None:
    teacher, images = chain(), torch.randn(4, 3, 8, 8)
    groups = channel_groups(teacher, images[:1])

    def start(scheme: fsc.schemes.AnyScheme) -> nn.Module:
        with torch.no_grad():
            return starting_point(Task(teacher, images, scheme, groups=groups))

    pruned = start(SCHEME)
    assert isinstance(pruned, nn.Module) and pruned.conv1.out_channels == 4
    assert start(sparse(teacher, 0.5)).conv2.weight.count_nonzero() == 360
    rounded = start(quantized(teacher, 2, activation_bits=4))
    assert len(rounded.conv2.weight[0].unique()) <= 4
    assert isinstance(rounded.conv3, QuantizedInputConv2d)
    yardstick = Yardstick(teacher, images, batch_size=3)
    assert yardstick.distance(teacher) == 0 < yardstick.distance(pruned)


def test_outputs_of_any_nesting_are_compared() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> dict[str, object]:
            return {"a": x.mean(1), "rest": (2 * x, None)}

    class Zero(nn.Module):
        def forward(self, x: Tensor) -> dict[str, object]:
            return {"a": 0 * x.mean(1), "rest": (0 * x, None)}

    images = torch.randn(5, 3, 4, 4)
    yardstick = Yardstick(Two(), images - images.mean(0), batch_size=2)
    assert yardstick.distance(Two()) == 0
    assert yardstick.distance(Zero()) == pytest.approx(1)


class Shifted(nn.Module):
    """Scores around a number that is the same for all images."""

    def __init__(self, share: float, around: float = 100.0) -> None:
        super().__init__()
        self.share, self.around = share, around

    def forward(self, x: Tensor) -> Tensor:
        return self.around + self.share * x.mean((2, 3))


def test_what_all_outputs_have_in_common_hides_no_error() -> None:
    images = torch.randn(6, 3, 4, 4)
    images -= images.mean(0)
    yardstick = Yardstick(Shifted(1.0), images, batch_size=4)
    assert yardstick.distance(Shifted(0.0)) == pytest.approx(1, rel=1e-4)
    assert yardstick.distance(Shifted(0.5)) == pytest.approx(0.25, rel=1e-4)


def test_outputs_that_do_not_vary_are_measured_by_their_energy() -> None:
    one = torch.randn(1, 3, 4, 4)
    for images in (one, one.expand(5, -1, -1, -1)):
        yardstick = Yardstick(Shifted(0.0, around=10.0), images, batch_size=2)
        assert yardstick.scale == "energy"
        assert yardstick.distance(Shifted(0.0, around=11.0)) == pytest.approx(0.01)


class Among(nn.Module):
    """Gives what all images of a batch are to each other, [N, N]."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return self.share * (x.flatten(1) @ x.flatten(1).T)


def test_outputs_of_batches_that_do_not_fit_together_are_measured_by_their_energy() -> None:
    yardstick = Yardstick(Among(1.0), torch.randn(10, 3, 4, 4), batch_size=4)
    assert yardstick.scale == "energy"
    assert yardstick.distance(Among(0.5)) == pytest.approx(0.25)


def test_a_student_no_better_than_a_constant_is_told() -> None:
    torch.manual_seed(0)
    teacher, images = chain(), torch.randn(8, 3, 8, 8)
    scarce = Scheme("scarce", dict.fromkeys(SCHEME.kept, 1))
    with pytest.warns(fsc.CompressionWarning) as told:
        result = fsc.compress(teacher, images, scheme=scarce, method="l1")
    assert result.report.distance >= 1 and result.report.distance_of == "variance"
    assert any("student answers no better than a constant" in str(each.message) for each in told)


def test_of_a_single_image_nothing_is_said_of_constants(recwarn) -> None:
    torch.manual_seed(0)
    scarce = Scheme("scarce", dict.fromkeys(SCHEME.kept, 1))
    report = fsc.compress(chain(), torch.randn(1, 3, 8, 8), scheme=scarce, method="l1").report
    assert report.distance_of == "energy" and "of the energy of the teacher's" in str(report)
    assert not any("constant" in str(each.message) for each in recwarn)

"""BP, KD, FitNet and MiR's head: what each lowers, what it is given, and how it goes on."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from interruption import Interrupting
from networks import chain
from torch import Tensor, nn

import fsc
from fsc import models
from fsc.methods import schedule
from fsc.methods.schedule import Schedule
from fsc.networks.stages import stage_ends
from fsc.networks.tracing import trace
from fsc.schemes import Scheme

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
LABELS = torch.tensor([0, 3, 1, 2, 3, 0, 1, 1, 2, 0])
METHODS = {
    "bp": fsc.BackProp(steps=40, batch_size=4, learning_rate=0.02),
    "kd": fsc.KD(steps=40, batch_size=4, learning_rate=0.02),
    "fitnet": fsc.FitNet(steps=40, batch_size=4, learning_rate=0.02),
    "head": fsc.MiR(steps=20, batch_size=4, tune_head=True),
}


def _given() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    return chain(), torch.randn(10, 3, 8, 8)


def _run(method: object, labels: Tensor | None = LABELS, **options: object) -> fsc.Result:
    teacher, images = _given()
    return fsc.compress(teacher, images, labels=labels, method=method, scheme=SCHEME, **options)  # type: ignore[arg-type]


def _entropy(model: nn.Module) -> float:
    with torch.no_grad():
        return float(F.cross_entropy(model(_given()[1]), LABELS))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore:student is farther")
def test_labels_are_learned(name: str) -> None:
    result = _run(METHODS[name])
    assert result.student.conv1.out_channels == 4 and not result.student.training
    assert _entropy(result.student) < _entropy(_run(fsc.L1Norm(), None).student)
    assert result.report.learning_rates == [METHODS[name].learning_rate]
    assert not torch.equal(result.student.head.weight, _given()[0].head.weight)


@pytest.mark.parametrize("name", ["kd", "fitnet"])
def test_without_labels_the_scores_are_followed_and_a_warning_says_so(name: str) -> None:
    with pytest.warns(fsc.CompressionWarning, match="had no labels: .*weight=1 does.* weight=0.7"):
        result = _run(METHODS[name], None)
    assert result.report.distance < result.report.distance_start


def test_a_weight_of_one_needs_no_labels(recwarn) -> None:
    one = _run(fsc.KD(steps=5, weight=1.0), None).student
    assert not [each for each in recwarn if "labels" in str(each.message)]
    other = _run(fsc.KD(steps=5, weight=1.0)).student
    assert torch.allclose(one.head.weight, other.head.weight)


def test_a_head_is_tuned_to_the_teachers_scores_and_the_body_is_left() -> None:
    tuned = _run(fsc.MiR(steps=20, tune_head=True), None)
    plain = _run(fsc.MiR(steps=20), None)
    for name, value in plain.student.state_dict().items():
        assert torch.equal(value, tuned.student.state_dict()[name]) != name.startswith("head"), name


def test_a_head_that_is_no_linear_is_not_tuned() -> None:
    teacher = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    method = fsc.MiR(steps=1, tune_head=True)
    with pytest.raises(ValueError, match=r"tune_head must be False .* one Linear, got 2"):
        fsc.compress(teacher, _given()[1], method=method, scheme=Scheme("half", {"0": 4}))


# Before a state is kept; in the hints of FitNet, which the others have not, and behind them.
@pytest.mark.parametrize(
    ("name", "stop_after"),
    [*(("fitnet", stop_after) for stop_after in (3, 13, 22, 37)), ("bp", 22), ("kd", 22),
     ("head", 13)],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:student is farther")
def test_interrupted_and_resumed_has_the_same_bits(
    tmp_path: Path, name: str, stop_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_STEPS_BETWEEN_LOOKS", 4)
    progress = Interrupting(stop_after)
    whole = _run(METHODS[name]).student
    with pytest.raises(KeyboardInterrupt):
        _run(METHODS[name], journal=tmp_path, progress=progress)
    parts = _run(METHODS[name], journal=tmp_path, progress=progress).student
    assert progress.told < 40 + stop_after or stop_after == 3
    for key, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[key]), key
    with pytest.raises(ValueError, match=r"another images\.labels|images\.labels"):
        _run(METHODS[name], 3 - LABELS, journal=tmp_path)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: fsc.KD(temperature=0), "temperature must be finite and above 0, got 0"),
        (lambda: fsc.FitNet(weight=1.5), r"weight must be in \[0, 1\], got 1.5"),
        (lambda: fsc.FitNet(hint_learning_rate=0), "hint_learning_rate must be finite and above 0"),
        (lambda: fsc.MiR(head_learning_rate=-1), "head_learning_rate must be finite and above 0"),
        (lambda: fsc.BackProp(steps=0), "steps must be at least 1, got 0"),
    ],
)
def test_values_out_of_range_are_refused(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize("method", [fsc.BackProp(), fsc.KD(), fsc.FitNet()])
def test_the_papers_schedule_is_the_default(method: Schedule) -> None:
    found = method.steps, method.batch_size, method.learning_rate, method.momentum
    assert (*found, method.weight_decay) == (2000, 64, 1e-3, 0.9, 1e-4)


def test_a_rate_that_diverges_is_halved_and_the_method_named() -> None:
    with pytest.raises(ValueError, match=r"the student of BackProp to stay finite, got 1e\+12"):
        _run(fsc.BackProp(steps=60, learning_rate=1e12, max_retries=1))


def test_stages_end_where_maps_become_smaller() -> None:
    network, image = models.build("resnet20").eval(), torch.zeros(1, 3, 32, 32)
    graph = trace(network)
    ends = stage_ends(network, graph, image)
    owners = [str(next(iter(node.all_input_nodes))) for node in ends]
    assert len(ends) == 3, owners
    network = chain()
    assert len(stage_ends(network, trace(network), torch.zeros(1, 3, 8, 8))) == 2


def test_one_half_of_a_split_is_no_end() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(4, 4, 1)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            left, right = self.first(x).chunk(2, 1)
            return self.head((self.second(left) * right).mean((2, 3)))

    network = Split().eval()
    ends = stage_ends(network, trace(network), torch.zeros(1, 3, 8, 8))
    assert [str(node.target) for node in ends] != ["first"] and len(ends) == 1
    assert "mul" in str(ends[0].target)


def test_hints_compare_the_channels_that_stay_of_a_stream() -> None:
    teacher, images = models.build("resnet14").eval(), torch.randn(4, 3, 16, 16)
    method = fsc.FitNet(steps=4)
    with pytest.warns(fsc.CompressionWarning):
        report = fsc.compress(teacher, images, method=method, pruning_ratio=0.5).report
    assert any(len(rows) == 8 for rows in report.kept.values())


def test_a_network_without_feature_maps_has_no_place_for_hints() -> None:
    teacher = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    with pytest.raises(ValueError, match="teacher must have a place between layers .* got none"):
        fsc.compress(teacher, torch.randn(5, 6), method="fitnet", scheme=Scheme("x", {"0": 4}))

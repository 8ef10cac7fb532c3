"""Cross distillation: its objectives after the activation, its options, and what it refuses."""

import copy

import pytest
import torch
from networks import chain, widths
from torch import Tensor, nn

import fsc
from fsc.layers import objectives, statistics
from fsc.layers.moments import Columns, Moments, layer_statistics
from fsc.networks import surgery
from fsc.schemes import Scheme
from fsc.solvers import Accelerated, ClosedForm, Proximal
from fsc.solvers.patch import Patch

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
OBJECTIVES = [fsc.Estimation(), fsc.Correction(), fsc.Imitation(), fsc.Convex(), fsc.Soft()]


def _images(count: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 3, 8, 8, dtype=dtype)


@pytest.mark.parametrize("axis", ["input_channels", "output_filters"])
def test_relu_objective_is_lowered_by_steps(axis: str) -> None:
    teacher, images = chain(), _images(16)
    solver = Proximal(steps=60, learning_rate=5e-3)
    done: list[tuple[str, int, int]] = []
    method = fsc.CrossDistillation(solver=solver, activation="relu", axis=axis)
    result = fsc.compress(
        teacher,
        images,
        method=method,
        scheme=SCHEME,
        progress=lambda *event: done.append(event),
    )
    assert widths(result.student) == {"conv1": 4, "conv2": 5, "conv3": 6, "conv4": 6}
    pruned = result.report.layers[1:]
    assert all(layer.error < layer.error_before for layer in pruned)
    assert ("layer conv2, step", 60, 60) in done


@pytest.mark.parametrize("axis", ["input_channels", "output_filters"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_conjugate_gradients_lower_the_relu_objective(
    objective: objectives.Objective, axis: str
) -> None:
    teacher, images = chain(), _images(16)
    layers = []
    for solver in (Accelerated(tolerance=0), Accelerated(steps=1, tolerance=0)):
        method = fsc.CrossDistillation(objective, solver, activation="relu", axis=axis)
        result = fsc.compress(teacher, images, method=method, scheme=SCHEME)
        # The first layer that is solved sees the same inputs in both and chooses alike.
        layers.append(result.report.layers[0])
    many, one = layers
    assert many.error_before == one.error_before
    # Filters that stay before the drift begins have nothing to lose but rounding.
    assert many.error <= one.error + 1e-9
    assert one.error <= one.error_before + 1e-9
    assert axis == "output_filters" or many.error < 0.99 * one.error_before


def test_recalibration_gives_channels_the_teachers_mean_and_deviation() -> None:
    teacher, images = chain(torch.float64), _images(16, torch.float64)
    scheme = Scheme("first", {"conv1": 4})
    outputs = {}
    for network in ("teacher", "drifting", "recalibrated"):
        model = teacher
        if network != "teacher":
            method = fsc.CrossDistillation(fsc.Correction(), recalibrate=network == "recalibrated")
            model = fsc.compress(teacher, images, method=method, scheme=scheme).student
        node = dict(model.named_modules())["conv2"]
        handle = node.register_forward_hook(lambda _, __, out, n=network: outputs.update({n: out}))
        with torch.no_grad():
            model(images)
        handle.remove()
    folded = copy.deepcopy(teacher)
    surgery.fold_batch_norm(folded)
    with torch.no_grad():
        folded.conv2.register_forward_hook(lambda _, __, out: outputs.update(teacher=out))
        folded(images)
    for statistic in (torch.mean, torch.std):
        expected = statistic(outputs["teacher"], (0, 2, 3))
        torch.testing.assert_close(statistic(outputs["recalibrated"], (0, 2, 3)), expected)
        assert not torch.allclose(statistic(outputs["drifting"], (0, 2, 3)), expected, rtol=1e-3)


def _wide() -> nn.Module:
    """Few pixels and many channels, so that the second layer is solved from its columns."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=4), nn.ReLU(), nn.Conv2d(64, 8, 3, padding=1)
    ).double()


def test_layers_with_fewer_pixels_than_inputs_are_solved_from_their_columns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teacher, images = _wide().eval(), _images(3, torch.float64)
    scheme, method = Scheme("half", {"0": 32}), fsc.CrossDistillation()
    whole = fsc.compress(teacher, images, method=method, scheme=scheme).student
    pieces = fsc.compress(teacher, images, method=method, scheme=scheme, batch_size=1).student
    patch = Patch.of(teacher[2])
    assert isinstance(layer_statistics(patch, 3 * 2 * 2), Columns)
    monkeypatch.setattr(statistics, "layer_statistics", lambda patch, *_: Moments(patch))
    by_grams = fsc.compress(teacher, images, method=method, scheme=scheme).student
    for other in (pieces, by_grams):
        torch.testing.assert_close(other(images), whole(images), rtol=1e-7, atol=1e-7)


def test_inputs_that_no_float64_can_hold_are_named() -> None:
    with pytest.raises(ValueError, match="layer conv2 cannot be solved: .* got ClosedForm"):
        fsc.compress(chain(), 1e20 * _images(), method=fsc.CrossDistillation(), scheme=SCHEME)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"activation": "tanh"}, "activation must be one of none, relu, got 'tanh'"),
        ({"axis": "rows"}, "axis must be one of input_channels, output_filters, got 'rows'"),
        (
            {"after_addition": True, "solver": Proximal()},
            "after_addition must be False with Proximal before the activation, got True",
        ),
        (
            {"support": {"conv1": [0]}, "axis": "output_filters"},
            "axis must be 'input_channels' with a support, got 'output_filters'",
        ),
        ({"solver": Accelerated()}, "solver must be another one with activation 'none', got Acc"),
        (
            {"solver": ClosedForm(), "activation": "relu"},
            "solver must be another one with activation 'relu', got ClosedForm",
        ),
    ],
)
def test_unknown_choices_are_refused(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        fsc.CrossDistillation(**arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="objective must be an objective .* got 'soft'"):
        fsc.CrossDistillation("soft")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="support must map names of layers to seq.* got .*: 5"):
        fsc.CrossDistillation(support={"conv1": 5})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="solver must be one of fsc.solvers.* got 'adam'"):
        fsc.CrossDistillation(solver="adam")  # type: ignore[arg-type]


def test_inputs_cross_only_at_the_named_layers() -> None:
    teacher, images = chain(torch.float64), _images(16, torch.float64)

    def student(objective: objectives.Objective, **settings: object) -> dict[str, torch.Tensor]:
        method = fsc.CrossDistillation(objective, **settings)
        return fsc.compress(teacher, images, method=method, scheme=SCHEME).student.state_dict()

    nowhere, everywhere = student(fsc.Soft(), crossing=[]), student(fsc.Soft())
    apart, one = student(fsc.Estimation()), student(fsc.Soft(), crossing=["conv4"])
    assert all(torch.equal(nowhere[name], apart[name]) for name in apart)
    assert torch.equal(one["conv3.weight"], apart["conv3.weight"])
    assert not torch.equal(one["conv4.weight"], apart["conv4.weight"])
    assert not torch.equal(one["conv4.weight"], everywhere["conv4.weight"])
    with pytest.raises(ValueError, match="crossing must name convolutions or Linears .* got 'x'"):
        student(fsc.Soft(), crossing=["x"])
    with pytest.raises(TypeError, match="crossing must be a collection of names, got 'conv4'"):
        fsc.CrossDistillation(crossing="conv4")


def test_noise_on_features_is_drawn_from_the_seed() -> None:
    teacher, images = chain(), _images(16)
    method = fsc.CrossDistillation(noise=0.2)
    first, again, other = (
        fsc.compress(teacher, images, method=method, scheme=SCHEME, seed=seed).student.state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv4.weight"], other["conv4.weight"])
    with pytest.raises(ValueError, match="noise must be finite and at least 0, got -1"):
        fsc.CrossDistillation(noise=-1)

"""Every kind of layer by its moments: what it is as a convolution, and what is solved for it."""

import itertools

import pytest
import torch
from kinds import every_kind
from torch import Tensor, nn

import fsc
from fsc.layers.form import Form
from fsc.layers.grouped_moments import GroupedMoments
from fsc.layers.layer_problem import Plan, Pose, Solution, all_channels
from fsc.layers.moments import Moments
from fsc.layers.posing import problem_of
from fsc.schemes import Scheme
from fsc.solvers import Accelerated, ClosedForm, Proximal
from fsc.solvers.patch import Patch

DOUBLE = {"dtype": torch.float64}
# A layer and the shape of what it reads; few values, so that every column can be written out.
KINDS = {
    "linear": (nn.Linear(5, 3), (40, 5)),
    "linear on tokens": (nn.Linear(5, 3), (3, 2, 7, 5)),
    "rows": (nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), (5, 4, 21)),
    "rows, same": (nn.Conv1d(4, 3, 4, padding="same", bias=False), (5, 4, 11)),
    "depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4), (3, 4, 7, 6)),
    "depthwise twice": (nn.Conv2d(3, 6, (2, 3), stride=2, groups=3, bias=False), (3, 3, 9, 9)),
    "depthwise, dilated": (nn.Conv2d(3, 3, 3, padding=2, dilation=2, groups=3), (3, 3, 7, 6)),
    "grouped": (nn.Conv2d(4, 6, 3, stride=(2, 1), padding=1, groups=2), (3, 4, 9, 6)),
    "uneven padding": (nn.Conv2d(4, 2, 2, padding="same"), (3, 4, 5, 6)),
    "reflecting": (nn.Conv2d(4, 2, 3, padding=(1, 0), padding_mode="reflect"), (4, 4, 7, 6)),
    "circular": (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular", groups=2), (3, 4, 5, 6)),
    "volumes": (nn.Conv3d(2, 4, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1), dilation=(1, 1, 2)),
                (3, 2, 4, 5, 7)),
    "volumes, grouped": (nn.Conv3d(4, 4, 2, padding=1, groups=2), (3, 4, 3, 3, 3)),
    "transposed": (nn.ConvTranspose2d(3, 2, (4, 3), stride=2, padding=(1, 0), dilation=(1, 2),
                                      output_padding=1), (4, 3, 4, 4)),
    "transposed, grouped": (nn.ConvTranspose2d(4, 6, 3, stride=3, groups=2), (3, 4, 3, 3)),
    "transposed, depthwise": (nn.ConvTranspose2d(3, 3, 2, stride=2, groups=3), (3, 3, 4, 4)),
    "transposed, cut off": (nn.ConvTranspose2d(2, 3, 1, stride=2, padding=1), (4, 2, 5, 5)),
    "transposed rows": (nn.ConvTranspose1d(4, 6, 4, stride=3, padding=1, groups=2), (5, 4, 7)),
    "transposed volumes": (nn.ConvTranspose3d(2, 3, 2, stride=2, bias=False), (3, 2, 3, 2, 3)),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, Tensor]:
    """A layer, its input in the teacher and in the student."""
    layer, shape = KINDS[request.param]
    torch.manual_seed(0)
    teacher = torch.randn(shape, **DOUBLE)
    return layer.double(), teacher, teacher + 0.3 * torch.randn(shape, **DOUBLE)


def _rows(layer: nn.Module, output: Tensor) -> Tensor:
    """What a layer gives, one row an output channel."""
    return output.movedim(-1 if isinstance(layer, nn.Linear) else 1, 0).flatten(1)


def _columns(layer: nn.Module, features: Tensor) -> Tensor:
    """What each single weight sees, written out by setting all others to zero, [weights, R]."""
    weight, bias = layer.weight.detach().clone(), layer.bias
    found = []
    with torch.no_grad():
        if bias is not None:
            kept_bias = bias.clone()
            bias.zero_()
        for index in itertools.product(*(range(size) for size in weight.shape)):
            layer.weight.zero_()
            layer.weight[index] = 1
            found.append(_rows(layer, layer(features)).sum(0))
        layer.weight.copy_(weight)
        if bias is not None:
            bias.copy_(kept_bias)
    return torch.stack(found)


def _owners(layer: nn.Module) -> Tensor:
    """The output channel that each single weight belongs to, [weights]."""
    shape, groups = layer.weight.shape, getattr(layer, "groups", 1)
    owners = torch.arange(shape[0]).view(-1, *[1] * (len(shape) - 1)).expand(shape)
    if getattr(layer, "transposed", False):
        own = torch.arange(shape[1] * groups).view(groups, 1, -1)
        own = own.expand(-1, shape[0] // groups, -1).flatten(0, 1)
        owners = own.view(*own.shape, *[1] * (len(shape) - 2)).expand(shape)
    return owners.flatten()


def _solved(
    layer: nn.Module, teacher: Tensor, student: Tensor, damping: float = 1e-10
) -> tuple[Form, Solution]:
    form = Form(layer)
    image = form.image(teacher[:1])
    pixels = Patch.of_group(form.convolution).num_columns((image.shape[2], image.shape[3]))
    pose = Pose(form.convolution, fsc.Estimation(), "none", len(teacher) * pixels)
    problem = problem_of(pose, ClosedForm(damping=damping), None)
    for piece in form.pieces(teacher):
        problem.accumulate(form.image(teacher[piece]), form.image(student[piece]), None)
    with torch.no_grad():
        return form, problem.solve(Plan(all_channels(form.convolution)))


def test_every_layer_is_a_convolution(kind: tuple[nn.Module, Tensor, Tensor]) -> None:
    layer, features, _ = kind
    form = Form(layer)
    found = _rows(form.convolution, form.convolution(form.image(features)))
    torch.testing.assert_close(found, _rows(layer, layer(features)))
    assert torch.equal(form.weight(form.convolution.weight), layer.weight)


def test_the_closed_form_is_least_squares_on_the_columns(
    kind: tuple[nn.Module, Tensor, Tensor],
) -> None:
    layer, teacher, student = kind
    form, solution = _solved(layer, teacher, student)
    columns, owners = _columns(layer, student), _owners(layer)
    target = _rows(layer, layer(teacher))  # [C_out, R]
    weight = form.weight(solution.weight).flatten()
    for channel, wanted in enumerate(target):
        own = columns[owners == channel]
        if layer.bias is not None:
            own = torch.cat([own, torch.ones(1, own.shape[1], **DOUBLE)])
        expected = torch.linalg.lstsq(own.T, wanted[:, None], driver="gelsd").solution[:, 0]
        found = weight[owners == channel]
        if layer.bias is not None:
            found = torch.cat([found, solution.bias[channel : channel + 1]])
        torch.testing.assert_close(found @ own, expected @ own, rtol=1e-5, atol=1e-6)
        assert abs(solution.error) < solution.error_before


def test_nothing_to_recover_keeps_the_weight(kind: tuple[nn.Module, Tensor, Tensor]) -> None:
    layer, teacher, _ = kind
    form, solution = _solved(layer, teacher, teacher, damping=15.0)
    torch.testing.assert_close(form.weight(solution.weight), layer.weight)
    if layer.bias is not None:
        torch.testing.assert_close(solution.bias, layer.bias)


@pytest.mark.parametrize("solver", [Accelerated(tolerance=0), Proximal(steps=300)], ids=str)
@pytest.mark.parametrize("name", ["depthwise", "grouped", "rows", "volumes", "transposed"])
def test_steps_lower_the_relu_objective_of_every_kind(
    name: str, solver: Accelerated | Proximal
) -> None:
    layer, shape = KINDS[name]
    layer.double()
    teacher = torch.randn(shape, **DOUBLE)
    student = teacher + 0.3 * torch.randn(shape, **DOUBLE)
    form = Form(layer)
    image = form.image(teacher)
    pixels = Patch.of_group(form.convolution).num_columns((image.shape[2], image.shape[3]))
    pose = Pose(form.convolution, fsc.Estimation(), "relu", len(teacher) * pixels)
    done: list[int] = []
    problem = problem_of(pose, solver, None, done.append)
    problem.accumulate(image, form.image(student), None)
    with torch.no_grad():
        solution = problem.solve(Plan(all_channels(form.convolution)))
    assert solution.error < solution.error_before
    assert isinstance(solver, Accelerated) or done[-1] == 300


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_moments_of_groups_are_blocks_of_those_of_the_layer(dtype: torch.dtype) -> None:
    layer = nn.Conv2d(6, 6, 3, padding=1, groups=3)
    teacher, student = torch.randn(2, 4, 6, 5, 5, dtype=dtype)
    patch = Patch.of_group(layer)
    whole = Moments(Patch(6, (3, 3), padding=(1, 1)))
    whole.accumulate(teacher, student)
    parts = [GroupedMoments(patch, 3), GroupedMoments(patch, 3)]
    for part, images in zip(parts, (slice(0, 1), slice(1, 4)), strict=True):
        part.accumulate(teacher[images], student[images])
        part.accumulate(teacher[:0], student[:0])
    total = parts[0] + parts[1]
    assert total.num_images == 4
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {}
    for name in ("gram_student", "gram_cross", "gram_teacher"):
        blocks = getattr(whole, name).unflatten(0, (3, 18)).unflatten(2, (3, 18))
        for group, found in enumerate(getattr(total, name)):
            torch.testing.assert_close(found[:18, :18], blocks[group, :, group], **tolerance)
            torch.testing.assert_close(float(found[18, 18]), 4 * 25.0)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_columns_leave_what_they_do_not_decide(count: int) -> None:
    layer = nn.Conv2d(4, 4, 3, padding=1, groups=4).double()
    teacher = torch.randn(count, 4, 1, 2, **DOUBLE)
    _, solution = _solved(layer, teacher, torch.zeros_like(teacher), damping=15.0)
    torch.testing.assert_close(solution.weight, layer.weight.detach())
    assert solution.error < solution.error_before


def test_what_carries_nothing_goes_from_every_group() -> None:
    layer = nn.Conv2d(8, 4, 3, groups=2).double()
    teacher = torch.randn(6, 8, 5, 5, **DOUBLE)
    form = Form(layer)
    problem = problem_of(Pose(layer, fsc.Estimation(), "none", 54), ClosedForm(), None)
    problem.accumulate(form.image(teacher), teacher, None)
    with torch.no_grad():
        solution = problem.solve(Plan(torch.tensor([0, 2, 3, 4, 6, 7])))
    assert not solution.weight[:, 1].any() and solution.weight[:, [0, 2, 3]].all()


UNPRUNED, HALF = Scheme("all", {"first": 8}), Scheme("half", {"first": 4})
METHODS = [
    fsc.CrossDistillation(fsc.Estimation()),
    fsc.CrossDistillation(),
    fsc.CrossDistillation(fsc.Estimation(), noise=0.01),
    fsc.CrossDistillation(fsc.Estimation(), activation="relu"),
    fsc.CrossDistillation(fsc.Estimation(), Proximal(steps=30)),
    fsc.FSKD(solve_on=20),
]


def _gap(teacher: nn.Module, student: nn.Module, images: Tensor) -> float:
    with torch.no_grad():
        return float((teacher(images) - student(images)).square().sum())


def test_a_network_of_every_kind_keeps_the_teacher_where_nothing_went() -> None:
    teacher, images = every_kind(torch.float64), torch.randn(6, 3, 8, 8, **DOUBLE)
    result = fsc.compress(teacher, images, method=METHODS[0], scheme=UNPRUNED)
    torch.testing.assert_close(result.student(images), teacher(images))
    solved = ["grouped", "depthwise", "up", "volume", "rows", "tokens"]
    assert [layer.name for layer in result.report.layers] == solved
    for name in (*solved, "norm"):
        found = result.student.get_submodule(name).state_dict()
        for key, tensor in teacher.get_submodule(name).state_dict().items():
            torch.testing.assert_close(found[key], tensor, msg=f"{name}.{key}")


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_drift_behind_a_pruned_layer_is_solved_for(method: fsc.methods.Method) -> None:
    teacher, images = every_kind(), torch.randn(24, 3, 8, 8)
    result = fsc.compress(teacher, images, method=method, scheme=HALF)
    l1 = fsc.compress(teacher, images, method=fsc.L1Norm(), scheme=HALF).student
    assert _gap(teacher, result.student, images) < 0.9 * _gap(teacher, l1, images)
    assert torch.equal(result.student.head.weight, teacher.head.weight)


@pytest.mark.parametrize("method", METHODS[:2], ids=str)
def test_every_kind_depends_neither_on_batches_nor_on_memory(method: fsc.methods.Method) -> None:
    teacher, images = every_kind(torch.float64), torch.randn(7, 3, 8, 8, **DOUBLE)
    whole = fsc.compress(teacher, images, method=method, scheme=HALF).student
    pieces = fsc.compress(
        teacher, images, method=method, scheme=HALF, batch_size=2, memory_budget=0
    ).student
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(pieces.state_dict()[name], tensor, rtol=0, atol=1e-9)


def test_volumes_are_taken_up_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, shape = KINDS["volumes"]
    teacher = torch.randn(shape, **DOUBLE)
    whole = _solved(layer.double(), teacher, 2 * teacher)[1]
    monkeypatch.setattr("fsc.layers.form._PIECE", 1)
    assert len(list(Form(layer).pieces(teacher))) == len(teacher)
    pieces = _solved(layer, teacher, 2 * teacher)[1]
    torch.testing.assert_close(pieces.weight, whole.weight)
    assert pieces.error == pytest.approx(whole.error)


def test_what_mixes_nothing_linearly_has_no_form() -> None:
    with pytest.raises(ValueError, match="layer must be a convolution or Linear, got ReLU"):
        Form(nn.ReLU())

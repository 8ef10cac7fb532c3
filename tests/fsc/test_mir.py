import copy

import pytest
import torch
from networks import chain
from torch import nn

import fsc
from fsc.schemes import Scheme

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})


def _run(method: fsc.MiR, seed: int = 0) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(3)
    teacher, images = chain(), torch.randn(12, 3, 8, 8)
    result = fsc.compress(teacher, images, method=method, scheme=SCHEME, seed=seed)
    return teacher, result.student


@pytest.mark.parametrize("features", ["before", "after"])
def test_features_come_closer_and_the_head_stays(features: str) -> None:
    teacher, student = _run(fsc.MiR(features, steps=60, batch_size=8))
    _, barely = _run(fsc.MiR(features, steps=1, learning_rate=1e-9))
    assert torch.equal(student.head.weight, teacher.head.weight)
    assert torch.equal(student.head.bias, teacher.head.bias)
    images = torch.randn(12, 3, 8, 8)
    images = torch.cat([images, images.flip(3)])
    with torch.no_grad():
        gap = {
            name: (model(images) - teacher(images)).square().mean()
            for name, model in (("trained", student), ("barely", barely))
        }
    assert gap["trained"] < gap["barely"]
    assert student.conv1.out_channels == 4 and not student.training


def test_batch_statistics_are_taken_up() -> None:
    teacher, student = _run(fsc.MiR(steps=3))
    assert student.bn1.num_batches_tracked == teacher.bn1.num_batches_tracked + 3


def test_the_seed_decides_and_the_teacher_is_left_alone() -> None:
    torch.manual_seed(3)
    teacher, images = chain(), torch.randn(12, 3, 8, 8)
    before = copy.deepcopy(teacher.state_dict())
    students = [
        fsc.compress(
            teacher, images, method=fsc.MiR(steps=5, batch_size=4), scheme=SCHEME, seed=seed
        ).student
        for seed in (0, 0, 1)
    ]
    assert torch.equal(students[0].conv2.weight, students[1].conv2.weight)
    assert not torch.equal(students[0].conv2.weight, students[2].conv2.weight)
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_layout_of_the_teacher_comes_back() -> None:
    """It trains with channels last on a CPU, which is faster."""
    torch.manual_seed(3)
    for layout in (torch.contiguous_format, torch.channels_last):
        teacher, images = chain().to(memory_format=layout), torch.randn(12, 3, 8, 8)
        method = fsc.MiR(steps=2, batch_size=4)
        student = fsc.compress(teacher, images, method=method, scheme=SCHEME).student
        assert teacher.conv2.weight.is_contiguous(memory_format=layout)
        assert student.conv2.weight.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("method", [fsc.MiR("before", steps=2), fsc.MiR("after", steps=2)])
def test_a_network_that_views_its_values_in_the_usual_order(method: fsc.MiR) -> None:
    """As LeNet does: its last convolution does not run with channels last in front of a view."""

    class LeNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3)
            self.c, self.d = nn.Linear(8 * 4, 10), nn.Linear(10, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in (self.a, self.b):
                x = nn.functional.max_pool2d(layer(x).relu(), 2)
            return self.d(self.c(x.view(x.size(0), -1)).relu())

    torch.manual_seed(3)
    teacher, images = LeNet(), torch.randn(8, 3, 14, 14)
    report = fsc.compress(teacher, images, method=method).report
    assert report.flops <= 0.5 * report.flops_teacher


@pytest.mark.parametrize("pixels", [2, 3])  # of a side: 4 tokens of 8 channels, or 9
def test_channels_of_tokens_stand_on_the_last_axis(pixels: int) -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 1)
            self.head = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.b(self.a(x).relu()).flatten(2).transpose(1, 2)).mean(1)

    torch.manual_seed(3)
    teacher, images = Tokens(), torch.randn(8, 3, pixels + 2, pixels + 2)
    method = fsc.MiR(steps=20, learning_rate=0.1)
    result = fsc.compress(teacher, images, method=method, pruning_ratio=0.5)
    assert result.student.head.in_features == 4
    assert result.report.distance < result.report.distance_start


def test_features_that_something_else_joins_behind_the_pooling() -> None:
    """As of an image and what is known of it: the head's input is compared, there is no other."""

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
            self.known, self.head = nn.Linear(4, 16), nn.Linear(32, 5)

        def forward(self, image: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
            pooled = self.b(self.a(image).relu()).relu().mean((2, 3))
            return self.head(torch.cat([pooled, self.known(known).relu()], 1))

    torch.manual_seed(3)
    inputs = torch.randn(6, 3, 12, 12), torch.randn(6, 4)
    result = fsc.compress(Joined(), inputs, method=fsc.MiR("before", steps=20))
    assert result.report.distance < result.report.distance_start


def test_progress_counts_what_the_teacher_gives_and_every_step() -> None:
    done: list[tuple[str, int, int]] = []
    fsc.compress(
        chain(),
        torch.randn(5, 3, 8, 8),
        method=fsc.MiR(steps=7, batch_size=2, max_retries=0),
        scheme=SCHEME,
        batch_size=4,
        progress=lambda *event: done.append(event),
    )
    before = [("preparing images, image", images, 10) for images in (4, 8, 10)]  # mirrored ones too
    assert done == before + [("mimicking features, step", step, 7) for step in range(1, 8)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"features": "during"}, "features must be before or after, got 'during'"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be finite and above 0, got 0.0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"max_retries": -1}, "max_retries must be at least 0, got -1"),
        ({"weight_decay": -1.0}, "weight_decay must be finite and at least 0, got -1.0"),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        fsc.MiR(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("features", ["before", "after"])
def test_a_scheme_that_narrows_the_features_compares_those_that_stay(features: str) -> None:
    teacher, images = chain(), torch.randn(16, 3, 8, 8)
    scheme = Scheme("last", {"conv4": 3})
    method = fsc.MiR(features, steps=40)  # type: ignore[arg-type]
    result = fsc.compress(teacher, images, method=method, scheme=scheme)
    assert result.student.conv4.out_channels == result.student.head.in_features == 3
    rows = result.report.kept["conv4"]
    assert torch.equal(result.student.head.weight, teacher.head.weight[:, rows])
    closer = result.report.distance <= result.report.distance_start
    assert closer or any("farther from the teacher" in text for text in result.report.warnings)
    assert closer or features == "after"  # 16 rows of features are little to learn from


def test_features_that_are_pooled_in_front_of_another_layer() -> None:
    body = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 10, 1), nn.ReLU(), nn.Flatten(), nn.Linear(10, 4)]
    teacher, images = nn.Sequential(*body, *head).eval(), torch.randn(8, 3, 8, 8)
    scheme = Scheme("half", {"0": 4, "3": 3, "6": 5})
    student = fsc.compress(teacher, images, method=fsc.MiR(steps=3), scheme=scheme).student
    assert (student[3].out_channels, student[6].in_channels, student[9].in_features) == (3, 3, 5)


def test_a_network_with_versions_of_its_own_starts_again() -> None:
    class Versioned(nn.Sequential):
        _version = 2

        def _load_from_state_dict(self, state, prefix, metadata, *rest) -> None:
            assert metadata.get("version") == 2
            super()._load_from_state_dict(state, prefix, metadata, *rest)

    teacher = Versioned(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    teacher.append(nn.Linear(8, 4)).eval()
    method, scheme = fsc.MiR("after", steps=2), Scheme("half", {"0": 4})
    result = fsc.compress(teacher, torch.randn(8, 3, 8, 8), method=method, scheme=scheme)
    assert result.student[0].out_channels == 4


def test_a_frozen_teacher_is_mimicked_and_its_student_is_frozen_too() -> None:
    teacher, images = chain().requires_grad_(False), torch.randn(8, 3, 8, 8)
    student = fsc.compress(teacher, images, method=fsc.MiR(steps=3), scheme=SCHEME).student
    assert not torch.equal(student.conv4.weight, teacher.conv4.weight[:, :6])
    assert not any(parameter.requires_grad for parameter in student.parameters())

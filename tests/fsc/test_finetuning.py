"""Back-propagation after compression, and BatchNorm's statistics anew."""

import numpy as np
import pytest
import torch
from networks import chain
from torch import nn

import fsc
from fsc import schemes
from fsc.training.finetuning import FineTuning, recalibrate_batch_norm

torch.manual_seed(0)
IMAGES = torch.randn(20, 3, 12, 12)
LABELS = torch.randint(4, (20,))


@pytest.fixture
def sparse_student():
    scheme = schemes.sparse(chain(), 0.9)
    return fsc.compress(chain(), IMAGES, method=fsc.L1Norm(), scheme=scheme).student


def loss(model):
    return nn.functional.cross_entropy(model(IMAGES), LABELS).item()


def test_sparsity_is_the_same_before_and_after(sparse_student):
    before = {name: p.detach().clone() for name, p in sparse_student.named_parameters()}
    done = []
    tuned = FineTuning(epochs=5, learning_rate=0.05, batch_size=8).run(
        sparse_student, IMAGES, LABELS, progress=lambda *event: done.append(event)
    )
    for name, parameter in tuned.named_parameters():
        assert torch.equal(sparse_student.get_parameter(name), before[name])
        if name.endswith("weight") and parameter.dim() == 4:
            assert torch.equal(parameter == 0, before[name] == 0)
            assert not torch.equal(parameter, before[name])
    assert loss(tuned) < loss(sparse_student)
    assert done[-1] == ("epoch", 5, 5) and not tuned.training


def test_a_frozen_student_has_nothing_to_train():
    said = "student must have parameters that require gradients, got none"
    with pytest.raises(ValueError, match=said):
        FineTuning(epochs=1).run(chain().requires_grad_(False), IMAGES, LABELS)


def test_same_seed_gives_the_same_bits(sparse_student):
    tuning = FineTuning(epochs=2, batch_size=8)
    first, again, other = (tuning.run(sparse_student, IMAGES, LABELS, seed=s) for s in (0, 0, 1))
    assert all(map(torch.equal, first.state_dict().values(), again.state_dict().values()))
    assert not all(map(torch.equal, first.state_dict().values(), other.state_dict().values()))


def test_a_seed_of_numpy_is_the_same_seed(sparse_student):
    tuning = FineTuning(epochs=np.int64(1), learning_rate=np.float32(0.5), batch_size=np.int64(8))
    found = tuning.run(sparse_student, IMAGES, LABELS.to(torch.uint16), seed=np.int64(3))
    expected = FineTuning(epochs=1, learning_rate=0.5, batch_size=8)
    expected = expected.run(sparse_student, IMAGES, LABELS, seed=3)
    assert all(map(torch.equal, found.state_dict().values(), expected.state_dict().values()))


class TenAtOnce(nn.Module):
    """Its forward has the number of images written into it."""

    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(432, 4)

    def forward(self, x):
        if not x.isfinite().all() or len(x) != 10:
            raise ValueError(f"ten at once, not {len(x)}")
        return self.head(self.norm(x).reshape(10, 432))


def test_networks_that_take_a_fixed_number_of_images():
    FineTuning(epochs=1, batch_size=10).run(TenAtOnce(), IMAGES, LABELS)
    found = recalibrate_batch_norm(TenAtOnce(), IMAGES, batch_size=np.int64(10))
    assert not torch.equal(found.norm.running_mean, torch.zeros(3))


def test_what_the_network_refuses_itself_is_not_blamed_on_batch_norm():
    with pytest.raises(ValueError, match="^ten at once, not 5$"):
        recalibrate_batch_norm(TenAtOnce(), IMAGES[:15], batch_size=10)


def test_a_refusal_tells_the_images_that_were_given():
    with pytest.raises(ValueError, match=r"got \[20, 3, 12, 12\], on which .* not 7$"):
        recalibrate_batch_norm(TenAtOnce(), IMAGES, batch_size=7)


def test_statistics_become_those_of_the_images():
    model = chain().eval()
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
    found = recalibrate_batch_norm(model, IMAGES, batch_size=20)
    inputs = found.conv1(IMAGES)
    torch.testing.assert_close(found.bn1.running_mean, inputs.mean((0, 2, 3)))
    torch.testing.assert_close(found.bn1.running_var, inputs.var((0, 2, 3)))
    assert found.bn1.momentum == model.bn1.momentum and not found.training
    for name, parameter in found.named_parameters():
        assert torch.equal(parameter, parameters[name])
    assert not torch.equal(model.bn1.running_mean, found.bn1.running_mean)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FineTuning(epochs=0), "epochs must be at least 1, got 0"),
        (lambda: FineTuning(learning_rate=0), "learning_rate must be finite and above 0, got 0"),
        (lambda: FineTuning(momentum=1), r"momentum must be in \[0, 1\), got 1"),
        (lambda: FineTuning(weight_decay=-1), "weight_decay must be finite and at least 0, got -1"),
        (lambda: FineTuning(batch_size=0), "batch_size must be at least 1, got 0"),
        (
            lambda: FineTuning().run(chain(), IMAGES, LABELS[:3]),
            r"labels must be \[20\], .* got \[3\]",
        ),
        (lambda: FineTuning().run(chain(), IMAGES, LABELS.float()), "labels must be integers, got"),
        (
            lambda: FineTuning().run(chain(), IMAGES, LABELS + 4),
            r"labels must be in \[0, 4\), got 4",
        ),
        (
            lambda: FineTuning(learning_rate=1e10).run(chain(), IMAGES, LABELS),
            "learning_rate must be small enough .*, got 10000000000.0",
        ),
        (lambda: recalibrate_batch_norm(nn.Conv2d(3, 4, 3), IMAGES), "student must have BatchNorm"),
        (lambda: recalibrate_batch_norm(chain(), IMAGES, batch_size=0), "batch_size must be at le"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


STATISTICS = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4)).eval()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: FineTuning().run(None, IMAGES, LABELS),
            TypeError,
            r"FineTuning: student must be a torch\.nn\.Module, got NoneType",
        ),
        (
            lambda: FineTuning().run(chain(), None, LABELS),
            TypeError,
            r"FineTuning: images must be a torch\.Tensor, got NoneType",
        ),
        (
            lambda: FineTuning().run(chain(), IMAGES, None),
            TypeError,
            r"FineTuning: labels must be a torch\.Tensor, got NoneType",
        ),
        (
            lambda: FineTuning().run(chain(), IMAGES, LABELS, seed="a"),
            TypeError,
            "FineTuning: seed must be an integer, got 'a'",
        ),
        (
            lambda: FineTuning().run(chain(), IMAGES[:, :1], LABELS),
            ValueError,
            r"FineTuning: images must be what forward of Chain, \(x\) takes, got \[20, 1, 12, 12\]",
        ),
        (
            lambda: recalibrate_batch_norm(None, IMAGES),
            TypeError,
            r"recalibrate_batch_norm: student must be a torch\.nn\.Module, got NoneType",
        ),
        (
            lambda: recalibrate_batch_norm(chain(), IMAGES[:, :1]),
            ValueError,
            r"recalibrate_batch_norm: images must be what forward of Chain, \(x\) takes, got",
        ),
        (
            lambda: recalibrate_batch_norm(chain(), IMAGES, batch_size="2"),
            TypeError,
            "recalibrate_batch_norm: batch_size must be an integer, got '2'",
        ),
        (
            lambda: recalibrate_batch_norm(STATISTICS, IMAGES, batch_size=19),
            ValueError,
            r"more than one value a channel in a pass, got \[1, 3, 12, 12\] in one: Expected more",
        ),
    ],
)
def test_arguments_of_another_kind_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()

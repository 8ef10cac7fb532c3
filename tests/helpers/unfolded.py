"""A network of BatchNorms, and students of it with them and without."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fsc

# What outputs of the same student may differ by, as a share.
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-12}


class Net(nn.Module):
    """Layers with a BatchNorm each: a stem, a residual block, a depthwise and a pointwise one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.inside, self.bn2 = nn.Conv2d(8, 10, 3, padding=1), nn.BatchNorm2d(10)
        self.out, self.bn3 = nn.Conv2d(10, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.depthwise, self.bn4 = nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8)
        self.pointwise, self.bn5 = nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.stem(x)))
        x = F.relu(x + self.bn3(self.out(F.relu(self.bn2(self.inside(x))))))
        x = F.relu(self.bn5(self.pointwise(F.relu(self.bn4(self.depthwise(x))))))
        return self.head(x.mean((2, 3)))


def net(dtype: torch.dtype = torch.float32) -> Net:
    """One with statistics of its own."""
    model = Net().to(dtype)
    with torch.no_grad():
        model.train()(torch.randn(32, 3, 10, 10, dtype=dtype))
    return model.eval()


def seen(dtype: torch.dtype = torch.float32) -> Tensor:
    """A few images."""
    return torch.randn(6, 3, 10, 10, dtype=dtype)


def both(teacher: nn.Module, images: object, **given: object) -> tuple[nn.Module, nn.Module]:
    """The folded student and the one with BatchNorm."""
    found = []
    for keeps in (False, True):
        torch.manual_seed(0)
        found.append(fsc.compress(teacher, images, keep_batch_norm=keeps, **given).student)
    return found[0], found[1]


def off(one: Tensor, other: Tensor) -> float:
    """How far one output is from another, as a share."""
    return float((one - other).detach().norm() / other.detach().norm())


def layers(model: nn.Module) -> list[tuple[str, type]]:
    return [(name, type(module)) for name, module in model.named_modules()]


@torch.no_grad()
def assert_unfolded(folded: nn.Module, kept: nn.Module, teacher: nn.Module, images: Tensor) -> None:
    """The same outputs from the teacher's layers, in evaluation mode."""
    assert not any(module.training for module in kept.modules())
    assert off(kept(images), folded(images)) < ROUNDING[images.dtype]
    assert layers(kept) == layers(teacher)
    assert list(kept.state_dict()) == list(teacher.state_dict())
    # Of the folded one nothing is left to fold.
    assert list(folded.state_dict()) != list(kept.state_dict())

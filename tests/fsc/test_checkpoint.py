import json

import branching
import pytest
import torch
from checkpoints import HEADER, IMAGES, thinned_resnet, with_header
from networks import small
from safetensors.torch import save_file
from torch import nn

import fsc
from fsc.networks import checkpoint
from fsc.networks.structure import match_structure


def thinned_small() -> nn.Sequential:
    """The same network with 4 channels, the normalization folded, and biases moved."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=True),
        nn.Identity(),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=4, bias=False),
        nn.Conv2d(4, 2, 1, groups=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 5),
    )


def fold_first_block(model: nn.Module) -> None:
    block = model.layer1[0]
    block.conv1.bias = nn.Parameter(torch.randn(block.conv1.out_channels))
    block.bn1 = nn.Identity()


@pytest.mark.parametrize("folded", [False, True])
def test_thinned_network_is_rebuilt_from_its_name(tmp_path, folded):
    model = thinned_resnet()
    if folded:
        fold_first_block(model)
    path = tmp_path / "new" / "student.safetensors"
    checkpoint.save(model, path, name="resnet14", metadata={"dataset": "toy", "seeds": [1, 2]})
    loaded = checkpoint.load(path)
    assert not any(m.training for m in loaded.modules())
    assert torch.equal(loaded(IMAGES), model.eval()(IMAGES))
    assert loaded.layer1[0].conv1.out_channels == 5 and loaded.layer1[0].conv2.in_channels == 5
    assert isinstance(loaded.layer1[0].bn1, nn.Identity) == folded
    header = checkpoint.read_metadata(path)
    assert len(header.pop("sha256")) == 64
    assert header == {
        "format": "fsc-2",
        "model": "resnet14",
        "num_classes": 7,
        "in_channels": 3,
        "dataset": "toy",
        "seeds": [1, 2],
    }
    assert [p.name for p in path.parent.iterdir()] == ["student.safetensors"]


def test_network_of_the_users_own(tmp_path):
    model, dense = thinned_small().eval(), small()
    path = tmp_path / "mine.safetensors"
    checkpoint.save(model, path)
    loaded = checkpoint.load(path, dense)
    assert torch.equal(loaded(IMAGES), model(IMAGES))
    assert loaded[3].groups == loaded[3].in_channels == loaded[3].out_channels == 4
    assert (loaded[4].in_channels, loaded[4].out_channels, loaded[7].in_features) == (4, 2, 2)
    assert dense[0].out_channels == 8 and isinstance(dense[1], nn.BatchNorm2d)
    with pytest.raises(ValueError, match="model must be given, because .* names no network of fsc"):
        checkpoint.load(path)


def test_double_precision_and_gradients_survive(tmp_path):
    model = small().double().eval()
    checkpoint.save(model, tmp_path / "double.safetensors")
    loaded = checkpoint.load(tmp_path / "double.safetensors", small())
    assert torch.equal(loaded(IMAGES.double()), model(IMAGES.double()))
    assert all(p.requires_grad for p in loaded.parameters())


def test_normalization_without_tensors_is_kept():
    model = nn.Sequential(nn.BatchNorm2d(3, affine=False, track_running_stats=False))
    match_structure(model, {})
    assert isinstance(model[0], nn.BatchNorm2d)


def test_views_and_tied_weights_are_saved(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model[0].bias = nn.Parameter(torch.randn(8)[::2])
    checkpoint.save(model, tmp_path / "tied.safetensors")
    loaded = checkpoint.load(
        tmp_path / "tied.safetensors", nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    )
    x = torch.randn(3, 4)
    assert torch.equal(loaded(x), model(x))


def test_a_network_of_ones_own_needs_no_name_and_no_wrapper(tmp_path):
    model = small().eval()
    checkpoint.save(nn.DataParallel(model), tmp_path / "mine.safetensors")
    for plan in (small(), nn.DataParallel(small())):
        loaded = checkpoint.load(tmp_path / "mine.safetensors", plan)
        assert torch.equal(loaded(IMAGES), model(IMAGES))


def test_sizes_of_the_header_allocate_nothing(tmp_path):
    """A terabyte of classes is claimed; the stored tensors have seven."""
    model = thinned_resnet().eval()
    path = with_header(
        tmp_path / "huge.safetensors", HEADER | {"num_classes": 2**31 - 1}, model.state_dict()
    )
    assert torch.equal(checkpoint.load(path)(IMAGES), model(IMAGES))


class Versioned(nn.Module):
    """Reads states of its first version otherwise, as torchvision's MNASNet does."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.conv(x).mean((2, 3)))

    def _load_from_state_dict(self, state, prefix, metadata, *others):
        if metadata.get("version", 1) < 2:
            raise ValueError("of the first version")
        super()._load_from_state_dict(state, prefix, metadata, *others)


def test_modules_with_versions_are_loaded(tmp_path):
    model = nn.Sequential(Versioned(), nn.BatchNorm1d(5)).eval()
    path = tmp_path / "versioned.safetensors"
    checkpoint.save(model, path, name="")
    loaded = checkpoint.load(path, nn.Sequential(Versioned(), nn.BatchNorm1d(5)))
    assert torch.equal(loaded(IMAGES), model(IMAGES))


def test_batches_that_nobody_counted_do_not_matter(tmp_path):
    model = thinned_resnet().eval()
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    path = with_header(tmp_path / "uncounted.safetensors", HEADER, state)
    assert torch.equal(checkpoint.load(path)(IMAGES), model(IMAGES))


def test_files_from_before_there_were_checksums(tmp_path):
    model = thinned_resnet().eval()
    path = tmp_path / "old.safetensors"
    header = HEADER | {"format": "fsc-1"}
    save_file(model.state_dict(), path, metadata={"fsc": json.dumps(header)})
    with pytest.warns(UserWarning, match="old.safetensors was written without a checksum"):
        assert torch.equal(checkpoint.load(path)(IMAGES), model(IMAGES))
    save_file(model.state_dict(), path, metadata={"fsc": json.dumps(HEADER)})
    with pytest.raises(ValueError, match="old.safetensors is damaged: its header holds no checksu"):
        checkpoint.load(path)


@pytest.mark.parametrize("kind", branching.NETWORKS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("method", ["l1", "cd-nc"])
def test_students_of_every_kind_come_back(kind, method, tmp_path):
    teacher, images = branching.branching(kind), torch.randn(8, 3, 12, 12)
    scheme = fsc.schemes.structured(teacher, 0.5, images[:1])
    student = fsc.compress(teacher, images, method=method, scheme=scheme).student
    checkpoint.save(student, tmp_path / "student.safetensors")
    loaded = checkpoint.load(tmp_path / "student.safetensors", branching.branching(kind))
    with torch.no_grad():
        assert torch.equal(loaded(images), student(images))

import json

import branching
import pytest
import torch
from networks import small
from safetensors.torch import save_file
from torch import nn

import fsc
from fsc import models
from fsc.networks import checkpoint, pretrained
from fsc.networks.structure import match_structure
from fsc.networks.tensor_files import write_tensors

IMAGES = torch.randn(2, 3, 32, 32)


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


def thinned_resnet() -> nn.Module:
    model = models.build("resnet14", num_classes=7)
    for block, width in ((model.layer1[0], 5), (model.layer3[1], 40)):
        first, second = block.conv1, block.conv2
        block.conv1 = nn.Conv2d(first.in_channels, width, 3, first.stride, 1, bias=False)
        block.bn1 = nn.BatchNorm2d(width)
        block.conv2 = nn.Conv2d(width, second.out_channels, 3, 1, 1, bias=False)
    model(IMAGES)
    return model


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


def test_load_refuses_what_does_not_match(tmp_path):
    path = tmp_path / "mine.safetensors"
    checkpoint.save(small(), path)
    other = nn.Sequential(nn.Conv2d(3, 8, 5), nn.Linear(8, 5))
    with pytest.raises(ValueError, match=r"^load: model must be .*mine.safetensors does not match"):
        checkpoint.load(path, other)
    with pytest.raises(ValueError, match=r"0.weight \[8, 3, 3, 3\] instead of \[8, 3, 5, 5\]"):
        checkpoint.load(path, other)


def test_a_network_of_ones_own_needs_no_name_and_no_wrapper(tmp_path):
    model = small().eval()
    checkpoint.save(nn.DataParallel(model), tmp_path / "mine.safetensors")
    for plan in (small(), nn.DataParallel(small())):
        loaded = checkpoint.load(tmp_path / "mine.safetensors", plan)
        assert torch.equal(loaded(IMAGES), model(IMAGES))


def test_save_refuses(tmp_path):
    path = tmp_path / "student.safetensors"
    message = "name must be one of resnet14, .* or left out for a network of your own, got 'mine'"
    with pytest.raises(ValueError, match=message):
        checkpoint.save(small(), path, name="mine")
    for key in ("format", "sha256"):
        with pytest.raises(ValueError, match=f"metadata must not use the key '{key}'"):
            checkpoint.save(small(), path, metadata={key: 1})
    with pytest.raises(TypeError):
        checkpoint.save(small(), path, metadata={"images": IMAGES})
    with pytest.raises(ValueError, match="left out .*, got 'vgg16' for ReLU"):
        checkpoint.save(nn.ReLU(), path, name="vgg16")
    model = small()
    with torch.no_grad():
        model[4].bias[1] = float("inf")
    with pytest.raises(ValueError, match="weights must be finite, got NaN or Inf in 4.bias"):
        checkpoint.save(model, path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file .*student.safetensors cannot be written"):
        checkpoint.save(small(), tmp_path / "file" / "student.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_load_refuses_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="checkpoint .*none.safetensors does not exist"):
        checkpoint.load(tmp_path / "none.safetensors")
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="was not written by fsc.save"):
        checkpoint.load(path)
    checkpoint.save(thinned_resnet(), path, name="resnet14")
    whole = path.read_bytes()
    for length in (0, 5, 200, len(whole) - 100):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="other.safetensors is damaged or no safetensors file"):
            checkpoint.load(path)


HEADER = {"format": "fsc-2", "model": "resnet14", "num_classes": 7, "in_channels": 3}


def with_header(path, header, state):
    write_tensors(path, state, header)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "model in the header must be one of resnet14, .* or empty, got None"),
        ({"model": "resnet15"}, "model in the header must be one of .* got 'resnet15'"),
        ({"model": ["vgg16"]}, r"model in the header must be one of .* got \['vgg16'\]"),
        ({"num_classes": None}, "num_classes in the header must be an integer from 1 .*got None"),
        ({"num_classes": "7"}, "num_classes in the header must be an integer .* got '7'"),
        ({"num_classes": 10**30}, "num_classes in the header must be an integer from 1 to 2147"),
        ({"in_channels": 0}, "in_channels in the header must be an integer from 1 .* got 0"),
        ({"in_channels": True}, "in_channels in the header must be an integer .* got True"),
    ],
)
def test_headers_made_by_hand(tmp_path, change, message):
    state = thinned_resnet().state_dict()
    for dropped in (False, True):
        header = {key: value for key, value in (HEADER | change).items()
                  if not dropped or value is not None}  # fmt: skip
        path = with_header(tmp_path / "hand.safetensors", header, state)
        with pytest.raises(ValueError, match=f"hand.safetensors: {message}"):
            checkpoint.load(path)


def test_header_that_is_too_deep(tmp_path):
    path = tmp_path / "deep.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"fsc": "[" * 100_000})
    with pytest.raises(ValueError, match="deep.safetensors is damaged"):
        checkpoint.read_metadata(path)


def test_sizes_of_the_header_allocate_nothing(tmp_path):
    """A terabyte of classes is claimed; the stored tensors have seven."""
    model = thinned_resnet().eval()
    path = with_header(
        tmp_path / "huge.safetensors", HEADER | {"num_classes": 2**31 - 1}, model.state_dict()
    )
    assert torch.equal(checkpoint.load(path)(IMAGES), model(IMAGES))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("conv1.weight", torch.zeros(())),
        ("conv1.weight", torch.zeros(0, 3, 3, 3)),
        ("conv1.weight", torch.zeros(16, 3, 3, 3, dtype=torch.int64)),
        ("bn1.weight", torch.zeros(())),
        ("bn1.running_mean", torch.zeros(5)),
        ("bn1.bias", torch.zeros(16, dtype=torch.int32)),
        ("linear.bias", torch.zeros(7, 2)),
    ],
)
def test_tensors_made_by_hand(tmp_path, key, value):
    state = thinned_resnet().state_dict() | {key: value}
    path = with_header(tmp_path / "hand.safetensors", HEADER, state)
    with pytest.raises(ValueError, match=f"hand.safetensors does not match ResNet; .*{key}"):
        checkpoint.load(path)


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


@pytest.mark.parametrize("flipped", [1, 0x20, 0xFF])
def test_a_flipped_byte_is_noticed(tmp_path, flipped):
    """Anywhere in the header, and in every hundredth place of the tensors."""
    model, path = small().eval(), tmp_path / "mine.safetensors"
    checkpoint.save(model, path, name="", metadata={"normalization": {"mean": [0.3]}})
    whole = path.read_bytes()
    begin = 8 + int.from_bytes(whole[:8], "little")
    expected = checkpoint.read_metadata(path)
    for place in [*range(8, begin), *range(begin, len(whole), 101), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= flipped
        path.write_bytes(damaged)
        try:
            loaded = checkpoint.load(path, small())
        except ValueError as error:
            assert str(path) in str(error), error
        else:  # a space that means nothing
            assert place < begin and checkpoint.read_metadata(path) == expected
            assert torch.equal(loaded(IMAGES), model(IMAGES))
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="mine.safetensors is damaged: its content has not the ch"):
        pretrained.load_pretrained(small(), path)


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


def test_save_refuses_the_name_of_another_network(tmp_path):
    with pytest.raises(ValueError, match="save: name must be that of the network, .* 'resnet20'"):
        checkpoint.save(small(), tmp_path / "student.safetensors", name="resnet20")
    with pytest.raises(FileNotFoundError, match="checkpoint must be a file, got the folder"):
        checkpoint.load(tmp_path)


def test_a_class_is_no_network_to_load_into(tmp_path):
    path = tmp_path / "net.safetensors"
    fsc.save(small().eval(), path)
    with pytest.raises(TypeError, match="^load: model must be a torch.nn.Module, got type$"):
        fsc.load(path, model=nn.Linear)

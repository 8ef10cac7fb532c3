"""What fsc.save and fsc.load refuse: other networks, other files, damage."""

import pytest
import torch
from checkpoints import HEADER, IMAGES, thinned_resnet, with_header
from networks import small
from safetensors.torch import save_file
from torch import nn

import fsc
from fsc.networks import checkpoint, pretrained


def test_load_refuses_what_does_not_match(tmp_path):
    path = tmp_path / "mine.safetensors"
    checkpoint.save(small(), path)
    other = nn.Sequential(nn.Conv2d(3, 8, 5), nn.Linear(8, 5))
    with pytest.raises(ValueError, match=r"^load: model must be .*mine.safetensors does not match"):
        checkpoint.load(path, other)
    with pytest.raises(ValueError, match=r"0.weight \[8, 3, 3, 3\] instead of \[8, 3, 5, 5\]"):
        checkpoint.load(path, other)


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


def test_save_refuses_the_name_of_another_network(tmp_path):
    with pytest.raises(ValueError, match="save: name must be that of the network, .* 'resnet20'"):
        checkpoint.save(small(), tmp_path / "student.safetensors", name="resnet20")
    with pytest.raises(FileNotFoundError, match="checkpoint must be a file, got the folder"):
        checkpoint.load(tmp_path)


def test_exported_programs_are_no_checkpoints(tmp_path):
    path = tmp_path / "student.onnx"
    path.write_bytes(b"\x08\x07\x12\x07pytorch")
    said = "checkpoint must hold weights of torch, got the ONNX file .*; give the file of the netw"
    with pytest.raises(ValueError, match=said):
        fsc.load(path)
    with pytest.raises(ValueError, match=said):
        pretrained.load_pretrained(small(), path)


def test_a_class_is_no_network_to_load_into(tmp_path):
    path = tmp_path / "net.safetensors"
    fsc.save(small().eval(), path)
    with pytest.raises(TypeError, match="^load: model must be a torch.nn.Module, got type$"):
        fsc.load(path, model=nn.Linear)

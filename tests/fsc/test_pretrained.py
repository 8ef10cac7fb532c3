import pickle

import pytest
import torch
from networks import small
from safetensors.torch import save_file
from torch import nn

from fsc import models
from fsc.networks import checkpoint

IMAGES = torch.randn(2, 3, 32, 32)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_pretrained_weights_of_others(tmp_path, nested, prefix):
    source = small().half()
    state = {prefix + key: value for key, value in source.state_dict().items()}
    state.pop(f"{prefix}1.num_batches_tracked")
    path = tmp_path / "teacher.pth"
    torch.save({"state_dict": state, "epoch": 3} if nested else state, path)
    model = small()
    assert checkpoint.load_pretrained(model, path) is model and not model.training
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value.to(model.state_dict()[key].dtype)), key
    assert model[0].weight.dtype == torch.float32


def test_pretrained_safetensors(tmp_path):
    source = small()
    save_file(source.state_dict(), tmp_path / "teacher.safetensors")
    model = checkpoint.load_pretrained(small(), tmp_path / "teacher.safetensors")
    assert torch.equal(model(IMAGES), source.eval()(IMAGES))


def test_pretrained_weights_must_match_exactly(tmp_path):
    state = small().state_dict()
    state["9.weight"] = state.pop("7.weight")
    state["0.weight"] = torch.zeros(4, 3, 3, 3)
    path = tmp_path / "teacher.pt"
    torch.save(state, path)
    model = small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    message = (
        r"teacher.pt does not match Sequential; missing: 7.weight; unexpected: 9.weight; "
        r"of another shape: 0.weight \[4, 3, 3, 3\] instead of \[8, 3, 3, 3\]$"
    )
    with pytest.raises(ValueError, match=message):
        checkpoint.load_pretrained(model, path)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(ValueError, match=r"missing: conv1.weight, .* and \d+ more; unexpected"):
        checkpoint.load_pretrained(models.build("resnet20"), path)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_that_are_not_finite(tmp_path, suffix):
    state = small().state_dict()
    state["1.running_var"][2] = float("nan")
    path = tmp_path / f"teacher.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    with pytest.raises(ValueError, match="weights must be finite, got NaN or Inf in 1.running_var"):
        checkpoint.load_pretrained(small(), path)


def test_prefix_stays_where_the_network_has_it(tmp_path):
    source = nn.Sequential()
    source.add_module("module", nn.Linear(2, 2))
    torch.save(source.state_dict(), tmp_path / "teacher.pt")
    model = nn.Sequential()
    model.add_module("module", nn.Linear(2, 2))
    checkpoint.load_pretrained(model, tmp_path / "teacher.pt")
    assert torch.equal(model.module.weight, source.module.weight)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "must hold a state dict, got list"),
        ({}, "must hold a state dict, got dict"),
        ({"0.weight": 3.0}, "must hold tensors only, got float at '0.weight'"),
    ],
)
def test_files_without_weights(tmp_path, content, message):
    torch.save(content, tmp_path / "teacher.pt")
    with pytest.raises(ValueError, match=message):
        checkpoint.load_pretrained(small(), tmp_path / "teacher.pt")


def test_damaged_pretrained_file(tmp_path):
    path = tmp_path / "teacher.pt"
    torch.save(small().state_dict(), path)
    whole = path.read_bytes()
    for content in (
        b"",
        b"not a checkpoint",
        whole[: len(whole) // 2],
        pickle.dumps(object(), protocol=2),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="teacher.pt is damaged or holds more than weights"):
            checkpoint.load_pretrained(small(), path)
    torch.save(small(), path)
    with pytest.raises(ValueError, match="teacher.pt is damaged or holds more than weights"):
        checkpoint.load_pretrained(small(), path)
    with pytest.raises(FileNotFoundError, match="checkpoint .*none.pt does not exist"):
        checkpoint.load_pretrained(small(), tmp_path / "none.pt")

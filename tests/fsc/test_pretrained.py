import pickle
import zipfile
from argparse import Namespace

import numpy as np
import pytest
import torch
from networks import small
from safetensors.torch import save_file
from torch import nn

import fsc
from fsc import models
from fsc.networks.pretrained import Sizes, load_pretrained, sizes_in

IMAGES = torch.randn(2, 3, 32, 32)


class Other(nn.Module):
    """A class that only the program that saved it knows."""


@pytest.mark.parametrize("key", [None, "model", "net", "model_state_dict", "state_dict_ema", 0])
@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model."]
)
def test_pretrained_weights_of_others(tmp_path, key, prefix):
    source = small().half()
    state = {prefix + name: value for name, value in source.state_dict().items()}
    state.pop(f"{prefix}1.num_batches_tracked")
    path = tmp_path / "teacher.pth"
    optimizer = torch.optim.SGD(source.parameters(), lr=0.1, momentum=0.9)
    around = {"epoch": 3, "optimizer": optimizer.state_dict(), "best": 93.1, "arch": "small"}
    torch.save(state if key is None else {key: state} | around, path)
    model = small()
    assert load_pretrained(model, path) is model and not model.training
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value.to(model.state_dict()[name].dtype)), name
    assert model[0].weight.dtype == torch.float32


def test_weights_of_a_network_that_was_compiled_in_part(tmp_path):
    source = nn.Sequential(nn.Linear(2, 2), torch.compile(nn.Linear(2, 2), backend="eager"))
    torch.save(source.state_dict(), tmp_path / "teacher.pt")
    model = load_pretrained(
        nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), tmp_path / "teacher.pt"
    )
    assert torch.equal(model[1].weight, source[1].weight)


def test_weights_go_into_what_is_wrapped(tmp_path):
    source = small()
    torch.save(source.state_dict(), tmp_path / "teacher.pt")
    model = load_pretrained(nn.DataParallel(small()), tmp_path / "teacher.pt")
    assert torch.equal(model.module[0].weight, source[0].weight)


def test_pretrained_safetensors(tmp_path):
    source = small()
    save_file(source.state_dict(), tmp_path / "teacher.safetensors")
    model = load_pretrained(small(), tmp_path / "teacher.safetensors")
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
        load_pretrained(model, path)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(ValueError, match=r"missing: conv1.weight, .* and \d+ more; unexpected"):
        load_pretrained(models.build("resnet20"), path)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_that_are_not_finite(tmp_path, suffix):
    state = small().state_dict()
    state["1.running_var"][2] = float("nan")
    path = tmp_path / f"teacher.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    with pytest.raises(ValueError, match="weights must be finite, got NaN or Inf in 1.running_var"):
        load_pretrained(small(), path)


def test_prefix_stays_where_the_network_has_it(tmp_path):
    source = nn.Sequential()
    source.add_module("module", nn.Linear(2, 2))
    torch.save(source.state_dict(), tmp_path / "teacher.pt")
    model = nn.Sequential()
    model.add_module("module", nn.Linear(2, 2))
    load_pretrained(model, tmp_path / "teacher.pt")
    assert torch.equal(model.module.weight, source.module.weight)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "must hold a state dict, got list"),
        ({}, "must hold a state dict, got an empty dict"),
        ({"0.weight": 3.0}, "must hold a state dict, .* got float at '0.weight'"),
        ({"epoch": 3, "model": {}}, "must hold a state dict, .* got int at 'epoch', dict at 'mod"),
        (
            {"model": {"a": torch.zeros(1)}, "ema": {"a": torch.ones(1)}, "epoch": 3},
            r"must hold one state dict, got model and ema; .*weights_only=True\)\['model'\]",
        ),
        ({"model": {"a": torch.zeros(1)}, "args": Namespace(lr=1)}, "got argparse.Namespace, whic"),
        ({"model": {"a": torch.zeros(1)}, "best": np.float64(93.1)}, r"got numpy\..*scalar, which"),
        (Other(), r"got [\w.]*test_pretrained\.Other, which is .* torch\.save\(model\.sta"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_files_without_weights_alone(tmp_path, content, message, zipped):
    path = tmp_path / "teacher.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=message) as error:
        load_pretrained(small(), path)
    assert "\n" not in str(error.value) and "weights_only=False" not in str(error.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_programs_are_no_weights(tmp_path):
    for write in (
        lambda path: torch.jit.save(torch.jit.script(small()), path),
        lambda path: torch.export.save(torch.export.export(small().eval(), (IMAGES,)), path),
    ):
        write(tmp_path / "teacher.pt2")
        with pytest.raises(ValueError, match="must hold weights, got a program of TorchScript or"):
            load_pretrained(small(), tmp_path / "teacher.pt2")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS to it; .*git lfs pull"),
        ("\n<!DOCTYPE html>\n<html></html>", "got an HTML page; take the link that downloads"),
    ],
)
def test_stand_ins_for_a_file(tmp_path, suffix, content, message):
    path = tmp_path / f"teacher.{suffix}"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_pretrained(small(), path)


def test_damaged_pretrained_file(tmp_path):
    path = tmp_path / "teacher.pt"
    torch.save(small().state_dict(), path)
    whole = path.read_bytes()
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2], whole[:-100]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="teacher.pt is damaged or no checkpoint of torch"):
            load_pretrained(small(), path)
    path.write_bytes(pickle.dumps(object(), protocol=2))
    with pytest.raises(ValueError, match="got object, which is not unpickled"):
        load_pretrained(small(), path)
    with pytest.raises(FileNotFoundError, match="checkpoint .*none.pt does not exist"):
        load_pretrained(small(), tmp_path / "none.pt")


def test_a_flipped_bit_of_a_weight_is_told(tmp_path):
    path, model = tmp_path / "weights.pt", small()
    torch.save(model.state_dict(), path)
    content = bytearray(path.read_bytes())
    value = next(iter(model.state_dict().values())).flatten()[0].numpy().tobytes()
    content[content.index(value)] ^= 1
    path.write_bytes(content)
    with pytest.warns(
        fsc.CompressionWarning, match=r"weights.pt is damaged, or .* 'weights/data/0'"
    ):
        load_pretrained(small(), path)


def test_a_file_without_tensors_comes_to_an_end(tmp_path):
    save_file({}, tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="none.safetensors does not match Sequential; missing"):
        load_pretrained(small(), tmp_path / "none.safetensors")


def test_names_of_several_lines_are_one_sentence(tmp_path):
    torch.save(small().state_dict() | {"a\nb": torch.zeros(1)}, tmp_path / "lines.pt")
    with pytest.raises(ValueError, match=r"lines.pt does not match .*unexpected: 'a\\nb'$"):
        load_pretrained(small(), tmp_path / "lines.pt")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_one_number_many_times_takes_no_memory(tmp_path, dtype):
    wide = torch.zeros(1, dtype=dtype).expand(10**12)
    torch.save(small().state_dict() | {"0.weight": wide}, tmp_path / "wide.pt")
    with pytest.raises(ValueError, match=r"wide.pt does not match .*0.weight \[1000000000000\]"):
        load_pretrained(small(), tmp_path / "wide.pt")


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda: torch.empty(8, device="meta"), "a tensor without values"),
        (lambda: torch.eye(8).to_sparse(), "a tensor of the layout torch.sparse_coo"),
    ],
)
def test_weights_that_are_not_dense(tmp_path, make, got):
    torch.save(small().state_dict() | {"1.bias": make()}, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match=f"odd.pt must hold dense weights, got {got} at '1.bias'"):
        load_pretrained(small(), tmp_path / "odd.pt")


def test_an_archive_that_unpacks_to_more_than_it_is(tmp_path):
    torch.save(small().state_dict(), tmp_path / "good.pt")
    with (
        zipfile.ZipFile(tmp_path / "good.pt") as good,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for record in good.infolist():
            bomb.writestr(record.filename, good.read(record) + bytes(100_000))
    with pytest.raises(ValueError, match="bomb.pt must hold its records as they are.*bytes packed"):
        load_pretrained(small(), tmp_path / "bomb.pt")


def test_the_sizes_of_a_checkpoint(tmp_path):
    known, path = models.build("resnet14"), tmp_path / "seven.pt"
    torch.save({"state_dict": models.build("resnet14", num_classes=7).state_dict()}, path)
    assert sizes_in(known, path) == Sizes(7, None)
    torch.save(known.state_dict(), path)
    assert sizes_in(known, path) == Sizes(None, None)
    torch.save(models.build("resnet14", in_channels=1).state_dict(), path)
    assert sizes_in(known, path) == Sizes(None, 1)
    torch.save(models.build("resnet14", 7, in_channels=1).state_dict(), path)
    assert sizes_in(known, path) == Sizes(7, 1)


def test_a_checkpoint_of_a_cut_network_has_no_sizes_of_its_own(tmp_path):
    state = models.build("resnet14").state_dict()
    for name, value in state.items():
        if name.startswith(("layer1.0.conv1", "layer1.0.bn1")) and value.ndim:
            state[name] = value[:8].clone()
    state["layer1.0.conv2.weight"] = state["layer1.0.conv2.weight"][:, :8].clone()
    torch.save(state, tmp_path / "cut.pt")
    assert sizes_in(models.build("resnet14"), tmp_path / "cut.pt") == Sizes(None, None)

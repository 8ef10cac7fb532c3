"""Every wrong input of the command line: one sentence on stderr, exit code 2, no traceback."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from fsc import models
from fsc.networks import checkpoint
from fsc.networks.tensor_files import checksum, write_tensors


def sentence(result):
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    return lines[0].removeprefix("error: ")


@pytest.fixture
def compress(fsc, tmp_path):
    """Runs `compress` with working arguments, some of them replaced."""

    def run(**replaced):
        arguments = {"model": "resnet14", "data": "digits", "method": "l1", "scheme": "res-50",
                     "shots": 1, "output": tmp_path / "out"} | replaced  # fmt: skip
        given = [(f"--{name.replace('_', '-')}", value) for name, value in arguments.items()]
        return fsc("compress", *(part for pair in given for part in pair))

    return run


def test_teacher_without_a_checkpoint(compress, monkeypatch, tmp_path):
    monkeypatch.delenv("FSC_DATA", raising=False)
    assert sentence(compress()).startswith("--checkpoint must name the weights of resnet14, or ")
    looked = f"looked for digits_resnet14*.safetensors, .pt and .pth in {tmp_path}"
    found = sentence(compress(data_root=tmp_path))
    assert f"no checkpoint of resnet14 for digits: {looked} and its folder" in found
    assert sentence(compress(data_root=tmp_path / "absent")) == (
        f"--data-root must name a folder, got {tmp_path / 'absent'}, which does not exist"
    )
    for suffix in (".pt", ".safetensors"):
        (tmp_path / f"digits_resnet14{suffix}").touch()
    found = sentence(compress(data_root=tmp_path))
    assert found.startswith("--checkpoint must say which weights of resnet14 to take, got ")
    missing = tmp_path / "no.pt"
    assert sentence(compress(checkpoint=missing)) == f"checkpoint {missing} does not exist"


def test_checkpoint_that_does_not_match_or_is_damaged(compress, teacher_file, tmp_path):
    bare = tmp_path / "bare.pt"
    torch.save(models.build("resnet14", in_channels=1).state_dict(), bare)
    found = sentence(compress(model="resnet20", checkpoint=bare))
    assert "does not match ResNet" in found and "layer1.2.conv1.weight" in found
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(teacher_file.read_bytes()[:1000])
    assert "is damaged" in sentence(compress(checkpoint=damaged))


def test_checkpoint_with_nan(compress, tmp_path):
    model = models.build("resnet14", in_channels=1)
    model.conv1.weight.data[0, 0, 0, 0] = torch.nan
    torch.save(model.state_dict(), tmp_path / "nan.pt")
    assert "NaN or Inf in conv1.weight" in sentence(compress(checkpoint=tmp_path / "nan.pt"))


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("res-51", "--scheme must be one of res-50"),
        ("vgg-50", "--scheme must be one of res-50, res-60, res-70, res-90, sparse-50"),
        ("absent.json", "scheme file absent.json does not exist"),
    ],
)
def test_scheme_that_does_not_exist_or_fit(compress, teacher_file, scheme, expected):
    assert expected in sentence(compress(scheme=scheme, checkpoint=teacher_file))


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ({"layer9.conv1": 2}, "layer 'layer9.conv1' must be one that makes channels"),
        ({"layer1.0.conv1": 17}, "must keep 1 to 16 output channels, got 17"),
        ({"layer1.0.bn1": 2}, "must be one that makes channels"),
    ],
)
def test_scheme_of_ones_own_that_does_not_fit(compress, teacher_file, tmp_path, kept, expected):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"name": "mine", "kept": kept}))
    assert expected in sentence(compress(scheme=path, checkpoint=teacher_file))


def test_fewer_images_than_asked_for(fsc, compress, on_digits, teacher_file, tmp_path):
    expected = "--shots must not exceed the 128 images of class 0, got 1000"
    assert sentence(compress(shots=1000, checkpoint=teacher_file)) == expected
    for verb in (("compare",), ("analyse",), ("grid", "--objective", "soft")):
        assert sentence(fsc(*verb, *on_digits, "--shots", 1000)) == expected
    given = ("--method", "l1", "--output", tmp_path, "--images", 1298)
    expected = "--images must lie between 1 and the 1297 images there are, got 1298"
    assert sentence(fsc("compress", *on_digits, *given)) == expected


def test_missing_and_damaged_data(compress, teacher_file, tmp_path):
    model = models.build("resnet14")
    checkpoint.save(model, tmp_path / "rgb.safetensors", name="resnet14")
    given = {"data": "cifar10", "checkpoint": tmp_path / "rgb.safetensors", "data_root": tmp_path}
    found = sentence(compress(**given))
    assert found.startswith("--data-root must name a folder with cifar-10-batches-py, ")
    assert found.endswith(f"got {tmp_path}, which holds neither, alone or in cifar10")
    (tmp_path / "cifar10_train5k.npz").write_bytes(b"no archive")
    assert "is damaged" in sentence(compress(**given))


def test_folder_that_cannot_be_written_is_found_before_any_work(fsc, on_digits, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    below = blocker / "below"
    for *arguments, flag, path in (
        ("demo", "--output", below),
        ("demo", "--output", "/proc/below"),  # in which nobody makes a file, whoever it is
        ("compress", *on_digits, "--method", "l1", "--shots", 1, "--output", below),
        ("compare", *on_digits, "--shots", 1, "--json", below / "runs.json"),
        ("compare", *on_digits, "--shots", 1, "--output", below / "figure.png"),
    ):
        assert sentence(fsc(*arguments, flag, path)).startswith(
            f"{flag} must name a place that can be written, got {path}: "
        )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_figure_of_an_unknown_kind(fsc, on_digits, tmp_path):
    result = fsc("compare", *on_digits, "--shots", 1, "--output", tmp_path / "figure.doc")
    assert "must end in .png, .pdf, .svg, got 'figure.doc'" in sentence(result)


def test_errors_leave_no_file(compress, teacher_file, tmp_path):
    compress(shots=1000, checkpoint=teacher_file)
    assert not (tmp_path / "out").exists()


def test_evaluate_of_a_folder_without_a_student(fsc, tmp_path):
    found = sentence(fsc("evaluate", tmp_path, "--data", "digits"))
    assert found.startswith(f"folder {tmp_path} must hold model.safetensors, ")
    assert found.endswith("got no network; name a file")
    (tmp_path / "cd-soft.safetensors").touch()
    found = sentence(fsc("evaluate", tmp_path, "--data", "digits"))
    assert found.endswith("got cd-soft.safetensors; name a file")


@pytest.mark.parametrize(
    ("name", "kind"), [("net.onnx", "ONNX"), ("net.ONNX", "ONNX"), ("net.pt2", "torch.export")]
)
@pytest.mark.parametrize(
    "given", [("evaluate", "--data", "digits"), ("export", "--onnx", "x.onnx")]
)
def test_programs_are_no_files_of_weights(fsc, tmp_path, name, kind, given):
    path = tmp_path / name
    path.touch()
    assert sentence(fsc(given[0], path, *given[1:])) == (
        "PATH must be a file of weights, .safetensors or .pt, or the folder that fsc compress "
        f"wrote, got {path}, a program of {kind}; give the file that it was exported from"
    )


def test_evaluate_refuses_what_it_cannot_read(fsc, teacher_file, tmp_path):
    missing = tmp_path / "no.safetensors"
    assert "does not exist" in sentence(fsc("evaluate", missing, "--data", "digits"))
    torch.save(models.build("resnet14").state_dict(), tmp_path / "plain.pt")
    plain = fsc("evaluate", tmp_path / "plain.pt", "--data", "digits")
    assert "name it with --model" in sentence(plain)
    shutil.copy(teacher_file, tmp_path / "grey.safetensors")
    colour = models.build("resnet14", in_channels=3)
    checkpoint.save(colour, tmp_path / "rgb.safetensors", name="resnet14")
    result = fsc("evaluate", tmp_path / "rgb.safetensors", "--data", "digits")
    assert sentence(result).startswith("--data must have the 3 channels")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"format": "fsc-2"}, "model in the header must be one of"),
        ({"format": "fsc-2", "model": "resnet14"}, "num_classes in the header must be an integer"),
        ({"format": "fsc-2", "model": ""}, "--model must be given"),
    ],
)
def test_evaluate_refuses_headers_made_by_hand(fsc, tmp_path, header, expected):
    path = tmp_path / "hand.safetensors"
    write_tensors(path, {"a": torch.zeros(1)}, header)
    assert expected in sentence(fsc("evaluate", path, "--data", "digits"))


@pytest.mark.parametrize(
    "stored", [[0.3], {"mean": [0.3]}, {"mean": 0.3, "std": 1.0}, {"mean": ["a"], "std": [1.0]},
               {"mean": [10**400], "std": [1.0]}, {"mean": [0.3], "std": [float("nan")]}],
)  # fmt: skip
def test_evaluate_refuses_a_normalization_made_by_hand(fsc, tmp_path, stored):
    state = models.build("resnet14", in_channels=1).state_dict()
    header = {"format": "fsc-2", "model": "resnet14", "num_classes": 10, "in_channels": 1}
    path = tmp_path / "hand.safetensors"
    header["normalization"] = stored
    header["sha256"] = checksum(state, header)
    save_file(state, path, metadata={"fsc": json.dumps(header)})
    found = sentence(fsc("evaluate", path, "--data", "digits"))
    assert "normalization in the header must hold mean and std" in found


def test_unknown_names_are_usage_errors(compress):
    for name in ("model", "data", "method"):
        result = compress(**{name: "unknown"})
        assert result.exit_code == 2 and "'unknown' is not one of" in result.stderr


@pytest.mark.parametrize("device", ["nowhere", "", "meta", "hpu", "cuda:99"])
def test_a_device_that_cannot_compute_is_found_before_any_work(fsc, on_digits, tmp_path, device):
    output = tmp_path / "out"
    for verb, arguments in (
        ("demo", ("--output", output)),
        ("compress", (*on_digits, "--method", "l1", "--shots", 1, "--output", output)),
        ("compare", (*on_digits, "--shots", 1, "--json", output / "runs.json")),
        ("evaluate", (tmp_path / "absent.safetensors", "--data", "digits")),
    ):
        found = sentence(fsc(verb, *arguments, "--device", device))
        assert found.startswith("--device must be ") and f"got {device!r}" in found
        assert len(found) < 200  # not all that torch has ever called a device
    assert not output.exists()


def test_compare_finds_what_cannot_work_before_any_evaluation(fsc, on_digits, monkeypatch):
    monkeypatch.setattr(
        "fsc.cli.evaluation.accuracy_on_test", lambda *arguments: pytest.fail("ran")
    )
    assert "got 1000" in sentence(fsc("compare", *on_digits, "--shots", 1000))

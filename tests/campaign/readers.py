"""Every kind of file that fsc reads: a good one, and what a user calls to read it."""

from __future__ import annotations

import atexit
import functools
import json
import pickle
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import image_damage
import json_damage
import numpy as np
import tensor_damage
import torch
from damage import Mutation
from image_folders import write_classes
from interruption import Interrupting
from networks import chain
from safetensors.torch import save_file

import fsc
from fsc import schemes
from fsc.images import data
from fsc.images.folder import splits
from fsc.images.preparation import Preparation
from fsc.images.sampling import FewShotSample, sample_per_class
from fsc.networks.pretrained import load_pretrained
from fsc.schemes import Scheme
from fsc.training import supervised

_SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        name: of it.
        write: into a folder: good files; the file, or a glob of those, that is to be damaged.
        read: what a user calls on the folder; what comes out can be compared.
        mutations: that are its own.
        is_sure: whether what is read must be what the good file gives, as a checksum or a way to
            do without the file makes sure.
        writes: what the call writes to, below the folder.
    """

    name: str
    write: Callable[[Path], str]
    read: Callable[[Path], Any]
    mutations: Sequence[Mutation]
    is_sure: bool = False
    writes: str | None = None


def _bits(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {key: (value.dtype, value.tolist()) for key, value in state.items()}


@functools.cache
def _teacher() -> torch.nn.Module:
    torch.manual_seed(0)
    return chain()


@functools.cache
def _images() -> torch.Tensor:
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@functools.cache
def once(write: Callable[[Path], object]) -> Path:
    """A folder with what is slow to write, made once and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="fsc-good-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write(folder)
    return folder


def _copied(write: Callable[[Path], object], folder: Path) -> None:
    shutil.copytree(once(write), folder, dirs_exist_ok=True)


def _loaded(path: Path) -> Any:
    return _bits(load_pretrained(chain(), path).state_dict())


def _write_pt(folder: Path) -> str:
    torch.save(_teacher().state_dict(), folder / "weights.pt")
    return "weights.pt"


def _write_safetensors(folder: Path) -> str:
    save_file(_teacher().state_dict(), folder / "weights.safetensors")
    return "weights.safetensors"


def _compressed(method: Any = "l1", **given: Any) -> Any:
    return fsc.compress(_teacher(), _images(), method=method, scheme=_SCHEME, **given)


def _write_student(folder: Path) -> str:
    _copied(_student_files, folder)
    return "student.safetensors"


def _student_files(folder: Path) -> None:
    """A student and its folder."""
    result = _compressed()
    fsc.save(result.student, folder / "student.safetensors")
    fsc.save_pretrained(result, folder / "student")


def _read_student(folder: Path) -> Any:
    return _bits(fsc.load(folder / "student.safetensors", _teacher()).state_dict())


def _write_folder(folder: Path) -> str:
    _copied(_student_files, folder)
    return "student/*"


def _read_folder(folder: Path) -> Any:
    return _bits(fsc.from_pretrained(folder / "student", _teacher()).state_dict())


def _solve(folder: Path) -> Any:
    method = fsc.CrossDistillation()
    return _bits(_compressed(method, journal=folder / "journal").student.state_dict())


def _write_journal(folder: Path) -> str:
    _copied(_solve, folder)
    return "journal/*"


def _mimic(folder: Path, at: int = 0) -> Any:
    # The state is kept after 50 steps.
    given = {"journal": folder / "journal", "progress": Interrupting(at)}
    result = _compressed(fsc.MiR(steps=60), **given)
    return _bits(result.student.state_dict())


def _interrupted_mimic(folder: Path) -> None:
    with suppress(KeyboardInterrupt):
        _mimic(folder, at=55)


def _write_mimic(folder: Path) -> str:
    _copied(_interrupted_mimic, folder)
    return "journal/*"


def _trained(folder: Path, epochs_told: int = 99) -> Any:
    model = chain()
    model.load_state_dict(_teacher().state_dict())

    def stop(what: str, epoch: int, total: int) -> None:
        if epoch == epochs_told:
            raise KeyboardInterrupt

    supervised.train(
        *(model, _images(), torch.tensor([0, 1, 2, 3, 0, 1])),
        epochs=3, batch_size=2, state_file=folder / "training.state", progress=stop,
    )  # fmt: skip
    return _bits(model.state_dict())


def _begun_training(folder: Path) -> None:
    with suppress(KeyboardInterrupt):
        _trained(folder, epochs_told=1)


def _write_training(folder: Path) -> str:
    _copied(_begun_training, folder)
    return "training.state"


_SCHEMES = (
    {"name": "mine", "kept": {"conv1": 4, "conv3": 6}},
    {"name": "mine", "pruning_ratio": 0.5, "ignored": ["conv1"], "style": "normal"},
    {"name": "mine", "pruning_ratio": {"conv1": 0.5, "conv2": 0.1}},
    {"name": "mine", "kind": "slimming", "pruning_ratio": 0.2},
    {"name": "mine", "kind": "sparse", "kept": {"conv1": 40}},
    {"name": "mine", "kind": "quantized", "bits": {"conv1": 2}, "activation_bits": 4},
    {"name": "mine", "kind": "blocks", "blocks": ["conv1"]},
    {"name": "mine", "kind": "decoupled", "terms": 1, "ignored": ["conv3"]},
)


def _write_scheme(folder: Path) -> str:
    (folder / "scheme.json").write_text(json.dumps(_SCHEMES[0]))
    return "scheme.json"


def another_scheme(path: Path, draw: Random) -> None:
    """A scheme of another kind, damaged too."""
    path.write_text(json.dumps(json_damage.changed(draw.choice(_SCHEMES), draw)))


def _read_scheme(folder: Path) -> Any:
    scheme = schemes.from_json(folder / "scheme.json", _teacher(), _images()[:1])
    result = fsc.compress(_teacher(), _images(), method="l1", scheme=scheme)
    return _bits(result.student.state_dict())


def _write_sample(folder: Path) -> str:
    sample_per_class(np.arange(9) % 3, 2, seed=0, dataset="digits").save(folder / "samples.json")
    return "samples.json"


def _write_pictures(folder: Path) -> str:
    for split in ("train", "val"):
        write_classes(folder / "pictures" / split, count=2)
    return "pictures/*/*/*"


def _read_pictures(folder: Path) -> Any:
    train, test = splits(folder / "pictures", Preparation(8))
    return train.decoded().tolist(), test.decoded().tolist(), train.fingerprint()


def _write_arrays(folder: Path) -> str:
    (folder / "cifar10").mkdir()
    images = np.arange(3 * 3072).astype(np.uint8).reshape(3, 32, 32, 3)
    labels, classes = np.array([0, 9, 4], dtype=np.uint8), np.array([f"c{i}" for i in range(10)])
    path = folder / "cifar10" / "cifar10_test.npz"
    np.savez(path, images=images, labels=labels, classes=classes)
    return "cifar10/cifar10_test.npz"


def _write_batches(folder: Path) -> str:
    where = folder / "cifar-10-batches-py"
    where.mkdir()
    rows = np.arange(4 * 3072).astype(np.uint8).reshape(4, 3072)
    for name, content in (
        ("batches.meta", {"label_names": [f"c{i}" for i in range(10)]}),
        ("test_batch", {"data": rows, "labels": [0, 9, 4, 4]}),
    ):
        (where / name).write_bytes(pickle.dumps(content, protocol=4))
    return "cifar-10-batches-py/*"


def _read_cifar(folder: Path) -> Any:
    split = data.load("cifar10", "test", folder)
    return split.images.tolist(), split.labels.tolist(), split.classes


KINDS = (
    Kind("checkpoint of torch", _write_pt, lambda f: _loaded(f / "weights.pt"), tensor_damage.PT),
    Kind("safetensors", _write_safetensors, lambda f: _loaded(f / "weights.safetensors"),
         tensor_damage.SAFETENSORS),
    Kind("student", _write_student, _read_student, tensor_damage.SAFETENSORS),
    Kind("folder of a student", _write_folder, _read_folder,
         (*tensor_damage.SAFETENSORS, *json_damage.ANY)),
    Kind("journal of layers", _write_journal, _solve, tensor_damage.SAFETENSORS, True, "journal"),
    Kind("journal of a training", _write_mimic, _mimic, tensor_damage.SAFETENSORS, True, "journal"),
    Kind("training", _write_training, _trained, tensor_damage.SAFETENSORS, True, "training.state"),
    Kind("scheme", _write_scheme, _read_scheme, (another_scheme,) * 8 + json_damage.ANY),
    Kind("sample", _write_sample, lambda f: FewShotSample.load(f / "samples.json"),
         json_damage.ANY),
    Kind("folder of images", _write_pictures, _read_pictures, image_damage.PICTURES),
    Kind("arrays of CIFAR", _write_arrays, _read_cifar, image_damage.ARRAYS),
    Kind("batches of CIFAR", _write_batches, _read_cifar, image_damage.BATCHES),
)  # fmt: skip
"""All but those of the command line."""

"""Arguments of the wrong kind are refused where they are given, in one sentence that names them."""

from dataclasses import fields
from typing import get_type_hints

import numpy as np
import pytest
import torch
from networks import chain
from torch import nn

import fsc
from fsc import schemes
from fsc.images.folder import ImageFolder
from fsc.images.preparation import Preparation
from fsc.layers.objectives import Convex, Soft
from fsc.methods import Alternation, JointSGD
from fsc.networks.checkpoint import read_metadata
from fsc.networks.surgery import fold_batch_norm, insert_pointwise
from fsc.solvers.accelerated import Accelerated
from fsc.solvers.closed_form import ClosedForm
from fsc.solvers.proximal import Proximal
from fsc.training.finetuning import FineTuning

SETTINGS = (
    *(Convex, Soft, ClosedForm, Proximal, Accelerated, FineTuning),
    *(fsc.BackProp, fsc.KD, fsc.FitNet, fsc.MiR, fsc.ProgressiveMiR, JointSGD),
    *(fsc.FSKD, fsc.CrossDistillation, fsc.ThiNet, fsc.ChannelPruning, fsc.Grail, Alternation),
)
# What no number, flag or text is, by the kind of the field.
WRONG = {
    int: ("an integer", ["2", 1.5, True, None, [1]]),
    float: ("a number", ["0.1", True, None, [0.1], {}]),
    float | None: ("a number", ["0.1", True, [0.1]]),
    bool: ("True or False", [1, "yes", None]),
    str: ("a text", [3, None, ["mse"]]),
}


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: each.__name__)
def test_every_number_flag_and_text_of_a_method_is_one(settings):
    hints = get_type_hints(settings)
    plain = {f.name: WRONG[hints[f.name]] for f in fields(settings) if hints[f.name] in WRONG}
    assert plain
    for name, (kind, values) in plain.items():
        for value in values:
            with pytest.raises(TypeError) as caught:
                settings(**{name: value})
            assert str(caught.value) == f"{name} must be {kind}, got {value!r}"


def test_numbers_of_other_libraries_are_numbers():
    assert fsc.MiR(steps=np.int64(3), learning_rate=np.float32(0.5)).steps == 3
    assert fsc.KD(temperature=4).temperature == 4


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: fsc.CrossDistillation(crossing=3),
            "crossing must be a collection of names, got 3",
        ),
        (lambda: Preparation(size="32"), "size must be an integer, two of them or None, got '32'"),
        (lambda: Preparation(size=1.5), "size must be an integer, two of them or None, got 1.5"),
        (lambda: Preparation(size=(1, 2, 3)), "size must be an integer, two of them or None, got"),
        (lambda: Preparation(mean=0.5), "mean must be a number for each channel, got 0.5"),
        (lambda: Preparation(std="abc"), "std must be a number for each channel, got 'abc'"),
        (lambda: ImageFolder("there", mean=0.5), "mean must be a number for each channel, got 0.5"),
        (lambda: ImageFolder(3), "path must be a path, got 3"),
        (lambda: Preparation(interpolation=3), "interpolation must be a text, got 3"),
    ],
)
def test_what_holds_several_values_is_refused_likewise(make, sentence):
    with pytest.raises(TypeError, match="^" + sentence.replace("(", r"\(")):
        make()


IMAGES = torch.randn(2, 3, 8, 8)
MODULE = r"must be a torch\.nn\.Module, got"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda p: fsc.compress(chain(), IMAGES, ignored=3), "compress: ignored must be a list of"),
        (lambda p: fsc.compress(chain(), IMAGES, method="l1", journal=3), "journal must be a path"),
        (lambda p: fsc.load(None), "load: path must be a path, got None"),
        (lambda p: fsc.load(p, model=3), f"load: model {MODULE} int"),
        (lambda p: read_metadata(3), "read_metadata: path must be a path, got 3"),
        (lambda p: fsc.from_pretrained(3), "from_pretrained: folder must be a path, got 3"),
        (lambda p: fsc.from_pretrained(p, model=3), f"from_pretrained: model {MODULE} int"),
        (lambda p: fsc.save(None, p), f"save: model {MODULE} NoneType"),
        (lambda p: fsc.save(chain(), 3), "save: path must be a path, got 3"),
        (lambda p: fsc.save(chain(), p, name=3), "save: name must be a text, got 3"),
        (lambda p: fsc.save(chain(), p, metadata=[1]), r"save: metadata must be a dict, got \[1\]"),
        (
            lambda p: fsc.save_pretrained(chain(), 3),
            "save_pretrained: folder must be a path, got",
        ),
        (
            lambda p: fsc.save_pretrained(chain(), p, measured=[1]),
            r"save_pretrained: measured must be a dict of what was measured .*, got \[1\]",
        ),
        (
            lambda p: fsc.save_pretrained(chain(), p, measured={3: 1}),
            "save_pretrained: what measured names must be a text, got 3",
        ),
        (
            lambda p: fsc.save_pretrained(chain(), p, description=3),
            "save_pretrained: description must be a text, got 3",
        ),
        (
            lambda p: fsc.save_pretrained(chain(), p, overwrite="yes"),
            "save_pretrained: overwrite must be True or False, got 'yes'",
        ),
        (lambda p: fsc.export(chain(), 3, IMAGES), "export: path must be a path, got 3"),
        (lambda p: fsc.plain(None, IMAGES), f"plain: model {MODULE} NoneType"),
        (lambda p: schemes.structured(None, 0.5, IMAGES), f"structured: model {MODULE} NoneType"),
        (lambda p: schemes.slimming(3, 0.5, IMAGES), f"slimming: model {MODULE} int"),
        (lambda p: schemes.sparse(None, 0.5), f"sparse: model {MODULE} NoneType"),
        (lambda p: schemes.sparse(chain(), 0.5, 3), "sparse: ignored must be a collection of nam"),
        (lambda p: schemes.quantized(None, 2), f"quantized: model {MODULE} NoneType"),
        (lambda p: schemes.Scheme("half", 3), "kept must be a dict, got 3"),
        (lambda p: schemes.SparseScheme("half", [3]), r"kept must be a dict, got \[3\]"),
        (lambda p: schemes.QuantizedScheme(3, {}), "name must be a text, got 3"),
        (lambda p: fsc.walk(None, chain(), IMAGES, None), f"walk: teacher {MODULE} NoneType"),
        (lambda p: insert_pointwise(3, "0", IMAGES), f"insert_pointwise: model {MODULE} int"),
        (lambda p: fold_batch_norm(None), f"fold_batch_norm: model {MODULE} NoneType"),
    ],
)
def test_networks_and_paths_of_calls_are_such(tmp_path, call, sentence):
    with pytest.raises(TypeError, match=f"^{sentence}"):
        call(tmp_path / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: chain().to("meta"), "must hold values, got conv1.weight on the meta device"),
        (lambda: nn.LazyConv2d(4, 3), "must know the sizes of its layers, got weight without; run"),
    ],
)
def test_networks_without_values_are_named(tmp_path, make, sentence):
    with pytest.raises(ValueError, match=f"^save: model {sentence}"):
        fsc.save(make(), tmp_path / "file")
    with pytest.raises(ValueError, match=f"^export: student {sentence}"):
        fsc.export(make(), tmp_path / "file.pt2", IMAGES)


def test_a_teacher_without_sizes_is_named():
    teacher = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with pytest.raises(ValueError, match="^teacher must know the sizes of its layers, got 0.w"):
        fsc.compress(teacher, IMAGES, method="l1")

"""Arguments of the wrong kind are refused where they are given, in one sentence that names them."""

from dataclasses import fields
from typing import get_type_hints

import numpy as np
import pytest

import fsc
from fsc.images.folder import ImageFolder
from fsc.images.preparation import Preparation
from fsc.layers.objectives import Convex, Soft
from fsc.methods import Alternation, JointSGD
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

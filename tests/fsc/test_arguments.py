"""Arguments of the wrong kind are refused where they are given, in one sentence that names them."""

import copy
from dataclasses import dataclass, fields
from typing import get_type_hints

import numpy as np
import pytest
import torch
from networks import chain
from torch import nn

import fsc
from fsc import schemes
from fsc.goal import Goal
from fsc.images.folder import ImageFolder
from fsc.images.preparation import Preparation
from fsc.layers.objectives import Convex, Soft
from fsc.methods import Alternation, JointSGD
from fsc.methods.journal import Journal
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


# Numbers and flags that every range has, as NumPy has them.
OWN = {int: np.int64(1), bool: np.bool_(True)}
OWN |= dict.fromkeys((float, float | None), np.float32(0.5))


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: each.__name__)
def test_numbers_of_numpy_are_those_of_python(settings):
    hints = get_type_hints(settings)
    given = {f.name: OWN[hints[f.name]] for f in fields(settings) if hints[f.name] in OWN}
    if settings in (fsc.ProgressiveMiR, JointSGD):
        del given["precondition"]  # which they refuse
    # As small as shares of norms are to be: `relative` is given, too.
    given |= {name: np.float32(2**-7) for name in given if name.endswith("learning_rate")}
    found = settings(**given)
    assert found == settings(**{name: value.item() for name, value in given.items()})
    for name, value in given.items():
        assert type(getattr(found, name)) is type(value.item()), name


def test_integers_are_left_where_numbers_are_asked_for():
    assert type(fsc.KD(temperature=4).temperature) is int


SOME = np.int64(4)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (lambda: schemes.Scheme("h", {"0": SOME}), schemes.Scheme("h", {"0": 4})),
        (lambda: schemes.SparseScheme("h", {"0": SOME}), schemes.SparseScheme("h", {"0": 4})),
        (
            lambda: schemes.QuantizedScheme("h", {"0": SOME}, SOME),
            schemes.QuantizedScheme("h", {"0": 4}, 4),
        ),
        (
            lambda: schemes.quantized(nn.Conv2d(3, 4, 3), SOME, (), SOME),
            schemes.quantized(nn.Conv2d(3, 4, 3), 4, (), 4),
        ),
        (lambda: schemes.DropBlocks(count=SOME), schemes.DropBlocks(count=4)),
        (lambda: schemes.DropBlocks(latency=np.float32(0.5)), schemes.DropBlocks(latency=0.5)),
        (lambda: schemes.Decoupling(SOME, first=np.True_), schemes.Decoupling(4, first=True)),
        (lambda: schemes.Decoupling({"0": SOME}), schemes.Decoupling({"0": 4})),
        (lambda: schemes.sparse(chain(), np.float32(0.5)), schemes.sparse(chain(), 0.5)),
        (lambda: Goal(flops=np.float32(0.5), round_to=SOME), Goal(flops=0.5, round_to=4)),
        (lambda: Goal(pruning_ratio={"a": np.float16(0.5)}), Goal(pruning_ratio={"a": 0.5})),
    ],
)
def test_schemes_and_goals_of_numpy_are_those_of_python(found, expected):
    assert found() == expected and repr(found()) == repr(expected)


@pytest.mark.filterwarnings("ignore::fsc.CompressionWarning")
@pytest.mark.parametrize(
    "given",
    [
        {"method": fsc.CrossDistillation(solver=Proximal(steps=2, momentum=np.float32(0.9)))},
        {"method": fsc.MiR(steps=np.int64(2), learning_rate=np.float32(0.01))},
        {"method": "l1", "pruning_ratio": np.float32(0.3)},
        {"method": "l1", "scheme": schemes.Scheme("half", {"conv1": np.int64(4)})},
        {"method": fsc.FSKD(), "memory_budget": np.int64(10**9), "keep_batch_norm": np.False_},
    ],
    ids=("proximal", "mir", "ratio", "scheme", "budget"),
)
def test_a_compression_takes_numbers_of_numpy(given):
    own = {"seed": np.int64(0), "batch_size": np.int64(4), "progress": False}
    assert fsc.compress(chain(), IMAGES, **own, **given).report.parameters > 0


@pytest.mark.filterwarnings("ignore::fsc.CompressionWarning")
@pytest.mark.parametrize(
    "learn",
    [
        fsc.FSKD(solve_on=0).align,
        fsc.MiR(steps=2).mimic,
        Alternation(training=fsc.KD(steps=2), rounds=1).teach,
    ],
    ids=("align", "mimic", "teach"),
)
def test_any_student_takes_numbers_of_numpy(learn):
    teacher, start = chain(), chain()
    found, expected = (
        learn(teacher, copy.deepcopy(start), IMAGES, batch_size=size, seed=seed, progress=False)
        for size, seed in ((SOME, np.int64(0)), (4, 0))
    )
    assert torch.equal(found(IMAGES), expected(IMAGES))


@pytest.mark.filterwarnings("ignore::fsc.CompressionWarning")
def test_a_journal_goes_on_with_equal_numbers(tmp_path, monkeypatch):
    given = {"images": IMAGES, "journal": tmp_path, "flops": 0.5, "progress": False}
    teacher = chain()
    method = fsc.CrossDistillation(noise=np.float32(0.5), solve_on=np.int64(5))
    fsc.compress(teacher, **given, method=method, seed=np.int64(1))
    files = sorted(path.name for path in tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", None)  # nothing is solved again
        fsc.compress(teacher, **given, method=fsc.CrossDistillation(noise=0.5, solve_on=5), seed=1)
    assert files and sorted(path.name for path in tmp_path.iterdir()) == files


def test_what_a_user_adds_to_a_method_need_not_be_readable():
    class Local:
        """No name of the module."""

    @dataclass(frozen=True)
    class Own(fsc.KD):
        local: "Local | None" = None
        elsewhere: "Elsewhere | None" = None  # noqa: F821 # as under TYPE_CHECKING
        extra: "int" = 3

    assert Own(extra=np.int64(5)) == Own(extra=5)
    for name in ("extra", "steps"):
        with pytest.raises(TypeError, match=f"^{name} must be an integer, got '5'"):
            Own(**{name: "5"})


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: fsc.CrossDistillation(crossing=3),
            "crossing must be a collection of names, got 3",
        ),
        (lambda: Preparation(size="32"), "size must be an integer, two of them or None, got '32'"),
        (lambda: Preparation(size=True), "size must be an integer, two of them or None, got True"),
        (lambda: Preparation(size=(9, 8.5)), "size must be an integer, two of them or None, got ("),
        (lambda: Preparation(size=1.5), "size must be an integer, two of them or None, got 1.5"),
        (lambda: Preparation(size=(1, 2, 3)), "size must be an integer, two of them or None, got"),
        (lambda: Preparation(mean=0.5), "mean must be a number for each channel, got 0.5"),
        (
            lambda: Preparation(mean=torch.tensor(0.5)),
            "mean must be a number for each channel, got",
        ),
        (lambda: Preparation(mean=(True, 0.5, 0.5)), "mean must be a number for each channel, got"),
        (lambda: Preparation(mean={0.5: 1}), "mean must be a number for each channel, got {0.5"),
        (lambda: Preparation(std="abc"), "std must be a number for each channel, got 'abc'"),
        (lambda: ImageFolder("there", mean=0.5), "mean must be a number for each channel, got 0.5"),
        (lambda: ImageFolder(3), "path must be a path, got 3"),
        (lambda: Preparation(interpolation=3), "interpolation must be a text, got 3"),
    ],
)
def test_what_holds_several_values_is_refused_likewise(make, sentence):
    with pytest.raises(TypeError, match="^" + sentence.replace("(", r"\(")):
        make()


@pytest.mark.parametrize(
    "given",
    [
        {"size": np.array([256, 224])},
        {"size": torch.tensor([256, 224])},
        {"size": (256.0, np.int64(224))},
        {"size": [256, 224], "mean": (each for each in (0.5, 0.25, 0.125))},
        {"size": (256, 224), "mean": torch.tensor([0.5, 0.25, 0.125]).view(3, 1, 1)},
        {"size": (256, 224), "mean": np.array([0.5, 0.25, 0.125], dtype=np.float32)},
        {"size": (256, 224), "mean": [np.float16(0.5), torch.tensor([0.25]), np.array(0.125)]},
    ],
)
def test_a_preparation_takes_whatever_holds_its_numbers(given):
    found = Preparation(**{"mean": (0.5, 0.25, 0.125)} | given)
    assert found == Preparation((256, 224), (0.5, 0.25, 0.125))
    assert {type(each) for each in (*found.size, *found.mean)} == {int, float}


def test_names_are_taken_from_whatever_holds_them():
    names = ("b", "a")
    for given in (set(names), (each for each in names), dict.fromkeys(names)):
        assert fsc.CrossDistillation(crossing=given).crossing == ("a", "b")


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

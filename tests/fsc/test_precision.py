"""Training in bfloat16: close to float32, with targets and weights that stay float32."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from interruption import Interrupting
from networks import chain
from torch import Tensor, nn

import fsc
from fsc import schemes
from fsc.layers.objectives import Estimation
from fsc.methods import lesson, schedule
from fsc.methods.schedule import Schedule
from fsc.schemes import AnyScheme, Scheme

HALF = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
LABELS = torch.tensor([0, 3, 1, 2, 3, 0, 1, 1, 2, 0])
FEW = {"steps": 12, "batch_size": 4}
METHODS: dict[str, Schedule] = {
    "bp": fsc.BackProp(learning_rate=0.02, **FEW),
    "kd": fsc.KD(learning_rate=0.02, **FEW),
    "fitnet": fsc.FitNet(learning_rate=0.02, **FEW),
    "mir": fsc.MiR(**FEW),
    "lsh": fsc.MiR(loss="mse+l1+cosine+lsh+sum", learning_rate=0.002, **FEW),
    "head": fsc.MiR(tune_head=True, **FEW),
    "crops": fsc.MiR(views="crops", batch_norm="frozen", clip_norm=1.0, **FEW),
    "progressive": fsc.ProgressiveMiR(steps_between=6, **FEW),
}

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:student is farther"),
]


def _given() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    return chain(), torch.randn(10, 3, 8, 8)


def _run(method: Schedule, **options: object) -> nn.Module:
    teacher, images = _given()
    own: AnyScheme = HALF
    if isinstance(method, fsc.ProgressiveMiR):
        own = schemes.sparse(teacher, 0.5)
    labels = LABELS if _takes_labels(method) else None
    given = {"method": method, "scheme": own, "labels": labels}
    return fsc.compress(teacher, images, **given, **options).student  # type: ignore[arg-type]


def _takes_labels(method: Schedule) -> bool:
    return getattr(method, "label_use", "none") != "none"


def _low(name: str) -> Schedule:
    return replace(METHODS[name], precision="bfloat16")


@pytest.mark.parametrize("name", METHODS)
def test_a_few_steps_end_close_to_those_in_float32(name: str) -> None:
    images = _given()[1]
    with torch.no_grad():
        exact, low = _run(METHODS[name])(images), _run(_low(name))(images)
    assert low.dtype == torch.float32 and not torch.equal(exact, low)
    assert (exact - low).square().sum() < 1e-3 * exact.square().sum()


@pytest.mark.parametrize("name", METHODS)
def test_what_the_teacher_gives_gradients_and_momentum_stay_float32(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    found: list[torch.dtype] = []
    advance = lesson.Learner.advance

    def watched(learner: lesson.Learner) -> Tensor:
        own = learner.lesson
        learner.lesson = replace(own, loss=lambda out, wanted: loss(own.loss, out, wanted))
        value = advance(learner)
        learner.lesson = own
        tensors, _ = learner.state()
        kept = [tensors[key] for key in tensors if key.startswith(("momentum", "student"))]
        seen.extend(each.dtype for each in kept if each.is_floating_point())
        seen.extend(p.grad.dtype for p in learner.body.parameters() if p.grad is not None)
        return value

    def loss(given: lesson.Loss, out: list[Tensor], wanted: list[Tensor]) -> Tensor:
        found.extend(each.dtype for each in out)
        seen.extend(each.dtype for each in wanted if each.is_floating_point())
        return given(out, wanted)

    monkeypatch.setattr(lesson.Learner, "advance", watched)
    _run(_low(name))
    assert set(seen) == {torch.float32}
    assert torch.bfloat16 in found


@pytest.mark.parametrize("name", METHODS)
def test_interrupted_and_resumed_has_the_same_bits(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_STEPS_BETWEEN_LOOKS", 4)
    whole = _run(_low(name)).state_dict()
    with pytest.raises(KeyboardInterrupt):
        _run(_low(name), journal=tmp_path, progress=Interrupting(11))
    with pytest.raises(ValueError, match=r"journal must belong .*method\.precision bfloat16, not"):
        _run(METHODS[name], journal=tmp_path)
    parts = _run(_low(name), journal=tmp_path).state_dict()
    assert all(torch.equal(value, parts[key]) for key, value in whole.items())


def test_the_training_of_the_default_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, images = _given()
    training = fsc.MiR(batch_norm="frozen", learning_rate=1e-3, **FEW)
    solving = fsc.CrossDistillation(Estimation())
    students = []
    for own in (training, replace(training, precision="bfloat16"), None):
        method = fsc.SolveThenTrain(solving, own)
        given = {"method": method, "scheme": HALF}
        students.append(fsc.compress(teacher, images, **given).student(images))  # type: ignore[arg-type]
    exact, low, solved = students
    assert not torch.equal(low, exact) and not torch.equal(low, solved)
    assert (exact - low).square().sum() < 1e-3 * exact.square().sum()


@pytest.mark.parametrize("value", ["float16", "bf16", None])
def test_other_precisions_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=f"precision must be float32 or bfloat16, got {value!r}"):
        fsc.KD(precision=value)  # type: ignore[arg-type]

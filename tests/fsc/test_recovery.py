"""Accuracy along the blocks, the first ones recovered."""

import copy

import pytest
import torch
from networks import chain
from torch import nn

import fsc
from fsc import method_names, models
from fsc.methods.aligner import Aligner
from fsc.models.preactivation_resnet import preactivation_resnet
from fsc.report.recovery import accuracy_along, partly_recovered
from fsc.schemes import Decoupling, Scheme
from fsc.training.evaluate import accuracy

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
IMAGES, LABELS = torch.randn(24, 3, 8, 8), torch.arange(24) % 4


def _before_and_after(teacher, scheme, method=None):
    methods = (fsc.L1Norm(), method or fsc.FSKD())
    return [
        fsc.compress(teacher, IMAGES[:8], method=each, scheme=scheme).student for each in methods
    ]


def _remembered(monkeypatch):
    """Copies of the student of FSKD as it is after every block."""
    stages, after_run, begin = [], Aligner.after_run, Aligner.__init__

    def beginning(self, student, *arguments):
        begin(self, student, *arguments)
        self.watched = student

    def watching(self, layer):
        given = after_run(self, layer)
        if given is not None:
            stages.append((layer.name, copy.deepcopy(self.watched)))
        return given

    monkeypatch.setattr(Aligner, "__init__", beginning)
    monkeypatch.setattr(Aligner, "after_run", watching)
    return stages


@pytest.mark.parametrize(
    ("build", "kept"),
    [(chain, SCHEME.kept), (lambda: models.build("resnet14").eval(), {"layer1.0.conv1": 9}),
     # BatchNorm stands before its convolutions there, and is taken anew on the way.
     (lambda: preactivation_resnet(11).eval(), {"layer2.0.conv2": 7})],
)  # fmt: skip
def test_it_is_the_student_that_fskd_had_on_the_way(monkeypatch, build, kept):
    torch.manual_seed(0)
    teacher = build()
    scheme = Scheme("some", kept)
    stages = _remembered(monkeypatch)
    before, after = _before_and_after(teacher, scheme, fsc.FSKD(solve_on=0))
    along = partly_recovered(before, after)
    students = {name: copy.deepcopy(student) for name, student in along}
    assert len(stages) > 3
    for name, stage in stages:
        own = students[name].state_dict()
        for key, value in stage.state_dict().items():
            assert torch.equal(value, own[key]), (name, key)


def test_it_begins_with_the_pruned_student_and_ends_with_the_recovered_one():
    teacher = chain()
    before, after = _before_and_after(teacher, SCHEME)
    told = []
    found = accuracy_along(before, after, IMAGES, LABELS, progress=lambda *a: told.append(a))
    assert [each.name for each in found] == [None, "conv1", "conv2", "conv3", "conv4", "head"]
    assert found[0].top1 == accuracy(before, IMAGES, LABELS)
    assert found[-1].top1 == accuracy(after, IMAGES, LABELS)
    assert told[0] == ("evaluating, block", 1, 6) and told[-1] == ("evaluating, block", 6, 6)


@pytest.mark.parametrize(
    "last",
    [nn.PReLU(4), nn.Conv2d(4, 4, 3, groups=4), nn.Sequential(nn.PReLU(4), nn.BatchNorm2d(4))],
)
def test_what_stands_behind_the_last_block_belongs_to_it(last):
    before = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), copy.deepcopy(last))
    after = copy.deepcopy(before)
    with torch.no_grad():
        for value in after.parameters():
            value -= 0.5
    *_, (name, student) = partly_recovered(before.eval(), after.eval())
    assert name == "2"
    torch.testing.assert_close(student(IMAGES), after(IMAGES))


def test_accuracies_of_a_case_by_hand():
    """The first block turns the answers around, the second turns them back."""

    def net(first, second):
        made = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)).eval()
        with torch.no_grad():
            made[0].weight.copy_(torch.tensor(first))
            made[1].weight.copy_(torch.tensor(second))
        return made

    same, other = [[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]
    images, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 1, 0])
    found = accuracy_along(net(same, same), net(other, other), images, labels)
    assert [(each.name, each.top1) for each in found] == [(None, 100), ("0", 0), ("1", 100)]


def test_decoupled_layers_are_blocks():
    before, after = _before_and_after(chain(), Decoupling(terms={"conv2": 1}))
    names = [name for name, _ in partly_recovered(before, after)]
    assert names[2] == "conv2.pointwise" and "conv2.depthwise" not in names


@pytest.mark.parametrize("name", method_names.BY_NORM)
def test_methods_by_the_norm_keep_the_channels_of_l1(name):
    teacher, labels = chain(), LABELS[:8] if name in method_names.WITH_LABELS else None
    given = {"scheme": SCHEME, "labels": labels}
    method = method_names.named(name, steps=1)
    recovered = fsc.compress(teacher, IMAGES[:8], method=method, **given)
    pruned = fsc.compress(teacher, IMAGES[:8], method="l1", scheme=SCHEME)
    assert recovered.report.kept == pruned.report.kept
    assert len(list(partly_recovered(pruned.student, recovered.student))) == 6


def test_students_are_not_changed():
    before, after = _before_and_after(chain(), SCHEME)
    states = [copy.deepcopy(net.state_dict()) for net in (before, after)]
    accuracy_along(before, after, IMAGES, LABELS)
    for net, state in zip((before, after), states, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_errors():
    before, after = _before_and_after(chain(), SCHEME)
    with pytest.raises(ValueError, match="recovered must differ from pruned, got the same"):
        accuracy_along(before, before, IMAGES, LABELS)
    with pytest.raises(
        ValueError,
        match=r"recovered must have the modules and channels of pruned, got \[8, 3, 3, 3\] for "
        r"\[4, 3, 3, 3\] at 'conv1.weight'",
    ):
        accuracy_along(before, chain(), IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"got none for \[4, 3, 3, 3\] at 'conv1.weight'"):
        accuracy_along(before, nn.Sequential(nn.Conv2d(3, 4, 1)), IMAGES, LABELS)

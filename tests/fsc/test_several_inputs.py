"""Images for networks that take several tensors, in whatever form users have them."""

import copy
from types import MethodType

import pytest
import torch
from any_networks import (
    IMAGES,
    MASKS,
    VALID,
    WORDS,
    OneDict,
    Optional,
    Reading,
    Sized,
    Two,
    WalkedDict,
    Words,
)
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import fsc
from fsc import schemes
from fsc.channels.proof import channel_groups
from fsc.images.joint import packed
from fsc.networks.entry import enter
from fsc.networks.joint_input import as_given, joint_of, one_input
from fsc.networks.tracing import layer_names, trace

LABELS = torch.arange(6)
READ = {"image": IMAGES, "words": WORDS, "valid": VALID}


class Named(Dataset):
    """Dicts with more than the network takes."""

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        return {
            "image": IMAGES[index],
            "mask": MASKS[index],
            "label": index,
            "file": f"{index}.png",
        }


TRIPLES = TensorDataset(IMAGES, MASKS, LABELS)


@pytest.mark.parametrize(
    ("make", "given"),
    [
        (Two, (IMAGES, MASKS)),
        (Two, {"mask": MASKS, "image": IMAGES}),
        (Two, TRIPLES),
        (Two, DataLoader(TRIPLES, batch_size=4)),
        (Two, [(IMAGES[:2], MASKS[:2]), [IMAGES[2:], MASKS[2:], LABELS[2:]]]),
        (Two, list(zip(IMAGES, MASKS, strict=True))),
        (Two, Named()),
        (Two, DataLoader(Named(), batch_size=4)),
        (OneDict, {"image": IMAGES, "mask": MASKS}),
        (OneDict, DataLoader(Named(), batch_size=4)),
        (Optional, DataLoader(Named(), batch_size=4)),
    ],
    ids=str.split(
        "tuple dict dataset loader batches pairs dicts named one_dict one_named optional"
    ),
)
def test_every_form_is_the_same_inputs(make, given):
    torch.manual_seed(0)
    network = make().eval()
    torch.manual_seed(0)
    expected = Two().eval()(IMAGES, MASKS)
    entry = enter("compress", network, given)
    assert entry.images.shape[0] == 6 and joint_of(entry.teacher) is not None
    assert torch.equal(entry.teacher(entry.images), expected)
    assert entry.given is network and type(network) is make
    assert type(as_given(entry.teacher)) is make


def test_rows_hold_every_input_exactly_and_stay_within_its_range():
    rows, joint = packed("here", READ, torch.float32)
    assert rows.shape == (6, 3 * 10 * 10 + 4 + 4) and rows.dtype == torch.float32
    args, kwargs = joint.call(rows)
    assert args == ()
    for name, value in READ.items():
        assert kwargs[name].dtype == value.dtype and torch.equal(kwargs[name], value)
    drawn = joint.call(10 * torch.randn_like(rows))[1]
    assert int(drawn["words"].min()) == int(WORDS.min())
    assert int(drawn["words"].max()) == int(WORDS.max())


def test_rows_are_made_once(monkeypatch):
    made = []

    def counted(*args):
        made.append(args)
        return packed(*args)

    monkeypatch.setattr("fsc.networks.joint_input.packed", counted)
    assert enter("compress", Two(), (IMAGES, MASKS)).images.shape == (6, 400)
    assert len(made) == 1


def test_names_of_modules_stay_and_the_network_is_as_it_was():
    network = Two().eval()
    before = copy.deepcopy(network.state_dict())
    entry = enter("compress", network, (IMAGES, MASKS))
    assert layer_names(entry.teacher, trace(entry.teacher)) == ["a", "b", "c", "head"]
    assert len([n for n in trace(entry.teacher).nodes if n.op == "placeholder"]) == 1
    student = fsc.compress(network, (IMAGES, MASKS), flops=0.6, method="fskd").student
    assert type(student) is Two and student(IMAGES, MASKS).shape == (6, 5)
    assert copy.deepcopy(student)(image=IMAGES, mask=MASKS).shape == (6, 5)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def doubled(self, image, mask):
    """A forward that somebody sets on a network."""
    return Two.forward(self, 2 * image, mask)


def test_a_forward_set_on_a_network_is_the_one_that_counts():
    network = Two().eval()
    network.forward = MethodType(doubled, network)
    expected = network(IMAGES, MASKS)
    entry = enter("compress", network, (IMAGES, MASKS))
    assert torch.equal(entry.teacher(entry.images), expected)
    assert torch.equal(copy.deepcopy(entry.teacher)(entry.images), expected)
    assert torch.equal(as_given(entry.teacher)(IMAGES, MASKS), expected)
    given = channel_groups(network, (IMAGES, MASKS))
    assert [group.name for group in given] == [
        g.name for g in channel_groups(Two(), (IMAGES, MASKS))
    ]
    student = fsc.compress(network, (IMAGES, MASKS), flops=0.6, method="fskd").student
    by_class = Two.forward(student, 2 * IMAGES, MASKS)
    assert torch.equal(student(IMAGES, MASKS), by_class)


def test_hooks_and_mode_of_the_made_network_are_its_own():
    network = Two().eval()
    made, rows = one_input("here", network, (IMAGES, MASKS))
    seen = []
    made.register_forward_hook(lambda *_: seen.append("made"))
    made.register_forward_pre_hook(lambda *_: seen.append("before"))
    made.training = True
    network(IMAGES, MASKS)
    assert seen == [] and not network.training
    made(rows)
    assert seen == ["before", "made"]


def test_students_of_rewritten_networks_are_networks_like_others(tmp_path):
    for make, args in ((WalkedDict, ({"image": IMAGES, "mask": MASKS},)), (Sized, (IMAGES, MASKS))):
        given = args[0] if make is WalkedDict else args
        result = fsc.compress(make(), given, method="l1")
        assert result.report.rewritten
        expected = result.student(*args)
        torch.save(result.student, tmp_path / "whole.pt")
        again = torch.load(tmp_path / "whole.pt", weights_only=False)
        for network in (copy.deepcopy(result.student), again):
            assert torch.equal(network(*args), expected)
        twice = fsc.compress(result.student, given, method="l1", flops=0.7)
        assert twice.student(*args).shape == expected.shape


def test_what_is_found_before_is_what_is_cut():
    network, given = Reading().eval(), READ
    found = fsc.inspect(network, given)
    assert found.inputs == [(3, 10, 10), (4,), (4,)]
    assert "multiply-accumulates for 3x10x10 and 4 and 4" in str(found)
    groups = {group.name: group for group in found.groups}
    assert groups["words"].named("writer") == ["words", "image"]
    scheme = schemes.structured(network, 0.5, given)
    assert scheme.kept == {"words": 4, "inside": 5}
    schemes.check(scheme, network, given)
    report = fsc.compress(network, given, method="l1", pruning_ratio=0.5).report
    assert {name: len(kept) for name, kept in report.kept.items()} == {
        "image": 4, "words": 4, "inside": 5
    }  # fmt: skip
    assert len(report.images.mean) == 3  # integers have no mean that says anything
    pair = schemes.structured(Two(), 0.5, (IMAGES, MASKS))
    assert pair == schemes.structured(Two(), 0.5, {"image": IMAGES, "mask": MASKS})
    assert pair.kept == schemes.structured(OneDict(), 0.5, {"image": IMAGES, "mask": MASKS}).kept
    by_type = fsc.compress(network, given, method="l1", ignored=[nn.Conv1d], flops=0.8).report
    assert set(by_type.kept) == {"inside"}


@pytest.mark.parametrize(
    "given",
    [
        WORDS,
        (WORDS,),
        {"words": WORDS},
        list(WORDS),
        DataLoader(TensorDataset(WORDS, LABELS), batch_size=4),
        TensorDataset(WORDS, LABELS),
    ],
    ids=str.split("tensor tuple dict list loader dataset"),
)
def test_one_input_may_be_integers(given):
    network = Words().eval()
    entry = enter("compress", network, given)
    assert torch.equal(entry.teacher(entry.images), network(WORDS))
    student = fsc.compress(network, given, method="l1", flops=0.7).student
    assert student(WORDS).shape == (6, 5) and student.inside.out_channels < 8
    assert fsc.inspect(network, given).inputs == [(4,)]


def test_half_precision_is_taken_in_alike_at_every_door():
    network = Reading()
    network.table = nn.Embedding(5000, 6)
    given = {"image": IMAGES, "words": WORDS + 4900, "valid": VALID}  # above what bfloat16 holds
    expected = schemes.structured(network, 0.5, given)
    network.bfloat16()
    scheme = schemes.structured(network, 0.5, given | {"image": IMAGES.bfloat16()})
    assert scheme == expected == schemes.structured(network, 0.5, given)
    schemes.check(scheme, network, given)
    assert fsc.compress(network, given, method="l1", scheme=scheme).student.inside.out_channels == 5
    for call in (schemes.structured, lambda *args: schemes.check(scheme, args[0], args[2])):
        with pytest.raises(ValueError, match=r"^(structured|check): images must hold integers"):
            call(network, 0.5, given | {"words": WORDS + 2**24})


def test_statistics_are_those_of_one_input_after_the_other():
    report = fsc.compress(Two(), (IMAGES, MASKS), method="l1").report
    means = torch.cat([IMAGES.mean((0, 2, 3)), MASKS.mean((0, 2, 3))])
    assert torch.allclose(torch.tensor(report.images.mean), means, atol=1e-6)


def test_a_journal_goes_on_with_the_same_inputs_alone(tmp_path):
    network, given = Two(), (IMAGES, MASKS)
    first = fsc.compress(network, given, journal=tmp_path, method="cd-soft").student
    again = fsc.compress(network, given, journal=tmp_path, method="cd-soft").student
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    with pytest.raises(ValueError, match="images"):
        fsc.compress(network, (IMAGES, 2 * MASKS), journal=tmp_path, method="cd-soft")


def test_a_rewritten_network_of_integers_is_loaded_again(tmp_path):
    def make():
        network = Reading()
        nn.utils.parametrizations.weight_norm(network.inside)
        return network

    teacher = make().eval()
    student = fsc.compress(teacher, READ, method="l1").student
    fsc.save(student, tmp_path / "student.safetensors")
    loaded = fsc.load(tmp_path / "student.safetensors", model=make())
    assert torch.equal(loaded(**READ), student(**READ))

"""Residual blocks: which can go, and students without them."""

import json
from pathlib import Path

import pytest
import torch
from networks import chain
from residual_networks import IMAGES, Block, Network, residual_network
from torch import Tensor, nn

import fsc
from fsc import models, schemes
from fsc.networks import tensor_files
from fsc.networks.blocks import drop_blocks, dropped_of, find_blocks
from fsc.schemes import DropBlocks

pytestmark = pytest.mark.filterwarnings("ignore::fsc.CompressionWarning")


class Skipping(Network):
    """What the first block reads is read again behind the second, which is called twice."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out = self.blocks[1](self.blocks[1](self.blocks[0](x)))
        return self.head(self.pool(out + x).flatten(1))


def _silenced(model: nn.Module, names: list[str]) -> Tensor:
    """What a network gives where the branch of each block adds nothing."""
    handles = [
        model.get_submodule(f"{name}.{last}").register_forward_hook(lambda _, x, y: 0 * y)
        for name in names
        for last in ("bn2", "conv.3", "norm")
        if any(n == f"{name}.{last}" for n, _ in model.named_modules())
    ]
    with torch.no_grad():
        scores = model(IMAGES)
    for handle in handles:
        handle.remove()
    return scores


@pytest.mark.parametrize(
    ("name", "names"),
    [
        (
            "resnet20",
            "layer1.0 layer1.1 layer1.2 layer2.1 layer2.2 layer3.1 layer3.2",
        ),
        ("mobilenetv2", " ".join(f"features.{i}" for i in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16))),
    ],
)
def test_blocks_of_known_networks(name: str, names: str) -> None:
    torch.manual_seed(0)
    model = models.build(name).eval()
    found = find_blocks(model, IMAGES[:1]).found
    assert list(found) == names.split()
    assert set(found.values()) == {"identity"}
    chosen = names.split()[:2]
    expected = _silenced(model, chosen)
    drop_blocks(model, {name: found[name] for name in chosen})
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES), expected)
    assert list(dropped_of(model)) == chosen


def test_an_activation_stays_where_the_input_has_not_been_through_it() -> None:
    model = residual_network("behind", "behind", "before", "in place", "functional")
    found = find_blocks(model, IMAGES[:1]).found
    assert list(found.values()) == [
        "activation",  # the stem gives negative values
        "identity",
        "identity",
        "activation",  # as do pre-activation blocks
        "identity",
    ]
    expected = _silenced(model, ["blocks.0", "blocks.3"])
    drop_blocks(model, {name: found[name] for name in ("blocks.0", "blocks.3")})
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES), expected)
    assert isinstance(model.blocks[0], nn.ReLU)


def test_what_cannot_go_has_a_reason() -> None:
    model = residual_network("scaled", "other function", "")
    model.blocks.append(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()))
    blocks = find_blocks(model, IMAGES[:1])
    assert list(blocks.found) == ["blocks.2"]
    assert "does not end by adding" in blocks.reasons["blocks.0"]
    assert "an activation that is no module" in blocks.reasons["blocks.1"]
    assert "changes the shape, from [1, 4, 16, 16] to [1, 4, 14, 14]" in blocks.reasons["blocks.3"]
    assert blocks.reasons["blocks"] == "module 'blocks' holds 'blocks.2', which can go by itself"


def test_an_input_that_is_read_again_and_a_block_that_is_called_twice() -> None:
    torch.manual_seed(1)
    model = Skipping(Block(4), Block(4)).eval()
    blocks = find_blocks(model, IMAGES[:1])
    assert blocks.found == {"blocks.0": "activation"}
    assert blocks.reasons["blocks.1"] == "module 'blocks.1' is called 2 times"


@pytest.mark.parametrize("method", [fsc.MiR(steps=3, learning_rate=1e-5), fsc.L1Norm()])
def test_students_without_blocks_are_saved_and_loaded(method: object, tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = models.build("resnet20").eval()
    result = fsc.compress(teacher, IMAGES, method=method, scheme=DropBlocks(count=2))
    report, student = result.report, result.student
    assert report.dropped == list(dropped_of(student)) and len(report.dropped) == 2
    assert report.kept == {} and report.scheme == "blocks-2"
    assert report.flops < report.flops_teacher and report.parameters < report.parameters_teacher
    assert dropped_of(teacher) == {}
    again = fsc.compress(
        teacher, IMAGES, method=method, scheme=DropBlocks(blocks=report.dropped)
    ).student
    for path, name in ((tmp_path / "a.safetensors", "resnet20"), (tmp_path / "b.safetensors", "")):
        fsc.save(student, path, name=name)
        loaded = fsc.load(path) if name else fsc.load(path, model=teacher)
        with torch.no_grad():
            expected = student(IMAGES)
            assert torch.equal(loaded(IMAGES), expected)
            assert torch.equal(again(IMAGES), expected)
    assert dropped_of(loaded) == dropped_of(student)


def test_a_kept_activation_is_saved_and_loaded(tmp_path: Path) -> None:
    model = residual_network("functional", "behind")
    scheme = DropBlocks(blocks=["blocks.0"])
    student = fsc.compress(model, IMAGES, method="l1", scheme=scheme).student
    assert dropped_of(student) == {"blocks.0": "activation"}
    fsc.save(student, tmp_path / "s.safetensors")
    loaded = fsc.load(tmp_path / "s.safetensors", model=model)
    with torch.no_grad():
        assert torch.equal(loaded(IMAGES), student(IMAGES))


@pytest.mark.parametrize(
    ("dropped", "sentence"),
    [
        (["layer1.0"], "must map blocks to identity or activation"),
        ({"layer1.0": "nothing"}, "must map blocks to identity or activation"),
        ({"layer9": "identity"}, "block 'layer9' must be a module of the network"),
        ({"": "identity"}, "block '' must be a module of the network"),
        ({"conv1": "identity"}, "module 'conv1' does not end by adding"),
        ({"layer2.0": "identity"}, "module 'layer2.0' does not end by adding"),
    ],
)
def test_damaged_headers_get_one_sentence(dropped: object, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    model = models.build("resnet20")
    header = {"format": "fsc-2", "model": "resnet20", "num_classes": 10, "in_channels": 3}
    tensor_files.write_tensors(path, model.state_dict(), header | {"dropped": dropped})
    with pytest.raises(ValueError, match=sentence) as caught:
        fsc.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ({}, ValueError, "exactly one of count, latency and blocks must be given, got none"),
        ({"count": 1, "latency": 0.5}, ValueError, "exactly one of .* got count=1 and latency=0.5"),
        ({"count": 0}, ValueError, "count must be at least 1, got 0"),
        ({"count": 1.5}, TypeError, "count must be an integer, got 1.5"),
        ({"latency": 1.0}, ValueError, "latency must be above 0 and below 1, got 1"),
        ({"latency": "half"}, TypeError, "latency must be a number, got 'half'"),
        ({"count": 1, "name": 3}, TypeError, "DropBlocks: name must be a text, got 3"),
        ({"blocks": "layer1.0"}, TypeError, "blocks must be a list of names, got 'layer1.0'"),
        ({"blocks": ["a", "a"]}, ValueError, "blocks must be one name or more, each once"),
    ],
)
def test_requests_are_refused(given: dict[str, object], error: type, sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        DropBlocks(**given)


def test_schemes_that_do_not_fit_are_refused() -> None:
    model = residual_network("", "scaled")
    for scheme, sentence in (
        (
            DropBlocks(count=2),
            "count must be at most 1, the blocks of the model that can go, got 2",
        ),
        (
            DropBlocks(blocks=["blocks.1"]),
            "blocks must be among blocks.0, got 'blocks.1': module 'blocks.1' does not end by",
        ),
        (DropBlocks(blocks=["head"]), "got 'head': 'head' is no module that holds layers"),
    ):
        with pytest.raises(ValueError, match=sentence):
            schemes.check(scheme, model, IMAGES[:1])
        with pytest.raises(ValueError, match=sentence):
            fsc.compress(model, IMAGES, method="l1", scheme=scheme)


def test_networks_without_blocks_are_refused() -> None:
    scheme = DropBlocks(count=1)
    with pytest.raises(ValueError, match="got none: its layers are parts of one graph"):
        schemes.check(scheme, chain(), IMAGES[:1])
    with pytest.raises(ValueError, match="got none: commonest reason, 2 times: module 'blocks.0'"):
        schemes.check(scheme, Network(nn.Sequential(nn.Conv2d(4, 4, 1))), IMAGES[:1])


@pytest.mark.parametrize("method", [fsc.FSKD(solve_on=20), fsc.CrossDistillation(), "seconds"])
def test_layerwise_methods_say_who_takes_blocks(method: object) -> None:
    with pytest.raises(ValueError, match="must keep all blocks .* MiR and L1Norm take it"):
        fsc.compress(residual_network(""), IMAGES, method=method, scheme=DropBlocks(count=1))


def test_schemes_from_files(tmp_path: Path) -> None:
    model, path = residual_network("", "before"), tmp_path / "mine.json"

    def read(**content: object) -> object:
        path.write_text(json.dumps({"name": "mine", "kind": "blocks", **content}))
        return schemes.find(path, model, IMAGES[:1])

    assert read(count=2) == DropBlocks(count=2, name="mine")
    assert read(blocks=["blocks.1"]) == DropBlocks(blocks=["blocks.1"], name="mine")
    for content, sentence in (
        ({"count": "2"}, "count must be an integer, got '2'"),
        ({"count": 2, "latency": 0.5}, "a blocks scheme must hold blocks or count or latency"),
    ):
        with pytest.raises(ValueError, match=sentence):
            read(**content)


def test_a_journal_keeps_the_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured may come out otherwise the next time."""
    model, given = residual_network("", "", ""), {"method": "l1", "journal": tmp_path}
    first = fsc.compress(model, IMAGES, scheme=DropBlocks(count=1), **given).report.dropped
    monkeypatch.setattr("fsc.methods.block_choice.chosen", None)
    again = fsc.compress(model, IMAGES, scheme=DropBlocks(count=1), **given).report.dropped
    assert again == first


class TwoInputs(Network):
    """Both inputs are added before the blocks."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return super().forward(x + y)


def test_a_network_of_two_inputs(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, inputs = TwoInputs(Block(4), Block(4)).eval(), (IMAGES, IMAGES.flip(0))
    scheme = DropBlocks(blocks=["blocks.1"])
    schemes.check(scheme, model, inputs)
    student = fsc.compress(model, inputs, method=fsc.MiR(steps=1), scheme=scheme).student
    assert dropped_of(student) == {"blocks.1": "identity"}
    fsc.save(student, tmp_path / "s.safetensors")
    loaded = fsc.load(tmp_path / "s.safetensors", model=model)
    with torch.no_grad():
        assert torch.equal(loaded(*inputs), student(*inputs))


def test_a_student_without_blocks_can_be_a_teacher() -> None:
    model = residual_network("", "", "")
    for count in (1, 2):
        model = fsc.compress(model, IMAGES, method="l1", scheme=DropBlocks(count=1)).student
        assert len(dropped_of(model)) == count

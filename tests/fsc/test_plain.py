import copy
import io

import pytest
import torch
from foreign_layers import (
    IMAGES,
    BiaslessNorm,
    CastingLinear,
    DependsOnValues,
    DropPath,
    Dynamic,
    FrozenNorm,
    GrowsIfSmall,
    Inheriting,
    NormDropAct,
    NormInside,
    Overriding,
    OwnWeight,
    PoolsIfSmall,
    ResponseNorm,
    SameConv,
    Scale,
    StandardisedConv,
    WrappedDepth,
    network,
)
from networks import chain
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from fsc.networks.plain import plain, rewritings
from fsc.networks.tracing import layer_names, trace

KINDS = [
    (NormInside(6), [nn.BatchNorm2d, nn.LeakyReLU]),
    (NormDropAct(6), [nn.BatchNorm2d, nn.ReLU]),
    (nn.SyncBatchNorm(6), [nn.BatchNorm2d]),
    (FrozenNorm(6), [nn.BatchNorm2d, nn.ReLU]),
    (SameConv(6, 4, 3, stride=2), [nn.ZeroPad2d, nn.Conv2d]),
    (SameConv(6, 6, 3, groups=6, bias=False), [nn.Conv2d]),
    (StandardisedConv(6, 4, 3, padding=1), [nn.Conv2d]),
    (CastingLinear(8, 4), [nn.Linear]),
    (BiaslessNorm(6), [nn.GroupNorm]),
    (ResponseNorm(6), [nn.Conv2d]),
    (ResponseNorm(8, last=True), [nn.Linear]),
    (Inheriting(6), [nn.Conv2d]),
    (Overriding(6, 6, 3), [nn.Conv2d]),
    (OwnWeight(), [nn.Conv2d]),
    (DropPath(), [nn.Identity]),
    (WrappedDepth(), [nn.Identity]),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("layer", "kinds"), KINDS, ids=lambda v: type(v).__name__)
def test_a_layer_becomes_what_it_computes(
    layer: nn.Module, kinds: list[type], dtype: torch.dtype
) -> None:
    model = network(copy.deepcopy(layer)).to(dtype)
    images = IMAGES.to(dtype)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    result = plain(model, images)
    put = [part for part in result[1].modules() if not list(part.children())]
    assert [type(part) for part in put] == kinds
    assert not result.training
    assert all(parameter.dtype == dtype for parameter in result.parameters())
    with torch.no_grad():
        torch.testing.assert_close(result(images), model(images))
    assert "owner" not in vars(result[1])
    (done,) = rewritings(result)
    assert (done.name, done.was) == ("1", type(layer).__name__)
    assert bool(done.remark) == isinstance(layer, SameConv)
    assert type(model[1]) is type(layer)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    trace(result)


def test_parts_are_named_under_their_module_and_keep_what_it_held() -> None:
    model = network(NormDropAct(6), SameConv(6, 4, 3, stride=2))
    model[1].num_batches_tracked.fill_(5)
    result = plain(model, IMAGES)
    names = ["0", "1", "1.norm", "1.act", "2", "2.pad", "2.convolution"]
    assert [name for name, _ in result.named_modules()][1:] == names
    norm = result.get_submodule("1.norm")
    assert (norm.eps, norm.momentum, int(norm.num_batches_tracked)) == (1e-3, 0.3, 5)
    assert result.get_submodule("1.act").inplace
    assert result.get_submodule("2.pad").padding == (0, 1, 1, 1)
    remarks = {r.name: r.remark for r in rewritings(result)}
    assert remarks == {"1": "", "2": "for inputs of the size of the example"}


def test_padding_alike_on_either_side_goes_into_the_convolution() -> None:
    result = plain(network(SameConv(6, 4, (1, 5))), IMAGES)
    assert type(result[1]) is nn.Conv2d and result[1].padding == (0, 2)


def test_a_frozen_norm_stays_frozen_and_a_trained_layer_trainable() -> None:
    result = plain(network(FrozenNorm(6), StandardisedConv(6, 4, 3)), IMAGES)
    frozen = {name: not parameter.requires_grad for name, parameter in result.named_parameters()}
    assert {name for name, value in frozen.items() if value} == {"1.norm.weight", "1.norm.bias"}


def test_an_activation_that_changes_nothing_on_the_example_stays() -> None:
    model = network(FrozenNorm(6))
    with torch.no_grad():
        model[0].weight.abs_()
        model[1].running_mean.fill_(-9.0)
    result = plain(model, IMAGES.abs())
    assert isinstance(result[1][1], nn.ReLU)


def _weight_norm(layer: nn.Module) -> nn.Module:
    with pytest.warns(FutureWarning):
        return torch.nn.utils.weight_norm(layer)


@pytest.mark.parametrize(
    "compute",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
        _weight_norm,
        torch.nn.utils.spectral_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    ],
    ids=["weight_norm", "spectral_norm", "orthogonal", "old weight_norm", "old spectral", "prune"],
)
def test_a_computed_weight_becomes_a_parameter(compute) -> None:
    model = network(compute(nn.Conv2d(6, 4, 3)))
    expected = model(IMAGES)  # with gradients, so that old hooks leave no plain tensor behind
    result = plain(model, IMAGES)
    assert type(result[1]) is nn.Conv2d
    assert dict(result[1].named_parameters()).keys() == {"weight", "bias"}
    assert not list(result[1].buffers()) and not result[1]._forward_pre_hooks
    torch.testing.assert_close(result(IMAGES), expected)
    torch.testing.assert_close(model(IMAGES), expected)  # the caller's still computes


def test_a_branch_on_sizes_is_fixed_but_not_to_the_number_of_images() -> None:
    model = nn.Sequential(network(PoolsIfSmall()), nn.Flatten())
    with pytest.raises(ValueError, match=r"'0\.1'"):
        trace(model)
    result = plain(model, IMAGES)
    assert layer_names(result, trace(result)) == ["0.0", "0.1.convolution"]
    assert result.state_dict().keys() == model.state_dict().keys()
    assert rewritings(result)[0].remark == "for inputs of the size of the example"
    with torch.no_grad():
        for images in (IMAGES, IMAGES[:1], torch.randn(5, 3, 9, 8)):
            torch.testing.assert_close(result(images), model(images))


def test_a_network_that_is_plain_stays_as_it_is() -> None:
    model = chain()
    model.drop = nn.Sequential()
    result = plain(model, torch.zeros(0))  # not even run
    assert [(n, type(m)) for n, m in result.named_modules()] == [
        (n, type(m)) for n, m in model.named_modules()
    ]
    assert all(torch.equal(model.state_dict()[k], v) for k, v in result.state_dict().items())
    assert result is not model and rewritings(result) == []


def test_bare_parameters_are_nothing_to_rewrite() -> None:
    result = plain(network(Scale()), IMAGES)
    assert isinstance(result[1], Scale) and rewritings(result) == []


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (DependsOnValues(6, 6, 3), "control flow"),
        (nn.BatchNorm2d(6, track_running_stats=False), "keeps no running statistics"),
    ],
    ids=["values", "statistics"],
)
def test_what_cannot_be_rewritten_is_left_with_its_reason(layer: nn.Module, reason: str) -> None:
    result = plain(network(layer), IMAGES)
    assert type(result[1]) is type(layer)
    left = rewritings(result)
    assert [r.name for r in left if not r.became] == ["1"] * len(left)
    assert reason in left[0].remark


def test_a_weight_that_depends_on_the_input_stays_in_the_graph() -> None:
    model = network(Dynamic(6, 6, 3))
    result = plain(model, IMAGES)
    other = torch.randn(3, 3, 9, 8)
    torch.testing.assert_close(result(other), model(other))


def test_a_module_used_at_two_places_is_replaced_at_both() -> None:
    shared = NormInside(6)
    result = plain(network(shared, nn.Conv2d(6, 6, 1), shared), IMAGES)
    assert result[1] is result[3] and isinstance(result[1][0], nn.BatchNorm2d)


def test_the_result_can_be_copied_and_pickled() -> None:
    model = network(*(copy.deepcopy(layer) for layer, _ in KINDS[:5]), GrowsIfSmall())
    result = plain(model, IMAGES)
    file = io.BytesIO()
    torch.save(result, file)
    file.seek(0)
    with torch.no_grad():
        for copied in (copy.deepcopy(result), torch.load(file, weights_only=False)):
            assert torch.equal(copied(IMAGES), result(IMAGES))


def test_several_inputs_as_a_tuple_or_by_name() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = StandardisedConv(3, 4, 3), nn.Conv2d(1, 4, 3)

        def forward(self, image: Tensor, depth: Tensor) -> dict[str, Tensor]:
            return {"sum": self.left(image) + self.right(depth)}

    model = Two().eval()
    depth = torch.randn(2, 1, 9, 8)
    for example in ((IMAGES, depth), {"depth": depth, "image": IMAGES}):
        result = plain(model, example)
        assert type(result.left) is nn.Conv2d
        torch.testing.assert_close(result(IMAGES, depth), model(IMAGES, depth))


def test_an_example_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"plain: model and example_inputs of \[2, 5, 8, 8\] must"):
        plain(network(NormInside(6)), torch.randn(2, 5, 8, 8))


def test_a_layer_with_hooks_becomes_what_it_computes_with_them() -> None:
    layer = NormDropAct(6)
    layer.register_forward_hook(lambda module, args, output: output + 1)
    model = network(layer)
    result = plain(model, IMAGES)
    torch.testing.assert_close(result(IMAGES), model(IMAGES))
    (done,) = rewritings(result)
    assert done.name == "1" and done.became


def test_a_network_that_float64_cannot_run_is_compared_in_its_own_dtype() -> None:
    class Single(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.float()

    model = network(NormInside(6), Single(), nn.Conv2d(6, 6, 1))
    result = plain(model, IMAGES)
    assert not isinstance(result[1], NormInside)
    torch.testing.assert_close(result(IMAGES), model(IMAGES))
    (done,) = rewritings(result)
    assert done.name == "1" and done.became


def test_layers_that_are_never_called_are_left_and_said() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = NormInside(3), CastingLinear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    result = plain(Part(), IMAGES)
    assert isinstance(result.unused, CastingLinear)
    assert rewritings(result)[-1].remark == "the network does not call it"

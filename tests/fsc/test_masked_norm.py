"""Normalizations that leave masked channels out of their statistics."""

import copy

import pytest
import torch
from torch import Tensor, nn

from fsc.channels.masked_norm import masked_norm, takes_all_channels, unmasked_norm

STAYS = torch.tensor([True, False, True, True, False, True])


def drawn(norm: nn.Module) -> nn.Module:
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


@pytest.mark.parametrize(
    ("norm", "few", "axis"),
    [
        (nn.LayerNorm(6), nn.LayerNorm(4), -1),
        (nn.LayerNorm(6, elementwise_affine=False), nn.LayerNorm(4, elementwise_affine=False), -1),
        (nn.LayerNorm(6, eps=0.1, bias=False), nn.LayerNorm(4, eps=0.1, bias=False), -1),
        (nn.GroupNorm(1, 6), nn.GroupNorm(1, 4), 1),
    ],
)
def test_it_computes_what_one_of_fewer_channels_does(
    norm: nn.Module, few: nn.Module, axis: int
) -> None:
    norm = drawn(norm)
    for mine, theirs in zip(few.parameters(), norm.parameters(), strict=True):
        mine.data.copy_(theirs.data[STAYS])
    x = torch.randn(2, 6, 5, 6)
    kept = STAYS.nonzero().flatten()
    masked = masked_norm(copy.deepcopy(norm), STAYS)
    assert isinstance(masked, type(norm)) and masked.state_dict().keys() == norm.state_dict().keys()
    found = masked(x)
    torch.testing.assert_close(found.index_select(axis, kept), few(x.index_select(axis, kept)))
    gone = (~STAYS).nonzero().flatten()
    assert not found.index_select(axis, gone).any()
    whole = unmasked_norm(masked)
    assert type(whole) is type(norm) and torch.equal(whole(x), norm(x))


def test_which_normalizations_these_are() -> None:
    takes: list[Tensor | nn.Module] = [nn.LayerNorm(6), nn.GroupNorm(1, 6)]
    apart = [nn.LayerNorm((6, 4)), nn.GroupNorm(2, 6), nn.GroupNorm(1, 1), nn.BatchNorm2d(6)]
    assert all(map(takes_all_channels, takes)) and not any(map(takes_all_channels, apart))

"""Layers of every kind say what removing the channels that they read costs: what solving shows."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacfwd

from fsc.channels.groups import labelled_groups
from fsc.layers.form import Form
from fsc.schemes.readers import Reader
from fsc.schemes.removal import removals

WIDTH = 6


class Read(nn.Module):
    """One layer that reads what another makes."""

    def __init__(self, make: type[nn.Module], reader: nn.Module) -> None:
        super().__init__()
        self.stem, self.reader = make(3, WIDTH, 1), reader

    def features(self, x: Tensor) -> Tensor:
        return self.stem(x).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.reader(self.features(x))


KINDS = {
    "plain": (nn.Conv2d, nn.Conv2d(WIDTH, 4, 3, padding=1)),
    "one output": (nn.Conv2d, nn.Conv2d(WIDTH, 1, 3)),
    "grouped": (nn.Conv2d, nn.Conv2d(WIDTH, 4, 3, stride=2, groups=2)),
    "one row a group": (nn.Conv2d, nn.Conv2d(WIDTH, 3, 3, groups=3, bias=False)),
    "one dimension": (nn.Conv1d, nn.Conv1d(WIDTH, 4, 3, padding=1)),
    "three dimensions": (nn.Conv3d, nn.Conv3d(WIDTH, 3, 2, bias=False)),
    "grouped, three dimensions": (nn.Conv3d, nn.Conv3d(WIDTH, 4, 2, padding=1, groups=2)),
    "transposed": (nn.Conv2d, nn.ConvTranspose2d(WIDTH, 3, 2, stride=2, bias=False)),
    "grouped, transposed": (
        nn.Conv2d,
        nn.ConvTranspose2d(WIDTH, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
    ),
    "reflected": (nn.Conv2d, nn.Conv2d(WIDTH, 4, 3, padding=1, padding_mode="reflect")),
    "padded on one side": (nn.Conv2d, nn.Conv2d(WIDTH, 4, 2, padding="same", bias=False)),
}
SIDES = {nn.Conv1d: (40,), nn.Conv2d: (9, 9), nn.Conv3d: (4, 4, 4)}


def network(kind: str) -> tuple[Read, Tensor]:
    torch.manual_seed(0)
    make, reader = KINDS[kind]
    reader.reset_parameters()
    return Read(make, reader).double().eval(), torch.randn(8, 3, *SIDES[make]).double()


def solved_without(model: Read, images: Tensor, judges: Tensor, gone: list[int]) -> float:
    """The reader solved anew without some channels on images; its error on judges in shares.

    Nothing is known of the layer but that its output is linear in its parameters.
    """
    period = WIDTH // getattr(model.reader, "groups", 1)
    stays = torch.tensor([channel % period not in gone for channel in range(WIDTH)]).double()
    given = {name: p.detach() for name, p in model.reader.named_parameters()}

    def outputs(parameters: dict[str, Tensor], features: Tensor) -> Tensor:
        made = functional_call(model.reader, parameters, features)
        return made.transpose(0, 1).flatten(1)  # [C_out, values]

    systems, targets = [], []
    for batch in (images, judges):
        features = model.features(batch).detach()
        targets.append(outputs(given, features))
        masked = features * stays.view(-1, *[1] * (features.ndim - 2))
        parts = jacfwd(outputs)(given, masked).values()
        systems.append(torch.cat([part.flatten(2) for part in parts], -1).flatten(0, 1))
    solution = torch.linalg.lstsq(systems[0], targets[0].flatten(), driver="gelsd").solution
    mean = targets[1].mean(1, keepdim=True) if "bias" in given else 0.0
    error = (systems[1] @ solution - targets[1].flatten()).square().sum()
    return float(error / (targets[1] - mean).square().sum())


@pytest.mark.parametrize("kind", KINDS)
def test_the_cost_is_that_of_solving_the_layer_without_the_channels(kind: str):
    model, images = network(kind)
    group = labelled_groups(model, (images[:1],))[0]
    removal = removals(model, [group], images, {"stem": 1}, damping=1e-9)["stem"]
    correcting, judging = images[::2], images[1::2]
    alone = [
        solved_without(model, correcting, correcting, [channel]) for channel in range(group.size)
    ]
    assert int(removal.order[0]) == alone.index(min(alone))
    assert len(removal.order) == group.size - 1 > 0
    for count in range(1, group.size):
        expected = solved_without(model, correcting, judging, removal.order[:count].tolist())
        assert float(removal.loss[count]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_columns_say_what_their_gram_matrices_say(kind: str):
    model, images = network(kind)
    features, form = model.features(images).detach(), Form(model.reader)
    by_gram, by_columns = Reader(form, 10**6), Reader(form, 0)
    for reader in (by_gram, by_columns):
        for batch in features.split(3):
            reader.accumulate(batch, len(batch))
    assert by_gram.judging.gram is not None and by_columns.judging.gram is None
    weight = torch.randn_like(by_gram.weight)
    both = (by_gram, by_columns)
    energies = [each.judging.energy(weight) for each in both]
    squares = [each.judging.squares(weight) for each in both]
    assert energies[0] == pytest.approx(energies[1]) and squares[0] == pytest.approx(squares[1])
    pairs = zip(*(each.correcting.quadratics(each.weight) for each in both), strict=True)
    for own, (one, other) in zip(weight, pairs, strict=True):
        assert one.loss(own) == pytest.approx(other.loss(own))
        assert one.mean_curvature() == pytest.approx(other.mean_curvature())

"""A student fine-tuned by Lightning keeps its zeros and its statistics; refusals."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fsc.training.lightning_callback import keep_student
from fsc.training.zeros import Zeros


def small() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    )
    with torch.no_grad():
        network[0].weight[:2] = 0.0
        network[4].weight[0, ::2] = 0.0
    return network


@pytest.fixture
def stand_in(monkeypatch):
    """A package of Lightning's name with the one class that is needed of it."""
    module = SimpleNamespace(Callback=type("Callback", (), {}))
    monkeypatch.setitem(sys.modules, "pytorch_lightning", module)
    return module


def steps(callback, network, count=3):
    """What a trainer does: hooks around steps of an optimiser that decays and has momentum."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    images = torch.randn(4, 3, 8, 8)
    network.train()
    callback.on_train_start(None, network)
    for index in range(count):
        callback.on_train_batch_start(None, network, images, index)
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()
        callback.on_train_batch_end(None, network, None, images, index)


def test_zeros_and_statistics_stay_and_the_rest_is_trained(stand_in):
    network, before = small(), small()
    steps(keep_student(package="pytorch_lightning"), network)
    for number in (0, 4):
        was_zero = before[number].weight == 0
        assert torch.equal(network[number].weight == 0, was_zero) and was_zero.any()
        assert not torch.equal(network[number].weight, before[number].weight)
    assert torch.equal(network[1].running_mean, before[1].running_mean)
    assert not torch.equal(network[1].weight, before[1].weight)


def test_batch_norm_is_trained_where_that_is_asked_for(stand_in):
    network = small()
    steps(keep_student(package="pytorch_lightning", batch_norm="trained"), network)
    assert not torch.equal(network[1].running_mean, small()[1].running_mean)


def test_a_part_of_the_module_alone_is_kept(stand_in):
    student, other = small(), small()
    steps(keep_student(student, package="pytorch_lightning"), nn.Sequential(student, nn.Identity()))
    assert torch.equal(student[0].weight == 0, other[0].weight == 0)
    whole = nn.ModuleList([student, other])
    callback = keep_student(student, package="pytorch_lightning")
    callback.on_train_start(None, whole)
    with torch.no_grad():
        student[0].weight.fill_(float("nan"))
        other[0].weight.fill_(1.0)
    callback.on_train_batch_end(None, whole, None, None, 0)
    assert not student[0].weight[:2].any() and other[0].weight.all()


def test_weights_that_are_computed_anew_are_refused():
    network = small()
    nn.utils.parametrizations.weight_norm(network[4])
    with pytest.raises(ValueError, match="got a parametrization in layer '4'"):
        Zeros(network)


def test_what_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="batch_norm must be 'frozen' or 'trained', got 'kept'"):
        keep_student(batch_norm="kept")
    with pytest.raises(ValueError, match=r"package must be one of .*, got 'keras'"):
        keep_student(package="keras")
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"must be installed: pip install 'fsc-ext\[lightning\]'"):
        keep_student()


def test_a_trainer_of_lightning_takes_it(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch", reason="needs the extra lightning")

    class Tuning(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.student = small()

        def training_step(self, batch, index):
            images, labels = batch
            return nn.functional.cross_entropy(self.student(images), labels)

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=0.01)

    data = torch.utils.data.TensorDataset(torch.randn(8, 3, 8, 8), torch.arange(8) % 2)
    tuning, before = Tuning(), small()
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[keep_student()],
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(tuning, torch.utils.data.DataLoader(data, batch_size=4))
    found = tuning.student
    assert torch.equal(found[0].weight == 0, before[0].weight == 0)
    assert torch.equal(found[1].running_var, before[1].running_var)
    assert not torch.equal(found[4].weight, before[4].weight)

import numpy as np
import pytest
import torch
from image_folders import write_classes
from torch import nn

from fsc import models
from fsc.images import data
from fsc.images.folder import ImageFolder
from fsc.networks.modes import evaluation_mode
from fsc.networks.pretrained import load_pretrained
from fsc.training.evaluate import accuracies, accuracy


def scores_of(labels: list[int], num_classes: int = 4) -> torch.Tensor:
    """Images [N, num_classes, 1, 1] that nn.Flatten turns into one-hot scores."""
    one_hot = nn.functional.one_hot(torch.tensor(labels), num_classes)
    return one_hot.float().reshape(len(labels), num_classes, 1, 1)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_share_of_right_answers_for_every_batch_size(batch_size):
    images = scores_of([0, 1, 2, 3, 0])
    labels = torch.tensor([0, 1, 2, 0, 3])
    assert accuracy(nn.Flatten(), images, labels, batch_size) == 60.0


def test_shares_among_the_highest_scores():
    scores = torch.tensor([[4.0, 3, 2, 1], [4, 3, 2, 1], [1, 2, 3, 4]])[..., None, None]
    labels = torch.tensor([0, 2, 0])
    found = accuracies(nn.Flatten(), scores, labels, (1, 3, 4), batch_size=2)
    assert found == pytest.approx((100 / 3, 200 / 3, 100))
    for ranks in ((0,), (1, 5)):
        with pytest.raises(ValueError, match="ranks must lie between 1 and the 4 classes"):
            accuracies(nn.Flatten(), scores, labels, ranks)


@pytest.mark.parametrize(
    "ranks",
    [np.array([1, 3]), torch.tensor([1, 3]), {1, 3}, (rank for rank in (1, 3)), [np.int32(1), 3]],
)
def test_ranks_in_whatever_holds_them(ranks):
    scores = torch.tensor([[4.0, 3, 2, 1], [4, 3, 2, 1]])[..., None, None]
    found = accuracies(nn.Flatten(), scores, torch.tensor([0, 2]), ranks, batch_size=np.int64(1))
    assert found == (50.0, 100.0)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint16, torch.int32, torch.uint64])
def test_labels_of_every_integer_type(dtype):
    labels = torch.tensor([0, 1, 2]).to(dtype)
    assert accuracies(nn.Flatten(), scores_of([0, 1, 3]), labels, (1,)) == (pytest.approx(200 / 3),)


def test_a_folder_gives_what_its_images_give(tmp_path, monkeypatch):
    images = ImageFolder(write_classes(tmp_path, count=5), size=8)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    labels = torch.from_numpy(images.labels)
    expected = accuracies(model, images.decoded(), labels, (1, 2))
    sizes = []
    real = ImageFolder.decoded
    monkeypatch.setattr(ImageFolder, "decoded", lambda self: sizes.append(len(self)) or real(self))
    assert accuracies(model, images, labels, (1, 2), batch_size=4) == expected
    assert max(sizes) == 4, "never more than a batch at a time"


def test_runs_in_evaluation_mode_and_restores_every_mode():
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(4), nn.Flatten())
    model.train()
    model[1].eval()
    before = model[1].running_mean.clone()
    assert accuracy(model, scores_of([0, 1, 2, 3] * 8), torch.tensor([0, 1, 2, 3] * 8)) == 100.0
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert torch.equal(model[1].running_mean, before)


def test_modes_are_restored_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.ReLU())
    with pytest.raises(KeyError), evaluation_mode(model):
        assert not model[0].training
        raise KeyError
    assert model.training and model[0].training


def test_progress_counts_the_images():
    calls = []
    accuracy(
        nn.Flatten(),
        scores_of([0] * 5),
        torch.zeros(5, dtype=torch.int64),
        2,
        lambda *call: calls.append(call),
    )
    assert calls == [("evaluating, image", done, 5) for done in (2, 4, 5)]


NOT_FINITE = scores_of([0, 1])
NOT_FINITE[1, 2] = float("nan")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (scores_of([0])[:0], [], "images must be floating point .* N at least 1"),
        (scores_of([0, 1]), [0], r"labels must be \[2\], one for each image, got \[1\]"),
        (torch.zeros(2), [0, 1], r"images must be floating point \[N, C\]"),
        (scores_of([0]).to(torch.uint8), [0], "must be floating point .*got torch.uint8"),
        (NOT_FINITE, [0, 1], "images must be finite, got NaN or Inf in image 1"),
        (scores_of([0, 1]), [0, 4], "labels must lie between 0 and 3, .*got 0 to 4"),
        (scores_of([0, 1]), [-1, 1], "labels must lie between 0 and 3, .*got -1 to 1"),
    ],
)
def test_bad_input(images, labels, message):
    with pytest.raises(ValueError, match=message):
        accuracy(nn.Flatten(), images, torch.tensor(labels, dtype=torch.int64))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 4, 4).double(), "dtype of the network, torch.float32, got"),
        (torch.zeros(2, 1, 4, 4), "3 input channels of the network, got 1"),
    ],
)
def test_images_that_the_network_cannot_read(images, message):
    model = nn.Sequential(nn.Conv2d(3, 4, 4), nn.Flatten())
    with pytest.raises(ValueError, match=f"accuracy: images must have the {message}"):
        accuracy(model, images, torch.tensor([0, 1]))


def test_a_network_that_cannot_be_traced_is_evaluated():
    class Branch(nn.Module):
        def forward(self, x):
            return x.flatten(1) if x.sum() > 0 else -x.flatten(1)

    assert accuracy(Branch(), scores_of([1, 2]), torch.tensor([1, 2])) == 100.0


def test_bad_model_and_batch_size():
    with pytest.raises(ValueError, match=r"model must return \[N, num_classes\], got \[1, 4, 1"):
        accuracy(nn.Identity(), scores_of([0]), torch.tensor([0]))
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        accuracy(nn.Flatten(), scores_of([0]), torch.tensor([0]), 0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": None}, TypeError, r"accuracy: model must be a torch\.nn\.Module, got NoneType"),
        (
            {"model": nn.Linear(4, 2).to("meta")},
            ValueError,
            "model must hold values, got weight on",
        ),
        ({"images": None}, TypeError, r"accuracy: images must be a torch\.Tensor, got NoneType"),
        ({"labels": None}, TypeError, r"accuracy: labels must be a torch\.Tensor, got NoneType"),
        ({"labels": [0, 1]}, TypeError, r"accuracy: labels must be a torch\.Tensor, got list"),
        ({"labels": torch.tensor([0.0, 1.0])}, ValueError, "integers, got torch.float32"),
        ({"labels": torch.tensor([True, False])}, ValueError, "integers, got torch.bool"),
        ({"labels": torch.tensor([0, 1]).to_sparse()}, ValueError, "labels must be dense, got"),
        ({"batch_size": 1.5}, TypeError, "accuracy: batch_size must be an integer, got 1.5"),
        ({"ranks": 5}, TypeError, "accuracy: ranks must be one integer or more, got 5"),
        ({"ranks": ()}, TypeError, r"accuracy: ranks must be one integer or more, got \(\)"),
        ({"ranks": (1.0,)}, TypeError, "accuracy: ranks must be an integer, got 1.0"),
    ],
)
def test_arguments_of_another_kind_are_named(arguments, error, message):
    fitting = {"model": nn.Flatten(), "images": scores_of([0, 1]), "labels": torch.tensor([0, 1])}
    with pytest.raises(error, match=message):
        accuracies(**fitting | arguments)


def test_published_resnet20_recognises_cifar10(data_root):
    split = data.load("cifar10", "test", data_root)
    images = data.to_tensor(split.images[:1000], *models.normalization("resnet20"))
    path = data_root / "checkpoints" / "cifar10_resnet20_akamaster.pt"
    model = load_pretrained(models.build("resnet20"), path)
    assert 89.0 <= accuracy(model, images, torch.tensor(split.labels[:1000])) <= 94.0

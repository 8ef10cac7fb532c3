"""Labels reach the methods that learn them, from wherever they come, and no others."""

from dataclasses import dataclass

import pytest
import torch
from networks import chain
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import fsc
from fsc.methods import Outcome, Task
from fsc.networks.gathering import gathered
from fsc.schemes import Scheme

IMAGES, LABELS = torch.randn(6, 3, 8, 8), torch.tensor([0, 3, 1, 2, 3, 0])
MODEL = nn.Conv2d(3, 4, 3)
SCHEME = Scheme("half", {"conv1": 4})
PAIRS = [(image, int(label)) for image, label in zip(IMAGES, LABELS, strict=True)]


@pytest.mark.parametrize(
    "images",
    [
        TensorDataset(IMAGES, LABELS),
        DataLoader(TensorDataset(IMAGES, LABELS), batch_size=4),
        DataLoader(TensorDataset(IMAGES, LABELS[:, None]), batch_size=4),
        DataLoader(TensorDataset(IMAGES, LABELS.int()), batch_size=4),
        DataLoader(TensorDataset(IMAGES, LABELS.to(torch.uint16)), batch_size=4),
        PAIRS,
        [(image, label) for image, label in zip(IMAGES, LABELS.numpy(), strict=True)],
        [{"input": image, "labels": label} for image, label in PAIRS],
        [{"input": IMAGES, "labels": LABELS.tolist()}],
        [(IMAGES[:2], (0, 3)), (IMAGES[2:], LABELS[2:].tolist())],
    ],
    ids=str.split("dataset loader column int32 uint16 pairs numpy dicts listed tuples"),
)
def test_labels_come_with_images(images):
    inputs, labels = gathered("compress", images, MODEL)
    assert torch.equal(inputs["input"] if isinstance(inputs, dict) else inputs, IMAGES)
    assert labels.dtype == torch.int64 and torch.equal(labels, LABELS)


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        list(IMAGES),
        [*PAIRS[:3], *IMAGES[3:]],
        [(image, 0.5) for image in IMAGES],
        [(image, -1) for image in IMAGES],
        [(image, "cat") for image in IMAGES],
        [(image, torch.tensor([1, 2, 3])) for image in IMAGES],
        [(image, True) for image in IMAGES],
        [(IMAGES, [0.0] * 6)],
        [(IMAGES, [0] * 5)],
        [(IMAGES, [True] * 6)],
    ],
    ids=str.split("tensor list some real negative names several truths reals fewer listed_truths"),
)
def test_what_is_no_class_of_every_image_is_no_label(images):
    inputs, labels = gathered("compress", images, MODEL)
    assert torch.equal(inputs, IMAGES) and labels is None


@dataclass(frozen=True)
class Asking:
    """A method of the user's own that learns labels, and keeps what it was given."""

    seen: list
    label_use: str = "needed"

    def compress(self, task: Task) -> Outcome:
        """The smallest student there is."""
        self.seen.append(task.labels)
        return fsc.L1Norm().compress(task)


def _labels_seen(images, labels: Tensor | None, use: str = "needed") -> Tensor | None:
    method = Asking([], use)
    fsc.compress(chain(), images, labels=labels, method=method, scheme=SCHEME)
    return method.seen[0]


def test_a_method_that_learns_labels_is_given_them():
    assert torch.equal(_labels_seen(IMAGES, LABELS), LABELS)
    assert torch.equal(_labels_seen(IMAGES, LABELS.int(), "optional"), LABELS)
    assert torch.equal(_labels_seen(PAIRS, None), LABELS)
    assert torch.equal(_labels_seen(PAIRS, LABELS), LABELS)
    assert _labels_seen(IMAGES, None, "optional") is None


def test_a_method_that_learns_none_ignores_those_of_a_loader_and_refuses_others():
    assert _labels_seen(PAIRS, None, "none") is None
    with pytest.raises(ValueError, match=r"labels must be left out for L1Norm, .* none, got \[6\]"):
        fsc.compress(chain(), IMAGES, labels=LABELS, method="l1", scheme=SCHEME)


@pytest.mark.parametrize(
    ("labels", "error", "sentence"),
    [
        (None, ValueError, "labels must be given for BackProp, .* got none that are integers, .*"),
        ([0, 1], TypeError, "labels must be a torch.Tensor, got list; .* makes it one"),
        (LABELS[:5], ValueError, r"labels must be \[6\], one for each image, got \[5\]"),
        (LABELS.float(), ValueError, "labels must be integers, got torch.float32; .*"),
        (LABELS + 1, ValueError, r"labels must be in \[0, 4\), got 1 to 4"),
        (LABELS - 1, ValueError, r"labels must be in \[0, 4\), got -1 to 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_any_work(labels, error, sentence):
    done = []
    with pytest.raises(error, match=f"^compress: {sentence}$"):
        fsc.compress(
            chain(),
            IMAGES,
            labels=labels,
            method=fsc.BackProp(steps=1),
            progress=lambda *event: done.append(event),
        )
    assert not done


@pytest.mark.filterwarnings("ignore::fsc.CompressionWarning")
@pytest.mark.parametrize("dtype", [torch.uint16, torch.int32])
def test_labels_of_every_integer_type_are_learned(dtype):
    given = {"method": fsc.BackProp(steps=2), "flops": 0.6, "progress": False}
    teacher = chain()
    found, expected = (
        fsc.compress(teacher, IMAGES, labels=labels, **given).student.state_dict()
        for labels in (LABELS.to(dtype), LABELS)
    )
    assert all(map(torch.equal, found.values(), expected.values()))


def test_a_network_without_scores_learns_no_labels():
    teacher = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    sentence = r"teacher must give scores \[N, classes\] for BackProp, got \[1, 4, 6, 6\]"
    with pytest.raises(ValueError, match=sentence):
        fsc.compress(teacher, IMAGES, labels=LABELS, method="bp")


def test_labels_that_contradict_those_of_a_loader_are_refused():
    teacher, images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                    nn.Linear(4, 3)), torch.randn(6, 3, 8, 8)  # fmt: skip
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    pairs = list(zip(images, labels, strict=True))
    method = fsc.BackProp(steps=1)
    fsc.compress(teacher, pairs, labels=labels, method=method)
    with pytest.raises(ValueError, match="labels must be given once"):
        fsc.compress(teacher, pairs, labels=labels.flip(0), method=method)

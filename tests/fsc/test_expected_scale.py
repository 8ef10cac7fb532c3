import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import chain
from torch import Tensor, nn

import fsc
from fsc import models
from fsc.images import data, sampling
from fsc.images.scale import spread
from fsc.networks import pretrained
from fsc.networks.expected_scale import doubt_about_scale
from fsc.schemes import Scheme

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})


def _trained_on(model: nn.Module, images: Tensor) -> nn.Module:
    """The network with running statistics of these images."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        model.train()(images)
    return model.eval()


@pytest.fixture
def pictures() -> Tensor:
    """Thirty smooth pictures of mean 0 and deviation 1, [30, 3, 8, 8]."""
    coarse = torch.randn(30, 3, 3, 3)
    return nn.functional.interpolate(coarse, size=8, mode="bilinear") / 0.65


@pytest.mark.parametrize("count", [1, 3, 30])
def test_images_like_those_of_the_training_pass(pictures: Tensor, count: int) -> None:
    model = _trained_on(chain(), pictures)
    assert doubt_about_scale(model, pictures[:count], 64) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: 64 * x + 120, "reads values 7[0-9] deviations"),
        (lambda x: (x - x.amin()) / (x.amax() - x.amin()), "from 0 to 1$"),
        (lambda x: x + 3, "deviations away"),
        (lambda x: 0.2 * x, "times its running variances"),
    ],
    ids=["0...255", "0...1", "no mean", "no deviation"],
)
def test_another_scale_is_said_with_both_numbers(pictures: Tensor, change, words: str) -> None:
    model = _trained_on(chain(), pictures)
    with pytest.warns(fsc.CompressionWarning, match=words) as caught:
        result = fsc.compress(model, change(pictures), method=fsc.L1Norm(), scheme=SCHEME)
    assert [str(w.message) for w in caught] == result.report.warnings
    assert "\n" not in result.report.warnings[0] and "bn1" in result.report.warnings[0]
    assert caught[0].filename == __file__  # the line that called, not one of the package


def test_only_the_beginning_of_the_network_runs(pictures: Tensor) -> None:
    model = _trained_on(chain(), pictures)
    model.conv2.register_forward_pre_hook(lambda *_: pytest.fail("ran on"))
    assert doubt_about_scale(model, pictures, batch_size=7) is None
    assert not model.bn1._forward_pre_hooks


def test_a_batch_norm_that_never_learnt_says_nothing() -> None:
    assert doubt_about_scale(models.build("resnet14").eval(), torch.rand(2, 3, 16, 16), 64) is None


@pytest.mark.parametrize("kind", [dict, SimpleNamespace])
def test_a_data_configuration_is_asked_where_there_are_no_statistics(kind) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    model.pretrained_cfg = kind(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    pixels = torch.rand(4, 3, 8, 8)
    mean, std = (torch.tensor(v)[:, None, None] for v in vars_of(model.pretrained_cfg))
    assert doubt_about_scale(model, (pixels - mean) / std, 64) is None
    for wrong in (pixels, 255 * pixels):
        sentence = doubt_about_scale(model, wrong, 64)
        assert sentence is not None and "0.485, 0.456, 0.406" in sentence, sentence


def test_no_minus_stands_before_a_zero() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    model.pretrained_cfg = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    sentence = doubt_about_scale(model, torch.full((1, 3, 8, 8), -0.0), 64)
    assert sentence is not None and sentence.endswith(
        "values from 0 to 1, got images of mean 0, 0, 0 and deviation 0, 0, 0 from 0 to 0"
    )


def vars_of(configuration) -> list[tuple[float, ...]]:
    found = configuration if isinstance(configuration, dict) else vars(configuration)
    return [found["mean"], found["std"]]


def test_a_network_that_says_nothing_takes_no_large_values() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    assert doubt_about_scale(model, 5 * torch.randn(4, 3, 8, 8).clamp(-3, 3), 64) is None
    sentence = doubt_about_scale(model, 255 * torch.rand(4, 3, 8, 8), 64)
    assert sentence is not None and "got images of mean 1" in sentence


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.ones(3, 3, 8, 8) * torch.arange(3.0)[:, None, None, None], "3 of 3 images are"),
        (torch.cat([torch.randn(2, 3, 8, 8), torch.ones(1, 3, 8, 8)]), "1 of 3 .* image 2"),
        (torch.randn(1, 3, 8, 8).expand(4, -1, -1, -1), "all 4 images are the same picture"),
    ],
)
def test_empty_images_warn(images: Tensor, sentence: str) -> None:
    with pytest.warns(fsc.CompressionWarning, match=sentence):
        fsc.compress(chain(), images, method=fsc.L1Norm(), scheme=SCHEME)


def test_the_report_keeps_mean_deviation_and_range() -> None:
    images = torch.randn(5, 3, 8, 8)
    report = fsc.compress(chain(), images, method=fsc.L1Norm(), scheme=SCHEME).report
    stated = json.loads(json.dumps(report.to_dict()))["images"]
    assert stated["mean"] == pytest.approx(images.mean((0, 2, 3)).tolist(), rel=1e-5)
    assert stated["deviation"] == pytest.approx(images.std((0, 2, 3)).tolist(), rel=1e-2)
    assert min(stated["minimum"]) == images.min() and max(stated["maximum"]) == images.max()


def test_few_images_stand_for_many() -> None:
    assert spread(torch.arange(10), 3).tolist() == [0, 4, 8]
    assert spread(torch.arange(3), 64).tolist() == [0, 1, 2]


NAMES = ["resnet20", "resnet32", "resnet44", "resnet56", "vgg16"]


@pytest.mark.parametrize("name", NAMES)
def test_real_networks_and_draws(data_root: Path, name: str) -> None:
    """No draw is doubted; what costs accuracy is, but for colours that are swapped or inverted."""
    ending = "" if name == "vgg16" else "_akamaster"
    path = data_root / "checkpoints" / f"cifar10_{name}{ending}.pt"
    teacher = pretrained.load_pretrained(models.build(name), path)
    train = data.load("cifar10", "train", data_root)
    mean, std = (np.array(values) for values in models.normalization(name))

    def doubt(indices: list[int], shift: np.ndarray, scale: np.ndarray) -> str | None:
        images = data.to_tensor(train.images[indices], shift.tolist(), scale.tolist())
        return doubt_about_scale(teacher, images, 64)

    zero, one = np.zeros(3), np.ones(3)
    for seed in range(20):
        each = sampling.sample_per_class(train.labels, 1, seed).indices
        ten = sampling.sample_random(train.labels, 10, seed).indices
        for indices in (each, ten, ten[:1], ten[:3]):
            assert doubt(indices, mean, std) is None, (seed, len(indices))
        for shift, scale in ((zero, one / 255), (zero, one), (one / 2, one / 2), (mean, one)):
            assert doubt(each, shift, scale) is not None, (seed, shift, scale)
    fifty = sampling.sample_per_class(train.labels, 5, 0).indices
    assert doubt(fifty, mean, std) is None
    assert doubt(fifty, zero, std) is not None


def test_a_filter_turns_the_warnings_into_errors(pictures: Tensor) -> None:
    model = _trained_on(chain(), pictures)
    with warnings.catch_warnings():
        warnings.simplefilter("error", fsc.CompressionWarning)
        with pytest.raises(fsc.CompressionWarning, match="another scale"):
            fsc.compress(model, 255 * pictures, method=fsc.L1Norm(), scheme=SCHEME)

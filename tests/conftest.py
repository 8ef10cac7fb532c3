"""Fixtures of all tests; drops the source root from the path when it holds no compiled module."""

import sys
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
if not list((_ROOT / "fsc_ext").glob("_C*.so")):
    # After a plain `pip install .` the source folder would shadow the installed package.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT]

import os  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402

# By default cuDNN convolves float32 in TF32, also for the references.
torch.backends.cudnn.allow_tf32 = False

# What starts last stretches a run on several processes: files that take long go first.
_LONG = (
    *("test_exported.py", "test_cli_several.py", "test_ranks.py", "test_cli_device.py"),
    *("test_other_device.py", "test_docs.py", "test_real_data.py", "test_guide.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _LONG)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny networks on two threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real images and checkpoints, from FSC_DATA."""
    root = os.environ.get("FSC_DATA")
    if not root:
        pytest.skip("FSC_DATA is not set: it names the folder of CIFAR-10 and the checkpoints")
    return Path(root).resolve()

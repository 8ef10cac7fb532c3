"""What operators launch on a GPU, as the emulator writes it down without running it."""

import subprocess
import sys
from pathlib import Path

import pytest

from fsc_ext.testing import EMULATED

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "csrc" / "cuda"))

from figures import hot  # noqa: E402

pytestmark = pytest.mark.skipif(
    not EMULATED, reason="the emulator is built and tried by make test-emulated"
)

RECORD = """
import sys
import torch
sys.path.append("csrc/cuda")
import fsc_ext
from figures import model
from figures.launches import Recorder
from figures.operations import Shape, works
from figures.hot import TENSOR_CORES, short_name
with Recorder(TENSOR_CORES, {multiprocessors}) as recorder:
    for work in works(recorder, (Shape(16, 8, 3),)):
        figures = model.figures_of(work, None)
        for launch in work.recorded.launches:
            print(work.name, short_name(launch.kernel), *launch[1:], sep="|")
        print(work.name, "=", figures["launches"], figures["bytes_ratio"], sep="|")
values = torch.tensor([3.0, -1.0])
print(fsc_ext.prox_l1(values, 1.0).tolist())
"""


def recorded(multiprocessors: int) -> list[str]:
    call = [sys.executable, "-c", RECORD.format(multiprocessors=multiprocessors)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_launches_are_written_down_and_not_run() -> None:
    *lines, afterwards = recorded(132)
    assert afterwards == "[2.0, 0.0]"  # launches run again
    operations = {line.split("|")[0] for line in lines}
    assert operations == {"forward", "gradient", "relu step", "quadratic step", "gram", "topk"}
    launches = [line.split("|") for line in lines if "|=|" not in line]
    for operation, kernel, *numbers in launches:
        blocks_x, blocks_y, threads, _, _, buffers, products, _, _ = map(
            int, [str(int(n == "True")) if n in ("True", "False") else n for n in numbers]
        )
        assert blocks_x * blocks_y >= 1 and threads % 32 == 0 and buffers > 0
        if kernel.split("<")[0] in hot.TENSOR_CORES:
            assert products > 0, (operation, kernel)
    image, weight = 3 * 16 * 8 * 8 * 4, 16 * 16 * 9 * 4
    # One multiprocessor has nothing to split.
    forward = next(line.split("|") for line in recorded(1) if line.startswith("forward|layer_"))
    # Both inputs and the residual, both weights; biases and sums are small.
    assert 0 <= int(forward[7]) - (3 * image + 2 * weight) < 2048


def test_the_recorded_device_has_as_many_multiprocessors_as_asked() -> None:
    def together(lines: list[str]) -> set[str]:
        return {line for line in lines if "resident" in line}

    assert together(recorded(2)) != together(recorded(132))


CHOICE = """
import sys
import torch
sys.path.append("csrc/cuda")
from figures import model
from figures.launches import Recorder
from figures.operations import Shape, layer
torch.backends.cudnn.allow_tf32 = {tf32}
with Recorder(set(), 132) as recorder:
    for work in layer(recorder, Shape(*{shape})):
        fused = any("layer_kernel" in launch.kernel or "weight_gradient_kernel" in launch.kernel
                    for launch in work.recorded.launches)
        print(fused)
"""


@pytest.mark.parametrize(
    ("shape", "tf32", "fused"),
    [
        ((64, 8, 50), True, (True, True)),
        ((64, 8, 500), True, (False, False)),
        ((64, 56, 50), False, (True, True)),
        ((128, 16, 50), False, (True, False)),
        ((512, 2, 50), False, (True, True)),
    ],
)
def test_the_layer_and_its_gradient_are_fused_where_that_was_faster(
    shape: tuple[int, ...], tf32: bool, fused: tuple[bool, bool]
) -> None:
    call = [sys.executable, "-c", CHOICE.format(tf32=tf32, shape=shape)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(each) for each in fused]

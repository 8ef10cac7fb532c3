"""How benchmarks are timed, warmed up: one thread and process CPU time, or a GPU's own clock."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
if not list((_ROOT / "fsc_ext").glob("_C*.so")):
    # After a plain `pip install .` the source folder would shadow the installed package.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT]

import pytest  # noqa: E402
import torch  # noqa: E402
from pytest_benchmark.fixture import BenchmarkFixture  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", choices=["cpu", "cuda"], help="where to measure")


def pytest_configure(config: pytest.Config) -> None:
    # CPU time of the process does not see what else the machine is doing.
    on_cpu = config.getoption("device") == "cpu"
    if not on_cpu and not torch.cuda.is_available():
        raise pytest.UsageError("--device cuda needs a GPU and a torch built for CUDA")
    config.option.benchmark_timer = "time.process_time" if on_cpu else "device_clock.seconds"
    config.option.benchmark_warmup = "on"
    config.option.benchmark_disable_gc = True


@pytest.fixture(autouse=True)
def inputs_on_device(request: pytest.FixtureRequest) -> Iterator[ExitStack]:
    """Inputs on the device that was asked for; convolutions and products in full float32."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False
    with ExitStack() as stack:
        stack.enter_context(torch.device(request.config.getoption("device")))
        yield stack
    torch.set_num_threads(threads)


@pytest.fixture
def run(benchmark: BenchmarkFixture, inputs_on_device: ExitStack) -> Callable[..., object]:
    """Times a function under a group: `run(group, function, *arguments)`."""

    def timed(group: str, function: Callable[..., object], *arguments: object) -> object:
        # What places the inputs looks at every call of torch, which takes time.
        inputs_on_device.close()
        benchmark.group = group
        benchmark.extra_info["threads"] = torch.get_num_threads()
        return benchmark(function, *arguments)

    return timed

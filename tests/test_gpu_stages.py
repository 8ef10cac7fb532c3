"""The stages of bench/gpu.py, which needs a GPU itself: run in order, limited, taken up again."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu", ROOT / "bench" / "gpu.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu"] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


def script(gpu: ModuleType, name: str, code: str) -> object:
    return gpu.Stage(name, [sys.executable, "-c", code])


def test_a_stage_that_passed_is_run_again_only_on_other_sources(
    gpu: ModuleType, tmp_path: Path
) -> None:
    count = "import pathlib; p = pathlib.Path(r'{folder}/count'); "
    count += "p.write_text(p.read_text() + 'x' if p.exists() else 'x')"
    stages = [script(gpu, "counted", count), script(gpu, "bad", "raise SystemExit(3)")]
    for identity, runs in (("one", "x"), ("one", "x"), ("two", "xx")):
        found = gpu.run_all(stages, tmp_path, 60, identity)
        assert (tmp_path / "count").read_text() == runs
        assert [each.result for each in found.values()] == ["passed", "failed"]
    assert "| counted | passed |" in (tmp_path / "results.md").read_text()


def test_a_stage_ends_at_its_limit_with_what_it_started(gpu: ModuleType, tmp_path: Path) -> None:
    child = "import subprocess, sys, time; print('begun', flush=True); "
    child += "subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    found = gpu.run_all([script(gpu, "long", child)], tmp_path, 2, "one")
    assert found["long"].result == "stopped at its limit" and found["long"].seconds < 60
    assert (tmp_path / "long.log").read_text() == "begun\n"


def test_nothing_is_measured_of_a_build_that_failed(gpu: ModuleType, tmp_path: Path) -> None:
    stages = [gpu.Stage("build", ["no-such-compiler"]), script(gpu, "after", "")]
    assert list(gpu.run_all(stages, tmp_path, 60, "one")) == ["build"]
    assert (tmp_path / "build.log").read_text() == "no-such-compiler was not found\n"


def test_results_of_other_sources_say_so(gpu: ModuleType, tmp_path: Path) -> None:
    gpu.run_all([script(gpu, "first", "")], tmp_path, 60, "one")
    gpu.run_all([script(gpu, "second", "")], tmp_path, 60, "two")
    page = (tmp_path / "results.md").read_text()
    assert "| first | passed, of other sources |" in page and "| second | passed |" in page


def test_sources_are_told_apart_by_what_they_hold(gpu: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "csrc").mkdir()
    kernel = tmp_path / "csrc" / "kernel.cu"
    kernel.write_text("a")
    before = gpu.sources(tmp_path)
    kernel.write_text("b")
    assert gpu.sources(tmp_path) != before
    kernel.write_text("a")
    (tmp_path / "csrc" / "compiled.o").write_text("c")
    assert gpu.sources(tmp_path) == before


def test_every_stage_calls_what_is_there(gpu: ModuleType) -> None:
    for stage in gpu.STAGES:
        for part in stage.command:
            if part.endswith(".py") and not part.startswith("/"):
                assert (ROOT / part).is_file(), f"{stage.name}: {part}"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing"], "stage must be one of build, operators"),
        (["--limit", "0"], "--limit must be above 0, got 0"),
        ([], "gpu: there is no GPU that this torch can use"),
    ],
)
def test_bad_calls_get_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    if torch.cuda.is_available() and not arguments:
        pytest.skip("there is a GPU")
    command = [sys.executable, str(ROOT / "bench" / "gpu.py"), str(tmp_path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and sentence in done.stderr

"""What pip calls: the torch that is compiled against, what is missing, what is packed."""

import os
import re
import runpy
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
BUILDING = ROOT / "csrc" / "building"
sys.path.append(str(BUILDING))

import build_backend  # noqa: E402
import build_cuda  # noqa: E402
import build_narration  # noqa: E402
import build_torch  # noqa: E402

CHECK = runpy.run_path(str(ROOT / "tests" / "install" / "check.py"), run_name="check")


def isolated(code: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    """Run code as pip's isolation does: the environment's packages are not on the path."""
    hide = (
        "import sys; sys.path = [f for f in sys.path if not f.endswith('-packages')]; "
        f"sys.path[:0] = {[str(folder) for folder in [*folders, BUILDING]]}; "
    )
    return subprocess.run(
        [sys.executable, "-c", hide + code], cwd=ROOT, capture_output=True, text=True
    )


def distribution(folder: Path, name: str, version: str) -> Path:
    """A package of which nothing but the name and the version is true."""
    metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / name).mkdir()
    (folder / name / "version.py").touch()
    return folder


def test_isolation_does_not_hide_the_torch_of_the_environment() -> None:
    done = isolated("import build_torch; print(build_torch.torch_at_hand())")
    assert done.stdout.strip() == torch.__version__, done.stderr


def test_a_torch_is_fetched_only_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_backend.get_requires_for_build_wheel() == []
    monkeypatch.setattr(build_torch.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(build_torch, "environment_folders", lambda: [])
    assert build_backend.get_requires_for_build_editable() == [build_torch.FETCHED]
    with pytest.raises(SystemExit, match="needs torch, and this environment has none"):
        build_torch.require_torch()


def test_a_torch_that_is_too_old_stays_and_is_named(tmp_path: Path) -> None:
    folder = distribution(tmp_path, "torch", "2.10.1")
    call = f"import build_torch; build_torch.environment_folders = lambda: [{str(folder)!r}]; "
    done = isolated(call + "build_torch.torch_at_hand()")
    assert done.stderr.startswith("fsc-ext: torch must be 2.11 or newer, this environment has 2.10")
    assert done.stderr.count("\n") == 1 and done.returncode == 1


def test_a_missing_or_old_setuptools_is_one_sentence(tmp_path: Path) -> None:
    for folders, words in (
        ([], "has no"),
        ([distribution(tmp_path, "setuptools", "65.5.0")], "65.5"),
    ):
        for call in ("import build_backend", "import runpy; runpy.run_path('setup.py')"):
            done = isolated(call, *folders)
            assert words in done.stderr and 'pip install "setuptools>=77' in done.stderr
            assert done.stderr.count("\n") == 1 and done.returncode == 1


def test_a_wheel_asks_for_the_minor_version_compiled_against() -> None:
    assert build_torch.runtime_requirement("2.13.1+cpu") == "torch>=2.13,<2.14"


def test_every_torch_in_the_range_stands_in_the_table_of_the_docs() -> None:
    minors = [build_torch.minor_version(version) for version in CHECK["VERSIONS"]]
    first, last = build_torch.OLDEST[1], build_torch.NEWEST[1]
    assert minors == [(2, minor) for minor in range(first, last + 1)]
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    result = {"outcome": "passed", "date": "2000-01-01"}
    tried = {f"{v} {path}": result for v in CHECK["VERSIONS"] for path in CHECK["PATHS"]}
    count = len(minors) * len(CHECK["PATHS"])
    assert CHECK["recorded"](page, tried).count("| passed 2000-01-01") == count
    assert CHECK["recorded"](page, {}) == page


@pytest.fixture
def toolkit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A torch for CUDA 13.0 and a toolkit beside it, without a GPU."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(build_cuda, "toolkit_version", lambda: "13.1")
    monkeypatch.setattr(build_cuda.cpp_extension, "library_paths", lambda device: [str(tmp_path)])
    (tmp_path / "libcudart.so").write_text("")  # an empty script of the linker
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name in ("FSC_CUDA", "FSC_CUDA_ARCHS", "TORCH_CUDA_ARCH_LIST"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_cuda_is_decided_by_torch_and_the_toolkit(toolkit: pytest.MonkeyPatch) -> None:
    assert build_cuda.decision()[0]
    toolkit.setenv("FSC_CUDA", "0")
    assert build_cuda.decision() == (False, "FSC_CUDA=0")
    toolkit.setenv("FSC_CUDA", "yes")
    with pytest.raises(SystemExit, match="FSC_CUDA must be 0 or 1 when it is set, got 'yes'"):
        build_cuda.decision()
    toolkit.setenv("FSC_CUDA", "1")
    toolkit.setattr(build_cuda, "toolkit_version", lambda: None)
    with pytest.raises(SystemExit, match="FSC_CUDA=1 asks for the CUDA kernels, but no CUDA tool"):
        build_cuda.decision()
    toolkit.delenv("FSC_CUDA")
    assert not build_cuda.decision()[0]
    toolkit.setattr(build_cuda, "toolkit_version", lambda: "12.4")
    with pytest.raises(SystemExit, match=r"built for CUDA 13\.0.* is 12\.4.*FSC_CUDA=0"):
        build_cuda.decision()


def test_a_toolkit_that_cannot_be_linked_with_ends_the_build_at_once(
    toolkit: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "libcudart.so").write_text("neither a library nor a script")
    with pytest.raises(SystemExit, match=r"no libcudart to link with.*FSC_CUDA=0 builds without"):
        build_cuda.decision()


def test_the_toolkit_is_where_nvcc_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f"#!/bin/sh\necho '#$ TOP={tmp_path}/cuda/bin/..' >&2\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)
    build_cuda.name_toolkit()
    assert os.environ["CUDA_HOME"] == str(tmp_path / "cuda")
    monkeypatch.setenv("CUDA_HOME", "/elsewhere")
    build_cuda.name_toolkit()
    assert os.environ["CUDA_HOME"] == "/elsewhere"


def test_without_a_gpu_only_the_newest_generation_is_compiled(toolkit: pytest.MonkeyPatch) -> None:
    names, why = build_cuda.architectures()
    assert names == "12.0+PTX" and "no GPU is visible" in why and "FSC_CUDA_ARCHS=all" in why
    toolkit.setattr(torch.version, "cuda", "12.6")
    assert build_cuda.architectures()[0] == "9.0+PTX"
    toolkit.setattr(torch.version, "cuda", "13.0")
    toolkit.setenv("FSC_CUDA_ARCHS", "all")
    assert build_cuda.architectures()[0] == "8.0;9.0;10.0;12.0+PTX"
    assert build_cuda.threads_of_nvcc("8.0;9.0;10.0;12.0+PTX") == ["--threads=2"]
    assert build_cuda.threads_of_nvcc("9.0+PTX") == build_cuda.threads_of_nvcc(None) == []
    toolkit.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    assert build_cuda.architectures() == ("9.0", "TORCH_CUDA_ARCH_LIST")
    toolkit.setenv("FSC_CUDA_ARCHS", "9.0")
    with pytest.raises(SystemExit, match="FSC_CUDA_ARCHS must be all when it is set, got '9.0'"):
        build_cuda.architectures()


def test_visible_gpus_are_compiled_for(toolkit: pytest.MonkeyPatch) -> None:
    toolkit.setattr(torch.cuda, "device_count", lambda: 2)
    toolkit.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    assert build_cuda.architectures() == (None, "the visible GPUs are 9.0")
    toolkit.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
    with pytest.raises(SystemExit, match=r"capability 8\.0 or newer, visible are 7\.5"):
        build_cuda.architectures()


def test_a_build_names_each_file_and_keeps_what_the_compiler_says(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_narration, "SILENCE", 0.1)
    lines = (
        "[1/2] c++ -MMD -O3 -c /some/where/csrc/cpu/fold.cpp -o fold.o",
        "csrc/cpu/fold.cpp:3:1: warning: c++ -O3 is mentioned",
        "g++ -pthread -shared fold.o -o _C.so",
    )
    with build_narration.narrated(2):
        for line in lines:
            subprocess.run(["echo", line], check=True)
        subprocess.run(["sleep", "0.3"], check=True)
    said = capfd.readouterr().out.splitlines()
    assert said[:3] == ["[1/2] csrc/cpu/fold.cpp", lines[1], "fsc_ext: linking"]
    assert said[3] == "fsc_ext: 1 of 2 files, 0 s"


def test_an_editable_installation_is_a_list_of_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_setuptools(folder: str, *settings: Any) -> str:
        with zipfile.ZipFile(Path(folder) / "some.whl", "w") as wheel:
            wheel.writestr("__editable___some_finder.py", "")
            wheel.writestr("__editable__.some.pth", "import __editable___some_finder")
            wheel.writestr("some.dist-info/METADATA", "Name: some")
            wheel.writestr("some.dist-info/RECORD", "")
        return "some.whl"

    monkeypatch.setattr(build_backend, "_build_editable", by_setuptools)
    with zipfile.ZipFile(tmp_path / build_backend.build_editable(str(tmp_path))) as wheel:
        kept = {"fsc_ext_sources.pth", "some.dist-info/METADATA", "some.dist-info/RECORD"}
        assert set(wheel.namelist()) == kept
        assert wheel.read("fsc_ext_sources.pth").decode() == f"{ROOT}\n{ROOT / 'python'}\n"
        record = wheel.read("some.dist-info/RECORD").decode()
    assert {line.split(",")[0] for line in record.splitlines()} == kept


def test_the_source_distribution_holds_the_repository_and_needs_no_torch(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("there is no repository to compare with")
    call = ["setup.py", "-q", "sdist", "-d", str(tmp_path)]
    code = f"import runpy, sys; sys.modules['torch'] = None; sys.argv = {call}; "
    run = f"{code} runpy.run_path('setup.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", run], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(tmp_path.glob("fsc_ext-*.tar.gz"))) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    left_out = set(tracked.split()) - names
    assert all(re.match(r"\.(ci|github|gitignore)", name) for name in left_out), left_out
    assert not any(name.endswith(".so") for name in names)


def test_the_demo_installs_no_linters() -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "--always-make", "demo"], cwd=ROOT, capture_output=True, text=True
    )
    assert "setup.py -q build_ext" in shown.stdout
    assert not re.search(r"lint|pytest|install -q", shown.stdout)
    # pip is silent for minutes: each call of it stands beside a word every 15 s.
    calls = [line for line in shown.stdout.splitlines() if "pip install" in line]
    assert len(calls) == 2 and all("while sleep 15" in line for line in calls)
    assert len(re.findall(r'^echo "[123]/3 ', shown.stdout, re.M)) == 3

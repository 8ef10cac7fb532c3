"""The build: one list of sources, one-way imports, versions compared."""

import ast
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

import fsc
import fsc_ext
from fsc_ext._version import (
    compiled_against,
    require_matching_cuda,
    require_matching_torch,
)

ROOT = Path(__file__).resolve().parents[1]


def test_the_list_of_sources_is_what_lies_in_csrc() -> None:
    listed = (ROOT / "csrc" / "sources.txt").read_text(encoding="utf-8").split()
    present = [
        path.relative_to(ROOT).as_posix()
        for suffix in ("cpp", "cu")
        for folder in ("cpu", "cuda", ".")
        for path in (ROOT / "csrc" / folder).glob(f"*.{suffix}")
    ]
    assert sorted(listed) == sorted(present)


def test_both_builds_read_that_list() -> None:
    for name in ("csrc/building/build_extension.py", "CMakeLists.txt"):
        assert "sources.txt" in (ROOT / name).read_text(encoding="utf-8")


def test_build_info_says_how_it_was_built() -> None:
    info = fsc_ext.build_info()
    assert str(info["torch"]).split(".")[:2] == torch.__version__.split(".")[:2]
    assert isinstance(info["cuda"], bool)
    assert info["cuda_reason"]


def test_another_minor_version_of_torch_is_refused_with_the_remedy() -> None:
    require_matching_torch("2.13.0", "2.13.1+cpu")
    with pytest.raises(ImportError, match=r"against torch 2\.13\.0, but torch 2\.14\.0 is running"):
        require_matching_torch("2.13.0", "2.14.0")


def test_kernels_for_another_cuda_are_refused_with_the_remedy() -> None:
    require_matching_cuda("", None)
    require_matching_cuda("", "12.6")
    require_matching_cuda("13.0", "13.2")
    with pytest.raises(ImportError, match=r"for CUDA 13\.0, but torch for CUDA 12\.6 is"):
        require_matching_cuda("13.0", "12.6")
    with pytest.raises(ImportError, match=r"CUDA 13\.0, but a torch for the CPU alone is running"):
        require_matching_cuda("13.0", None)


def test_versions_are_compared_before_the_module_is_loaded(tmp_path: Path) -> None:
    module = Path(str(importlib.util.find_spec("fsc_ext._C").origin))
    package = tmp_path / "fsc_ext"
    shutil.copytree(module.parent, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    # No loader would take this file.
    (package / module.name).write_bytes(b"fsc_ext was compiled against torch [2.99.0] CUDA []")
    done = subprocess.run(
        [sys.executable, "-c", "import fsc_ext"], cwd=tmp_path, capture_output=True, text=True
    )
    expected = f"against torch 2.99.0, but torch {torch.__version__} is running"
    assert expected in done.stderr.splitlines()[-1]


def test_the_compiled_module_says_what_it_was_compiled_against() -> None:
    versions = compiled_against(Path(str(importlib.util.find_spec("fsc_ext._C").origin)))
    assert versions[0] == fsc_ext.build_info()["torch"]
    assert bool(versions[1]) == fsc_ext.build_info()["cuda"]


def test_both_packages_know_their_version() -> None:
    assert fsc.__version__ == fsc_ext.__version__ == importlib.metadata.version("fsc-ext")


def test_operators_import_without_the_methods(tmp_path: Path) -> None:
    code = "import sys; sys.modules['fsc'] = None; import fsc_ext; fsc_ext.build_info()"
    # Elsewhere than in the root, whose source folder would shadow a plain installation.
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0


def _imports(path: Path) -> set[str]:
    """Every module that a file imports, with the names taken from it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_methods_never_reach_past_the_operators() -> None:
    for path in (ROOT / "python" / "fsc").rglob("*.py"):
        assert "torch.ops" not in path.read_text(encoding="utf-8"), path
        assert not [name for name in _imports(path) if name.startswith("fsc_ext._")], path


def test_operators_never_import_the_methods() -> None:
    for path in (ROOT / "fsc_ext").glob("*.py"):
        assert not [name for name in _imports(path) if name.split(".")[0] == "fsc"], path


def test_every_schema_has_an_implementation_and_a_public_function() -> None:
    registered = {
        name.removeprefix("fsc_ext::")
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("fsc_ext::")
    }
    public = {name for name in registered if not name.endswith("_backward")}
    assert public == set(fsc_ext.__all__) - {"build_info"}
    for name in registered:
        keys = ("CPU", "CompositeExplicitAutograd", "CompositeImplicitAutograd")
        has = torch._C._dispatch_has_kernel_for_dispatch_key
        assert any(has(f"fsc_ext::{name}", key) for key in keys), name


def test_pinned_versions_satisfy_what_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    runtime = next(
        ast.literal_eval(node.value)
        for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "RUNTIME"
    )
    extras = project["project"]["optional-dependencies"]
    installed = [text for extra in ("test", "lint", "docs", "onnx") for text in extras[extra]]
    for text in [*project["build-system"]["requires"], *runtime, *installed]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[requirement.name]), text


# From top to bottom: a room imports from those behind it only.
ROOMS = (
    "__init__ __main__ cli exporting model_folder model_card sweeping iterative_pruning "
    "compression request goal result method_names methods report schemes walking training "
    "channels networks layers images solvers scheme_tables models files arguments progress "
    "version warning ranks lazy"
).split()


def test_rooms_import_downwards_only() -> None:
    root = ROOT / "python" / "fsc"
    rank = {name: index for index, name in enumerate(ROOMS)}
    for path in root.rglob("*.py"):
        room = path.relative_to(root).parts[0].removesuffix(".py")
        for name in _imports(path):
            parts = name.split(".")
            target = parts[1] if parts[0] == "fsc" and len(parts) > 1 else room
            if target in rank:  # not a name that `fsc` itself offers
                assert rank[target] >= rank[room], f"{path} imports {name}"

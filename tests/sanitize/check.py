"""Runs the operators' tests on builds that watch memory, undefined behaviour and threads.

python tests/sanitize/check.py [address | emulated | threads ...] [--tests PATH ...]

`address` has the CPU kernels under AddressSanitizer and UndefinedBehaviorSanitizer, `emulated` the
source of the CUDA kernels under the same, `threads` the CPU kernels under ThreadSanitizer, on
threads that it sees (threads.cpp). Needs GCC with its sanitizers, on Linux. Everything lies in
build/sanitized; what has been found is in KIND.txt there, and fails the command. Tests that compile
with torch.compile are left out: the compiler would be watched with them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "sanitized"
SLOW = ["-O1", "-g1", "-fno-omit-frame-pointer", "-D_GLIBCXX_ASSERTIONS"]
# Types of torch that it hides cannot be asked for (vptr).
MEMORY = ["-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize=vptr"]
MEMORY += ["-fsanitize-recover=all"]
PYTEST = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(ROOT), "-k", "not compile"]
PYTEST += ["-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "--benchmark-disable"]
TESTS = ["tests/ops", "tests/campaign/test_operators.py"]
SIGNS = re.compile(
    r"(?P<place>\S+:\d+):\d+: (?P<undefined>runtime error: .*)"
    r"|(?:ERROR|WARNING): (?P<other>(?:Address|Thread)Sanitizer: .*?)(?: on .*| \(.*)?$",
    re.MULTILINE,
)
PLACE = re.compile(r"(?<!torch/)\bcsrc/\S+?:\d+")  # and no header of torch


@dataclass(frozen=True)
class Kind:
    """A way to watch: what is compiled with it, what Python is started with."""

    folder: Path  # of what is compiled
    flags: list[str]
    libraries: list[str]  # in front of all others, as the sanitizers ask for
    options: dict[str, str]
    emulated: bool = False
    threads: int = 1


def _memory(emulated: bool) -> Kind:
    address = "detect_leaks=0:halt_on_error=0:allocator_may_return_null=1:detect_odr_violation=0"
    options = {"ASAN_OPTIONS": address, "UBSAN_OPTIONS": "print_stacktrace=1"}
    libraries = ["libasan.so", "libubsan.so", "libstdc++.so.6"]
    return Kind(BUILD / "address", MEMORY, libraries, options, emulated)


KINDS = {
    "address": _memory(emulated=False),
    "emulated": _memory(emulated=True),
    # What is not compiled with it, Python and torch, is not watched: its locks would not be seen.
    # GCC warns of a fence in a header of torch that the sanitizer does not understand.
    "threads": Kind(
        BUILD / "threads",
        ["-fsanitize=thread"],
        ["libtsan.so", "libstdc++.so.6"],
        {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1:report_signal_unsafe=0:exitcode=0"},
        threads=3,
    ),
}


def build(name: str) -> None:
    """Compiles what has changed into the folder of this kind, the Python files beside it."""
    os.environ["FSC_CUDA"] = "0"
    sys.path[:0] = [str(ROOT / "csrc" / "building"), str(ROOT / "csrc" / "emulation")]
    from build_extension import Compile, extension
    from setuptools import Distribution
    from torch.utils.cpp_extension import CppExtension

    # By its text: to ruff a folder of that name makes it one of our packages.
    emulation = importlib.import_module("build")

    kind, folder = KINDS[name], KINDS[name].folder
    os.chdir(ROOT)
    module = extension()
    modules = [module]
    module.extra_compile_args = {"cxx": [*module.extra_compile_args["cxx"], *SLOW, *kind.flags]}
    module.extra_link_args = kind.flags[:1]  # and no -s: findings name lines
    if kind.threads > 1:
        module.sources.append("tests/sanitize/threads.cpp")
    if kind.emulated:
        flags = {"cxx": [*emulation.FLAGS, *SLOW, *kind.flags]}
        library = CppExtension(
            "fsc_emulated", emulation.sources(folder), include_dirs=[str(ROOT / "csrc")],
            extra_compile_args=flags, extra_link_args=kind.flags[:1],
        )  # fmt: skip
        library.notes = []
        modules.append(library)
    for each in modules:
        command = Compile(Distribution({"ext_modules": [each]}))
        command.ensure_finalized()
        command.build_temp, command.build_lib = str(folder / "objects" / each.name), str(folder)
        command.run()
    for path in (ROOT / "fsc_ext").glob("*.py"):
        shutil.copy(path, folder / "fsc_ext")


def _environment(name: str) -> dict[str, str]:
    """Of the process that is watched."""
    kind, folder = KINDS[name], KINDS[name].folder
    compiler = os.environ.get("CXX", "g++")
    ask = [[compiler, f"-print-file-name={library}"] for library in kind.libraries]
    found = [subprocess.run(each, capture_output=True, text=True).stdout.strip() for each in ask]
    emulated = {"FSC_EMULATE": str(next(folder.glob("fsc_emulated*.so")))} if kind.emulated else {}
    return {
        **{key: value for key, value in os.environ.items() if key != "FSC_EMULATE"},
        **kind.options,
        **emulated,
        "LD_PRELOAD": " ".join(found),
        "OMP_NUM_THREADS": str(kind.threads),
        "PYTEST_ADDOPTS": "-s",  # what is found is told on stderr, by tests of tests too
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "python")]),
    }


def findings(text: str) -> Counter[str]:
    """What the sanitizers say and of which line of csrc, each with how often."""
    found: Counter[str] = Counter()
    signs = list(SIGNS.finditer(text))
    ends = [*(sign.start() for sign in signs[1:]), len(text)]
    for sign, end in zip(signs, ends[: len(signs)], strict=True):
        words = text[sign.start() : end]
        place = PLACE.search(words)
        sentence = sign["undefined"] or sign["other"]
        found[f"{place.group() if place else sign['place'] or 'elsewhere'}: {sentence}"] += 1
    return found


def watched(name: str, tests: list[str]) -> bool:
    """Runs the tests on a build; returns whether all passed and nothing was found."""
    folder, told = KINDS[name].folder, BUILD / f"{name}.txt"
    environment, start = _environment(name), time.monotonic()
    python = [sys.executable, "-c", "import fsc_ext; print(fsc_ext._C.__file__)"]
    used = subprocess.run(python, env=environment, capture_output=True, text=True, cwd=folder)
    if str(folder) not in used.stdout:
        raise SystemExit(f"sanitize: {folder} is not what is imported: {used.stdout}{used.stderr}")
    # In the folder, where no fsc_ext of the working tree is in front.
    with open(told, "w") as words:
        pytest = subprocess.run([*PYTEST, *tests], env=environment, cwd=folder, stderr=words)
    found = findings(told.read_text(errors="replace"))
    for sentence, count in found.most_common():
        print(f"{name}: {count} times {sentence}")
    minutes = (time.monotonic() - start) / 60
    print(f"{name}: {found.total()} findings in {minutes:.0f} minutes; words in {told}")
    return pytest.returncode == 0 and not found


def main() -> None:
    """Builds and runs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}; all by default")
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="PATH")
    given = parser.parse_args()
    kinds = given.kinds or list(KINDS)
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"KIND must be one of {', '.join(KINDS)}, got {', '.join(sorted(unknown))}")
    for name in kinds:
        KINDS[name].folder.mkdir(parents=True, exist_ok=True)
        build(name)
    tests = [str(ROOT / path) for path in given.tests]
    clean = [watched(name, tests) for name in kinds]
    sys.exit(not all(clean))


if __name__ == "__main__":
    main()

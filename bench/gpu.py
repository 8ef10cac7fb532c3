"""What only a machine with a GPU can tell, stage by stage, into one folder of results.

python bench/gpu.py FOLDER [STAGE ...]

Builds for the GPU at hand with the Python that runs it, which has torch for CUDA, nvcc and pytest
with its plugins; nothing is fetched. Each stage ends after its limit at the latest. A stage that
passed is not run again until the sources change, so that the call goes on where another stopped;
the others are. FOLDER/results.md has everything; each stage's own words are in FOLDER/STAGE.log.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("csrc", "fsc_ext", "python", "tests/ops", "bench", "setup.py")
PYTEST = [sys.executable, "-m", "pytest", "-q", "--benchmark-disable"]
SANITIZER = ["compute-sanitizer", "--error-exitcode", "1", "--tool"]
# Kernels, without what torch compiles by itself.
SANITIZED = [*PYTEST, "-x", "-k", "cuda and not compile"]
# A file a process, so that a stage that was stopped has others behind it that passed.
KERNEL_TESTS = sorted(path.name for path in (ROOT / "tests" / "ops").glob("test_*.py"))
LIMIT = 570  # seconds


@dataclass(frozen=True)
class Stage:
    """One command; `{folder}` in it is the folder of results."""

    name: str
    command: Sequence[str]


STAGES = (
    Stage("build", [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]),
    Stage("operators", [*PYTEST, "-n", "8", "--dist", "worksteal", "tests/ops"]),
    Stage("streams", [*PYTEST, "tests/ops/test_streams.py"]),
    Stage("machine", [sys.executable, "bench/machine.py", "cuda"]),
    Stage(
        "layers",
        [sys.executable, "bench/device_layers.py", "--json", "{folder}/layers.json"],
    ),
    Stage(
        "bench",
        [
            *(sys.executable, "-m", "pytest", "-q", "bench", "--device=cuda", "--benchmark-only"),
            *("--benchmark-max-time=0.2", "--benchmark-json={folder}/bench.json"),
        ],
    ),
    *(
        Stage(f"{tool}-{name[5:-3]}", [*SANITIZER, tool, *SANITIZED, f"tests/ops/{name}"])
        for tool in ("memcheck", "racecheck")
        for name in KERNEL_TESTS
    ),
)


@dataclass(frozen=True)
class Found:
    """How a stage ended: "passed", "failed" or "stopped at its limit"."""

    result: str
    seconds: float
    date: str
    sources: str


def sources(root: Path = ROOT, machine: str = "") -> str:
    """SHA-256 of all that a stage depends on: the files, and the machine in words."""
    digest = hashlib.sha256(machine.encode())
    for top in SOURCES:
        path = root / top
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.suffix in (".py", ".h", ".cpp", ".cu", ".cuh", ".txt"):
                digest.update(file.relative_to(root).as_posix().encode() + b"\0")
                digest.update(file.read_bytes())
    return digest.hexdigest()


def run(stage: Stage, folder: Path, limit: float, identity: str) -> Found:
    """One stage with its words in a file; what it started ends with it."""
    command = [part.replace("{folder}", str(folder)) for part in stage.command]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "python"), str(ROOT)])}
    start = time.monotonic()
    with (folder / f"{stage.name}.log").open("w", encoding="utf-8") as log:
        try:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError:
            log.write(f"{command[0]} was not found\n")
            return _found("failed", start, identity)
        try:
            result = "passed" if process.wait(limit) == 0 else "failed"
        except subprocess.TimeoutExpired:
            result = "stopped at its limit"
        finally:
            _end(process)
    return _found(result, start, identity)


def _found(result: str, start: float, identity: str) -> Found:
    seconds = round(time.monotonic() - start, 1)
    return Found(result, seconds, datetime.date.today().isoformat(), identity)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _machine() -> str:
    """The GPU, what drives it, and what compiles for it."""
    import torch

    device = torch.cuda.get_device_properties(0)
    return f"{device}, torch {torch.__version__}, CUDA {torch.version.cuda}, {sys.version}"


def run_all(stages: Sequence[Stage], folder: Path, limit: float, identity: str) -> dict[str, Found]:
    """The stages in their order, but for those that passed on the same sources; all that is known.

    A build that does not pass ends it: the others would measure another one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "results.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    results = {name: Found(**entry) for name, entry in known.items()}
    for stage in stages:
        before = results.get(stage.name)
        if before and before.result == "passed" and before.sources == identity:
            print(f"{stage.name}: passed on {before.date}")
            continue
        print(f"{stage.name}: ", end="", flush=True)
        results[stage.name] = run(stage, folder, limit, identity)
        print(f"{results[stage.name].result}, {results[stage.name].seconds:.0f} s", flush=True)
        written = {name: asdict(found) for name, found in results.items()}
        _replace(kept, json.dumps(written, indent=1) + "\n")
        _replace(folder / "results.md", page(results, folder, identity))
        if stage.name == "build" and results[stage.name].result != "passed":
            break
    return results


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def page(results: dict[str, Found], folder: Path, identity: str) -> str:
    """The results as Markdown: a line a stage, what the machine can do, the benchmarks."""
    lines = ["| stage | result | seconds | date |", "|---|---|---|---|"]
    for name, found in results.items():
        old = "" if found.sources == identity else ", of other sources"
        lines.append(f"| {name} | {found.result}{old} | {found.seconds:.0f} | {found.date} |")
    machine, measured = folder / "machine.log", folder / "bench.json"
    if machine.is_file():
        lines += ["", "```", machine.read_text(encoding="utf-8").strip(), "```"]
    if (layers := folder / "layers.log").is_file():
        lines += ["", layers.read_text(encoding="utf-8").strip()]
    if measured.is_file() and measured.stat().st_size:
        command = [sys.executable, str(ROOT / "bench" / "table.py"), str(measured)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines += ["", (done.stdout or done.stderr).strip()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the stages that are asked for, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [stage.name for stage in STAGES]
    parser.add_argument("folder", type=Path, help="where results go, and are taken up from")
    parser.add_argument("stages", nargs="*", metavar="stage", help=", ".join(names))
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of a stage at most")
    asked = parser.parse_args()
    if unknown := [name for name in asked.stages if name not in names]:
        parser.error(f"stage must be one of {', '.join(names)}, got {unknown[0]!r}")
    if not asked.limit > 0:
        parser.error(f"--limit must be above 0, got {asked.limit:g}")
    import torch  # takes a second, which a wrong call need not wait for

    if not torch.cuda.is_available():
        raise SystemExit("gpu: there is no GPU that this torch can use")
    wanted = [stage for stage in STAGES if not asked.stages or stage.name in asked.stages]
    folder = asked.folder.resolve()
    results = run_all(wanted, folder, asked.limit, sources(machine=_machine()))
    print(f"Written: {folder / 'results.md'}")
    passed = [name for name, found in results.items() if found.result == "passed"]
    if bad := [stage.name for stage in wanted if stage.name not in passed]:
        raise SystemExit(f"gpu: not passed: {', '.join(bad)}")


if __name__ == "__main__":
    main()

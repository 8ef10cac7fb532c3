"""Installs the package in fresh environments: every torch, every path; prints a table.

python tests/install/check.py [--torch 2.13.0 ...] [--path plain ...] [--record]

A cell is a torch and a path. Cells that passed for this commit are not tried again, so that an
interrupted run goes on; --again tries all. The commit is installed, never the working tree. The
first cell of a torch starts in an empty environment; the next ones find that environment with
its torch. --record writes what has been tried into the table of docs/install.md. No kernels for
GPUs are compiled: a torch that was built for CUDA works, but takes several GB a cell.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "install"
PAGE = ROOT / "docs" / "install.md"
VERSIONS = ("2.11.0", "2.12.1", "2.13.0", "2.14.1", "2.15.0")
TOLD = re.compile(r"\s*(\[\d+/\d+\]|fsc_ext:|Successfully|ERROR|error)")

USE = """
import sys, torch, fsc, fsc_ext, fsc_ext.reference
assert torch.__version__.split("+")[0] == sys.argv[1], torch.__version__
x = torch.randn(4, 8)
assert torch.equal(fsc_ext.prox_l1(x, 0.1), fsc_ext.reference.prox_l1(x, 0.1))
print("fsc_ext:", fsc_ext.__version__, fsc_ext.build_info())
"""


class Environment:
    """A virtual environment of one torch, and the commit as a fresh clone beside it."""

    def __init__(self, torch: str) -> None:
        self.torch = torch
        self.folder = WORK / torch
        self.clone = self.folder / "clone"
        self.python = self.folder / "venv" / "bin" / "python"
        self.log = self.folder / "log.txt"

    def renew(self) -> None:
        """Start from an environment without torch."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.run(sys.executable, "-m", "venv", "venv")
        (self.folder / "constraints.txt").write_text(f"torch=={self.torch}\n", encoding="utf-8")

    def renew_clone(self) -> None:
        """Without what an earlier build left."""
        shutil.rmtree(self.clone, ignore_errors=True)
        self.run("git", "clone", "--quiet", str(ROOT), "clone")

    def pip(self, *arguments: str) -> None:
        """Run pip in the environment; torch is the cell's wherever pip chooses one."""
        self.run(str(self.python), "-m", "pip", *arguments)

    def run(self, *command: str) -> None:
        """Run a command, tell what matters of its output, keep the rest in a file.

        Raises:
            RuntimeError: it failed.
        """
        print("$", *command, flush=True)
        constraints = str(self.folder / "constraints.txt")
        settings = {"PIP_CONSTRAINT": constraints, "PIP_BUILD_CONSTRAINT": constraints}
        if not Path(constraints).is_file():
            settings = {}
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **settings, "FSC_CUDA": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        with self.log.open("a", buffering=1, encoding="utf-8") as log:
            for line in process.stdout:
                log.write(line)
                if TOLD.match(line):
                    print(" ", line.strip(), flush=True)
        if process.wait():
            raise RuntimeError(f"`{' '.join(command)}` failed: {self.log} has its output")


def plain(environment: Environment) -> None:
    """`pip install .` where nothing is installed."""
    environment.renew()
    environment.renew_clone()
    environment.pip("install", "-v", "./clone")


def beside(environment: Environment) -> None:
    """`pip install .` where there is a torch, which stays."""
    environment.renew_clone()
    environment.pip("install", "-v", "./clone")


def no_isolation(environment: Environment) -> None:
    """`pip install --no-build-isolation .` where there are torch and a setuptools, nothing else."""
    environment.renew_clone()
    environment.pip("install", "setuptools>=77,<82")
    environment.pip("install", "-v", "--no-build-isolation", "./clone")


def sdist(environment: Environment) -> None:
    """Source distribution, wheel, installation, each from what the one before has made."""
    environment.renew_clone()
    environment.pip("install", "build")
    environment.run(str(environment.python), "-m", "build", "--sdist", "clone", "--outdir", "made")
    (source,) = (environment.folder / "made").glob("*.tar.gz")
    environment.pip("wheel", "-v", "--no-deps", "--wheel-dir", "made", str(source))
    (wheel,) = (environment.folder / "made").glob("*.whl")
    environment.pip("install", str(wheel))


PATHS: dict[str, Callable[[Environment], None]] = {
    "plain": plain,
    "beside": beside,
    "no-isolation": no_isolation,
    "sdist": sdist,
}


def attempt(torch: str, path: str) -> dict[str, str]:
    """Install by one path and use what was installed."""
    environment = Environment(torch)
    start, installed = time.monotonic(), commit()
    try:
        if path != "plain" and not environment.python.is_file():
            environment.renew()
            environment.pip("install", f"torch=={torch}")
        shutil.rmtree(environment.folder / "made", ignore_errors=True)
        PATHS[path](environment)
        environment.run(str(environment.python), "-c", USE, torch)
        environment.run(str(environment.python.parent / "fsc"), "--version")
        environment.pip("check")
        outcome = "passed"
    except RuntimeError as error:
        print(error, flush=True)
        outcome = "failed"
    if environment.python.is_file():
        environment.pip("uninstall", "--yes", "fsc-ext")
    print(f"torch {torch}, {path}: {outcome} after {time.monotonic() - start:.0f} s", flush=True)
    return {"outcome": outcome, "date": datetime.date.today().isoformat(), "commit": installed}


def commit() -> str:
    """The commit that is installed."""
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def recorded(page: str, results: dict[str, dict[str, str]]) -> str:
    """The page with the cells that were tried written into its table; others stay as they are."""
    lines = page.splitlines()
    for index, line in enumerate(lines):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] not in VERSIONS:
            continue
        for column, path in enumerate(PATHS, start=1):
            if result := results.get(f"{cells[0]} {path}"):
                cells[column] = f"{result['outcome']} {result['date']}"
        lines[index] = f"| {' | '.join(cells)} |"
    return "\n".join(lines) + "\n"


def main() -> int:
    """Try the cells asked for; 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", nargs="+", default=VERSIONS, metavar="VERSION")
    parser.add_argument("--path", nargs="+", default=list(PATHS), choices=list(PATHS))
    parser.add_argument("--again", action="store_true", help="also what passed for this commit")
    parser.add_argument("--record", action="store_true", help="write the table of docs/install.md")
    chosen = parser.parse_args()
    kept = WORK / "results.json"
    results = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    failed = 0
    for torch in chosen.torch:
        for path in chosen.path:
            cell, done = f"{torch} {path}", {"outcome": "passed", "commit": commit()}
            if chosen.again or not done.items() <= results.get(cell, {}).items():
                results[cell] = attempt(torch, path)
                kept.write_text(json.dumps(results, indent=1), encoding="utf-8")
                if chosen.record:
                    PAGE.write_text(recorded(PAGE.read_text("utf-8"), results), encoding="utf-8")
            print(f"{torch:8} {path:14} {results[cell]['outcome']} {results[cell]['date']}")
            failed |= results[cell]["outcome"] != "passed"
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

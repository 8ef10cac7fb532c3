"""Compiles the device code for the host emulator: build/emulation/fsc_emulated.so.

python csrc/emulation/build.py

Loaded after fsc_ext, the library takes the place of the CPU kernels, so that every test of the
operators runs the source of the CUDA kernels (FSC_EMULATE=1 pytest tests/ops).
"""

from pathlib import Path

from torch.utils.cpp_extension import load

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "emulation"
FLAGS = ["-O2", "-std=c++20", "-ffp-contract=off", "-DFSC_EMULATE", "-Wall"]


def sources(folder: Path) -> list[str]:
    """The emulator, and one C++ file in the folder for each .cu, which includes it."""
    found = [str(path) for path in sorted((ROOT / "csrc" / "emulation").glob("*.cpp"))]
    listed = (ROOT / "csrc" / "sources.txt").read_text(encoding="utf-8").split()
    for name in listed:
        if not name.endswith(".cu"):
            continue
        wrapper = folder / f"{Path(name).stem}.cpp"
        text = f'#include "cuda/{Path(name).name}"\n'
        if not wrapper.is_file() or wrapper.read_text(encoding="utf-8") != text:
            wrapper.write_text(text, encoding="utf-8")
        found.append(str(wrapper))
    return found


def main() -> None:
    """Builds what has changed."""
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "lock").unlink(missing_ok=True)  # that a killed build left, and load() waits for
    load(
        "fsc_emulated",
        sources(BUILD),
        extra_include_paths=[str(ROOT / "csrc")],
        extra_cflags=FLAGS,
        build_directory=str(BUILD),
        is_python_module=False,
    )


if __name__ == "__main__":
    import fsc_ext  # noqa: F401  The schemas must be there before implementations of them load.

    main()

"""What the documents show runs: examples, code blocks, doctests."""

import doctest
import importlib
import pkgutil
import re
import runpy
from pathlib import Path

import pytest

import fsc
import fsc_ext
from fsc.networks.program_files import FORMATS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = [
    info.name
    for package in (fsc_ext, fsc)
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    if not info.name.endswith(("._C", ".__main__"))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_code_blocks_of_a_page_run_in_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    namespace: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        if ".onnx" in block:
            for package in FORMATS[".onnx"].packages:
                pytest.importorskip(package, reason="the block needs the extra onnx")
        if "import lightning" in block:
            pytest.importorskip("lightning", reason="the block needs the extra lightning")
        exec(compile(block, str(page), "exec"), namespace)
    assert "TODO" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_print_what_they_say(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_the_users_own_loop_lowers_its_loss() -> None:
    first, last = runpy.run_path(str(ROOT / "examples" / "own_loop.py"))["distill"](steps=60)
    assert last < 0.7 * first


def test_the_users_own_network_becomes_smaller(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "own_network.py"), run_name="__main__")
    before, after = re.findall(r"parameters (\d+) -> (\d+)", capsys.readouterr().out)[0]
    assert int(after) < int(before)


def test_readme_and_docs_show_the_whole_loop() -> None:
    for page in (ROOT / "README.md", ROOT / "docs" / "cross_distill_layer.md"):
        text = page.read_text(encoding="utf-8")
        assert "fsc_ext.cross_distill_layer(" in text and "loss.backward()" in text, page


def test_links_lead_to_files_and_places_in_them() -> None:
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        links = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", _without_code(page))
        for target, place in links:
            there = page.parent / target if target else page
            assert there.exists(), f"{page.name}: {target}"
            assert not place or place in _places(there), f"{page.name}: {target}#{place}"


def _without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def _places(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", _without_code(page), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def test_readme_says_what_an_installation_can_be_told() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for said in ("`FSC_CUDA=0`", "TORCH_CUDA_ARCH_LIST", "`fsc-ext`", "docs/install.md"):
        assert said in text

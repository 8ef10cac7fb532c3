"""The site: its navigation, its reference, and what is looked at once it is built."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

import fsc
import fsc.models
import fsc.schemes
import fsc.training
import fsc_ext

ROOT = Path(__file__).resolve().parents[1]
BUILDING = ROOT / "docs" / "building"


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BUILDING)
    return importlib.import_module("reference")


@pytest.fixture
def check(reference: ModuleType) -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_check", BUILDING / "check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _public() -> dict[str, object]:
    """What users call, by name: all that packages list, and what the modules of others define."""
    found = {
        f"{package.__name__}.{name}": getattr(package, name)
        for package in (fsc, fsc.schemes, fsc_ext)
        for name in package.__all__
        if not name.startswith("__")
    }
    rooms = [importlib.import_module(i.name) for i in _modules(fsc.training)]
    for module in (fsc.models, *rooms):
        for name, value in vars(module).items():
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__:
                found[f"{module.__name__}.{name}"] = value
    return found


def _modules(package: ModuleType) -> list[pkgutil.ModuleInfo]:
    return list(pkgutil.iter_modules(package.__path__, package.__name__ + "."))


def _named(name: str) -> object:
    """What a dotted name is, where packages may lie on the way to it."""
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def test_navigation_has_every_page_once() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- .*?([\w/]+\.md)$", text, re.M)
    pages = [p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted([*pages, "index.md", "CHANGELOG.md", "CONTRIBUTING.md"])


def test_reference_has_every_public_name_once(reference: ModuleType) -> None:
    listed = [name for page in reference.PAGES.values() for name in page.names]
    assert len(set(listed)) == len(listed)
    assert not set(_public()) - set(listed)


def test_what_the_reference_names_is_there_and_has_a_docstring(reference: ModuleType) -> None:
    for page in reference.PAGES.values():
        for name in page.names:
            value = _named(name)
            text = value.__doc__ or ""
            # Dataclasses without one are given their signature.
            generated = dataclasses.is_dataclass(value) and text.startswith(f"{value.__name__}(")
            assert text and not generated, name


def test_names_shared_with_a_module_lead_to_the_function(reference: ModuleType) -> None:
    for page in reference.PAGES.values():
        for name in page.names:
            value, identifier = _named(name), reference.identifier(name)
            if identifier != name:
                module, _, last = identifier.rpartition(".")
                assert value is getattr(importlib.import_module(module), last)
            assert inspect.ismodule(value) == (name in reference.MODULES), name


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="gone.html">x</a>', "page.html leads to gone.html, which is not there"),
        ('<a href="other.html#b">x</a>', "page.html leads to other.html#b, and there is no such"),
        ('<a href="#b">x</a>', "page.html leads to #b, and there is no such place"),
        ('<img src="gone.png">', "page.html leads to gone.png, which is not there"),
        ('<script src="https://a.example/b.js">', "page.html fetches https://a.example/b.js"),
        ("<p>.. math:: x</p>", "page.html shows the markup '.. math::'"),
        ("<p>the :math:`x` of</p>", "page.html shows the markup ':math:`'"),
        ('<a href="other.html#a">x</a> <a href="https://a.example">y</a> <code>=====</code>', None),
    ],
)
def test_a_built_site_is_looked_at(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, fault: str | None
) -> None:
    monkeypatch.setattr(check.reference, "PAGES", {})
    (tmp_path / "page.html").write_text(body, encoding="utf-8")
    (tmp_path / "other.html").write_text('<p id="a">a</p>', encoding="utf-8")
    found = list(check.faults(tmp_path))
    assert [f.startswith(fault or "") for f in found] == [True] * (fault is not None)


def test_styles_and_missing_names_of_a_built_site_are_told(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = check.reference.Page("Title", "Sentence.", ("fsc.compress", "fsc.sweep"))
    monkeypatch.setattr(check.reference, "PAGES", {"api/a.md": page})
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "a.html").write_text('<h2 id="fsc.sweep">x</h2>', encoding="utf-8")
    (tmp_path / "a.css").write_text("a {src: url(//a.example/font)}", encoding="utf-8")
    assert list(check.faults(tmp_path)) == [
        "a.css fetches //a.example/font",
        "api/a.html does not document fsc.compress",
    ]


def test_columns_of_numbers_are_marked_and_their_cells_unbroken(
    reference: ModuleType,
) -> None:
    tables = importlib.import_module("tables")
    rows = (
        ("l1", "78.40", "0.72 to 1.7", "3 of them"),
        ("<code>fskd</code>", "<strong>90.03&nbsp;±&nbsp;0.11 (87.53)</strong>", "5 s", ""),
        ("8", "", "4.56e+03", "2"),
    )
    heads = "".join(f"<th>{name}</th>" for name in ("method", "top-1 %", "seconds", "notes"))
    body = "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in row)}</tr>" for row in rows)
    made = tables.aligned(f"<p>1</p><table><tr>{heads}</tr>{body}</table>")
    styled = tables.aligned(f"<table><tr>{heads}</tr>{body}</table>".replace("<td>", '<td id="a">'))
    assert styled == f"{made[8:]}".replace("<td", '<td id="a"')
    assert re.findall(r'<th class="number">(.*?)</th>', made) == ["top-1 %", "seconds"]
    assert re.findall(r'<td class="number">(.*?)</td>', made) == [
        "78.40",
        "0.72&nbsp;to&nbsp;1.7",
        "<strong>90.03&nbsp;±&nbsp;0.11 (87.53)</strong>",
        "5&nbsp;s",
        "",
        "4.56e+03",
    ]


def test_words_of_commands_stay_whole(reference: ModuleType) -> None:
    pytest.importorskip("mkdocs")
    hooks = importlib.import_module("hooks")
    block = (
        '<div class="language-sh highlight"><pre><span></span><code><span>fsc</span>{}</code></pre>'
    )
    made = hooks.on_page_content(
        block.format(" --shots<span> </span>5 a/very-long/" + "b" * 40), None
    )
    assert '<span class="word">--shots</span><span> </span>5 a/very-long/b' in made
    assert hooks.on_page_content("<code>x --no-build-isolation</code>", None) == (
        '<code>x <span class="word">--no-build-isolation</span></code>'
    )

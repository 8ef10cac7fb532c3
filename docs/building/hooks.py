"""What mkdocs is told beside mkdocs.yml: pages from outside docs/, the reference, links."""

import os.path
import re
from pathlib import Path

import formulas
import reference
import tables
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
# Pages at the root of the repository, and the examples -> where they stand on the site.
OUTSIDE = {name: name for name in ("CHANGELOG.md", "CONTRIBUTING.md")} | {"README.md": "index.md"}
OUTSIDE |= {f"examples/{path.name}": f"examples/{path.name}" for path in ROOT.glob("examples/*.*")}
_NAMED = {name for page in reference.PAGES.values() for name in page.names}
# In tables and text the operators go without their package.
_OPERATORS = {name.split(".")[1]: name for name in _NAMED if name.startswith("fsc_ext.")}

# A word with hyphens. Longer ones break where they must: on a phone 30 letters fill a line.
_WORD = re.compile(r"(?<![^\s>])(?=[^\s<>]*-)[^\s<>]{2,30}(?![^\s<])")
_KEPT = r'<span class="word">\g<0></span>'


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the reference where the navigation has its entry, and say how formulas are drawn."""
    nav = config.nav or []
    place = nav.index("reference")
    config.nav = [*nav[:place], *reference.navigation(), *nav[place + 1 :]]
    math = {"name": "math", "class": "formula"}
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences["custom_fences"] = [math | {"format": formulas.block}]
    within = config.mdx_configs.setdefault("pymdownx.inlinehilite", {})
    within["custom_inline"] = [math | {"format": formulas.within}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and examples that are not in docs/."""
    for name, path in OUTSIDE.items():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / name)))
    for path, page in reference.PAGES.items():
        files.append(File.generated(config, path, content=reference.markdown(page)))
    return files


def on_page_markdown(markdown: str, page: Page, **others: object) -> str:
    """Turn links between files of the repository into links between pages.

    What stands on no page, such as a source file, is named without a link.
    """
    path = page.file.src_uri
    if path in reference.PAGES:
        return markdown
    homes = {site: name for name, site in OUTSIDE.items()}
    folder = os.path.dirname(homes.get(path, f"docs/{path}"))

    def linked(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2], found[3] or ""
        inside = os.path.normpath(os.path.join(folder, target))
        if inside in OUTSIDE or inside.startswith("docs/"):
            there = OUTSIDE.get(inside, inside.removeprefix("docs/"))
            label = _title(ROOT / inside) if label.endswith(".md") else label
            return f"[{label}]({os.path.relpath(there, os.path.dirname(path))}{anchor})"
        return label if (ROOT / inside).exists() else found[0]

    return re.sub(r"\[([^][]*)\]\((?!https?:)([^)#\s]+)(#[^)]*)?\)", linked, markdown)


def _title(page: Path) -> str:
    """What a page is called on the site, where a link in the text has its path."""
    if not page.is_file():
        return page.name
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def on_page_content(html: str, page: Page, **others: object) -> str:
    """Link the names of the reference to where they are documented; set words and numbers."""

    def linked(found: re.Match[str]) -> str:
        name = _OPERATORS.get(found[2], found[2])
        if found[1] or name not in _NAMED:
            return found[0]
        where = reference.identifier(name)
        return f'<autoref identifier="{where}" optional><code>{found[2]}</code></autoref>'

    def whole(found: re.Match[str]) -> str:
        return f"<code>{_WORD.sub(_KEPT, found[1])}</code>"

    def command(found: re.Match[str]) -> str:
        return re.sub(r">[^<]+<", lambda text: _WORD.sub(_KEPT, text[0]), found[0])

    html = re.sub(r"(<(?:a|h\d|autoref)\b[^>]*>\s*)?<code>([\w.]+)</code>", linked, html)
    html = re.sub(r"<code>([^<]*-[^<]*)</code>", whole, html)
    html = re.sub(r'<div class="language-sh.*?</pre>', command, html, flags=re.S)
    return tables.aligned(html.replace(" ± ", "&nbsp;±&nbsp;"))

"""The guide as a notebook: the same cells, which also run on a network with its real weights."""

import json
import re
import runpy
import shlex
from pathlib import Path

import pytest
import torch

from fsc import models
from fsc.cli import main
from fsc.images import data, sampling
from fsc.networks.pretrained import load_pretrained

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "examples" / "guide_notebook.py"))
PAGE = SCRIPT["PAGE"].read_text(encoding="utf-8")
pytestmark = pytest.mark.usefixtures("one_thread")


def _code() -> list[str]:
    content = json.loads(SCRIPT["NOTEBOOK"].read_text(encoding="utf-8"))
    return ["".join(c["source"]) for c in content["cells"] if c["cell_type"] == "code"]


def test_the_notebook_is_made_of_the_page() -> None:
    """On digits the cells run with the blocks of all pages, in tests/test_docs.py."""
    assert SCRIPT["NOTEBOOK"].read_text(encoding="utf-8") == SCRIPT["notebook"](PAGE), (
        "run python examples/guide_notebook.py"
    )
    blocks = re.findall(r"^```python\n(.*?)\n^```", PAGE, re.M | re.S)
    assert _code() == blocks and len(blocks) > 5


def test_cells_are_those_that_the_format_asks_for() -> None:
    content = json.loads(SCRIPT["notebook"]("# A\n\n```python\na = 1\nb = 2\n```\n\nEnd.\n"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert [cell["cell_type"] for cell in content["cells"]] == ["markdown", "code", "markdown"]
    assert content["cells"][1]["source"] == ["a = 1\n", "b = 2"]
    assert len({cell["id"] for cell in content["cells"]}) == 3
    code = content["cells"][1]
    assert code["outputs"] == [] and code["execution_count"] is None


def test_links_of_the_notebook_lead_where_those_of_the_page_do() -> None:
    text = "[a](goals.md#x) [b](../README.md) [c](#end) [d](https://e.org/x)\n\n[e]: export.md\n"
    ((_, moved),) = SCRIPT["cells"](text)
    assert moved == (
        "[a](../docs/goals.md#x) [b](../README.md) [c](#end) [d](https://e.org/x)\n\n"
        "[e]: ../docs/export.md"
    )


def test_commands_of_the_page_have_only_options_that_there_are() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)
    lines = "".join(blocks).replace("\\\n", "").splitlines()
    found = [line.partition("fsc ")[2] for line in lines if re.match(r"(FSC_DATA=\S+ )?fsc ", line)]
    assert len(found) >= 4
    for line in found:
        verb, *typed = shlex.split(line)
        command = main.get_command(None, verb)  # type: ignore[arg-type]
        assert command is not None, verb
        known = {flag for option in command.params for flag in option.opts}
        flags = {each for each in typed if each.startswith("--")}
        assert flags <= known, f"fsc {verb}: {flags - known}"


@pytest.mark.filterwarnings("ignore::fsc.CompressionWarning")
def test_the_cells_run_on_a_network_with_its_real_weights(
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All but the first, which a user changes, and two that take long."""
    monkeypatch.chdir(tmp_path)
    path = data_root / "checkpoints" / "cifar10_resnet20_akamaster.pt"
    statistics = models.normalization("resnet20")
    train, test = (data.load("cifar10", split, data_root) for split in ("train", "test"))
    chosen = sampling.sample_per_class(train.labels, 2, seed=0).indices
    namespace = {
        "__name__": "page",
        "torch": torch,
        "make": lambda: models.build("resnet20"),
        "teacher": load_pretrained(models.build("resnet20"), path),
        "images": data.to_tensor(train.images[chosen], *statistics),
        "test_images": data.to_tensor(test.images[:100], *statistics),
        "test_labels": torch.from_numpy(test.labels[:100]),
    }
    for cell in _code()[1:]:
        if "DropBlocks" in cell or "FineTuning" in cell:
            continue
        exec(compile(cell, "cell", "exec"), namespace)
    said = capsys.readouterr().out
    teacher, student = (
        float(each) for each in re.findall(r"^(?:teacher|student): (\S+) % right", said, re.M)
    )
    assert teacher > 85 and student > teacher - 15
    assert "seconds: 0 BatchNorms" in said and "refused: flops must be" in said
    assert "another scale" in said

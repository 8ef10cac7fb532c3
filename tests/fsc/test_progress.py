"""What long work says while it goes on: a line for who watches, log records for who asks."""

import ast
import io
import logging
import sys
from pathlib import Path

import pytest
import torch
from networks import small

import fsc
from fsc import progress as telling_room
from fsc.progress import telling

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
ROOT = Path(fsc.__file__).parent


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def every_look(monkeypatch):
    """Every event is written, however fast they come."""
    monkeypatch.setattr(telling_room, "_SECONDS_BETWEEN_LOOKS", 0.0)


def compressed(**options):
    torch.manual_seed(0)
    return fsc.compress(small().eval(), IMAGES, method="cd-nc", pruning_ratio=0.5, **options)


def test_a_terminal_has_a_line_that_is_gone_at_the_end(monkeypatch, every_look):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    compressed()
    written = stream.getvalue()
    assert "\rfsc: " in written and " of " in written and "\n" not in written
    shown = written.split("\r")
    # Blank over the whole of what was there, then back to the left.
    assert shown[-1] == "" and not shown[-2].strip() and len(shown[-2]) >= len(shown[-3].rstrip())


def test_a_pipe_has_nothing(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    compressed(progress=True)
    assert stream.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", None)  # as of pythonw
    compressed()


class Written:
    """What loggers that stand in for stderr mostly are."""

    def write(self, text):
        raise AssertionError(text)


@pytest.mark.parametrize("kind", ["closed", "written", "none"])
def test_streams_that_are_no_terminals_have_nothing(monkeypatch, kind):
    closed = io.StringIO()
    closed.close()
    stream = {"closed": closed, "written": Written(), "none": None}[kind]
    monkeypatch.setattr(sys, "stderr", stream)
    with telling(True) as told:
        assert told is None


def test_a_notebook_has_the_line_as_well(monkeypatch, every_look):
    kind = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    stream = kind()
    monkeypatch.setattr(sys, "stderr", stream)
    compressed()
    assert "\rfsc: " in stream.getvalue() and "\x1b" not in stream.getvalue()


def test_a_terminal_has_nothing_where_none_is_wanted(monkeypatch, every_look):
    stream, told = Terminal(), []
    monkeypatch.setattr(sys, "stderr", stream)
    compressed(progress=False)
    compressed(progress=lambda *event: told.append(event))
    assert stream.getvalue() == "" and told


def test_a_line_is_cut_to_the_window_and_gone_after_an_error(monkeypatch, every_look):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "20")
    with pytest.raises(KeyboardInterrupt), telling(True) as told:
        assert told is not None
        told("a very long piece of work", 1, 9)
        raise KeyboardInterrupt
    assert max(map(len, stream.getvalue().split("\r"))) == 19
    assert stream.getvalue().endswith(f"\r{'':19}\r")


def test_a_line_is_written_now_and_then_alone(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(telling_room, "_SECONDS_BETWEEN_LOOKS", 60.0)
    with telling(True) as told:
        assert told is not None
        for done in range(100):
            told("work", done, 100)
    assert stream.getvalue().count("fsc: ") == 1


@pytest.mark.parametrize("given", [None, 1, "yes"])
@pytest.mark.parametrize(
    "call",
    [
        lambda given: fsc.compress(small(), IMAGES, progress=given),
        lambda given: fsc.prune_iteratively(small(), IMAGES, progress=given),
        lambda given: fsc.FSKD().align(small(), small(), IMAGES, progress=given),
        lambda given: fsc.MiR().mimic(small(), small(), IMAGES, progress=given),
        lambda given: fsc.Alternation().teach(small(), small(), IMAGES, progress=given),
    ],
    ids=["compress", "prune_iteratively", "align", "mimic", "teach"],
)
def test_what_tells_nothing_is_refused(call, given):
    with pytest.raises(TypeError, match="^progress must be True, False or a function of .*, got "):
        call(given)


def test_stages_are_called_by_words_that_go_in_front_of_a_number():
    told = []
    torch.manual_seed(0)
    train = fsc.MiR(steps=2, learning_rate=1e-4)
    for method in ("cd-nc", train):
        fsc.compress(small().eval(), IMAGES, method=method, flops=0.6,
                     progress=lambda *event: told.append(event))  # fmt: skip
    assert list(dict.fromkeys(what for what, _, _ in told)) == [
        *("choosing channels, layer", "layer"),
        *("preparing images, image", "mimicking features, step"),
    ]
    assert all(1 <= done <= total for _, done, total in told)


def test_records_have_the_name_of_their_module(caplog):
    with caplog.at_level(logging.DEBUG, logger="fsc"):
        compressed()
        fsc.compress(small().eval(), IMAGES, method=fsc.MiR(steps=50, learning_rate=1e-4),
                     pruning_ratio=0.5)  # fmt: skip
    said = {(record.name, record.levelname) for record in caplog.records}
    assert said == {
        ("fsc.compression", "INFO"),
        ("fsc.methods.layer_solver", "DEBUG"),
        ("fsc.methods.schedule", "DEBUG"),
    }
    texts = [record.getMessage() for record in caplog.records]
    assert "compressing Sequential by CrossDistillation, " in texts[0]
    assert ", from 4 images on cpu" in texts[0]
    assert any(text.startswith("compressed in ") and "parameters" in text for text in texts)
    assert any(text.startswith("mimicking features, step 50 of 50: loss ") for text in texts)


def test_taking_up_and_diverging_are_logged(caplog, tmp_path):
    with caplog.at_level(logging.INFO, logger="fsc"):
        compressed(journal=tmp_path)
        compressed(journal=tmp_path)
        with pytest.warns(fsc.CompressionWarning, match="diverged"):
            wild = fsc.MiR(steps=2, learning_rate=3e4, max_retries=30)
            fsc.compress(small().eval(), IMAGES, method=wild, pruning_ratio=0.5)
    said = [(record.name, record.getMessage()) for record in caplog.records]
    number = len(list(tmp_path.glob("*.safetensors")))
    assert ("fsc.methods.journal", f"going on with {number} files of {tmp_path}") in said
    assert ("fsc.methods.schedule", "MiR diverged at a rate of 30000") in said


def test_nothing_is_printed_below_the_command_line():
    for path in ROOT.rglob("*.py"):
        if "cli" in path.relative_to(ROOT).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", f"{path}:{node.lineno}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names]
                assert "click" not in names and getattr(node, "module", "") != "click", path

"""Files that hold a network as a program: of ONNX and of torch.export, written and run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fsc.networks.programs import taking_any_number, unheard
from fsc.networks.trace_failures import line_of
from fsc.networks.wrappers import dtype_of


class Opened(nn.Module):
    """A file as a module.

    Attributes:
        names: what its inputs are called in it, in their order.
    """

    names: list[str]


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: of the kind.
        write: a program into a file.
        opened: a file as a module that takes what the network takes, on the CPU, and gives the
            same tensors in their order.
        packages: that this takes beside torch.
        dtypes: that it holds and runs networks in; empty: all.
        most_bytes: of weights in one file; None: as many as there are.
    """

    name: str
    write: Callable[[Any, Path], None]
    opened: Callable[[Path], Opened]
    packages: tuple[str, ...] = ()
    dtypes: tuple[torch.dtype, ...] = ()
    most_bytes: int | None = None

    def check_installed(self) -> None:
        """Make sure that what it takes is there.

        Raises:
            ImportError: a package is missing.
        """
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise ImportError(
                f"a file of {self.name} needs {' and '.join(missing)}, which "
                f"{'is' if len(missing) == 1 else 'are'} not installed: "
                "pip install 'fsc-ext[onnx]'"
            )

    def check_holds(self, network: nn.Module) -> None:
        """Make sure that it can hold a network.

        Raises:
            ValueError: it cannot.
        """
        dtype = dtype_of(network)
        if self.dtypes and dtype not in self.dtypes:
            raise ValueError(
                f"export: student must be in {' or '.join(map(str, self.dtypes))} for a file of "
                f"{self.name}, got {dtype}; pass student.float()"
            )
        size = sum(each.nbytes for each in (*network.parameters(), *network.buffers()))
        if self.most_bytes is not None and size > self.most_bytes:
            raise ValueError(
                f"export: student must hold at most {self.most_bytes / 1e6:,.0f} MB of weights for "
                f"a file of {self.name}, got {size / 1e6:,.0f} MB; one that ends in .pt2 holds more"
            )


class TorchProgram(Opened):
    """A file of torch.export as torch runs it."""

    def __init__(self, path: Path) -> None:
        """Reads the file."""
        super().__init__()
        with unheard():
            program = torch.export.load(path)
            # No part of this module: a program has no modes that could be set.
            self.run = program.module().forward
        self.names = list(map(str, program.graph_signature.user_inputs))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network gives."""
        return self.run(*args, **kwargs)


class OnnxSession(Opened):
    """A file of ONNX as onnxruntime computes it, on the CPU and one thread.

    Raises:
        ValueError: onnxruntime does not take it.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file."""
        import onnxruntime

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what goes wrong is raised, too
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a class for each code
            raise ValueError(_unwritten(error)) from error
        self.names = [each.name for each in self.session.get_inputs()]

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        """All outputs, one after the other."""
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        feeds = {n: leaf.numpy() for n, leaf in zip(self.names, given, strict=True)}
        return tuple(torch.from_numpy(each) for each in self.session.run(None, feeds))


def _write_onnx(program: Any, path: Path) -> None:
    _check_outputs(program)
    # By a name that means something to whoever reads the file.
    opened = [{0: "images"} if any_number else None for any_number in taking_any_number(program)]
    try:
        with unheard():
            made = torch.onnx.export(program, (), dynamic_shapes=opened, dynamo=True, verbose=False)
    except Exception as error:  # of the exporter, or of a package below
        raise ValueError(_unwritten(error)) from error
    assert made is not None
    for index, output in enumerate(made.model.graph.outputs):
        output.name = "output" if len(made.model.graph.outputs) == 1 else f"output_{index}"
    with unheard():
        made.save(path)


def _check_outputs(program: Any) -> None:
    """Make sure that a program gives tensors alone.

    Raises:
        ValueError: it gives something else, too.
    """
    _check_no_text(program)
    given = _beside_tensors(program)
    if given:
        raise ValueError(
            f"export: student must give tensors alone for a file of ONNX, got {given[0]!r} among "
            "its outputs; one that ends in .pt2 holds it"
        )


def _check_no_text(program: Any) -> None:
    """Make sure that a program gives no string, which torch writes and cannot read again.

    Raises:
        ValueError: it gives one.
    """
    texts = [value for value in _beside_tensors(program) if isinstance(value, str)]
    if texts:
        raise ValueError(
            "export: student must give tensors, or numbers beside them in a file that ends in "
            f".pt2, got the string {texts[0]!r} among its outputs"
        )


def _beside_tensors(program: Any) -> list[Any]:
    """What a program gives that is no tensor."""
    from torch.export.graph_signature import TensorArgument

    given = [spec.arg for spec in program.graph_signature.output_specs]
    return [getattr(x, "value", x) for x in given if not isinstance(x, TensorArgument)]


def _unwritten(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (
        f"export: student cannot be written as ONNX: {line_of(error)}; a file that ends in .pt2 "
        "may hold it"
    )


def _write_torch(program: Any, path: Path) -> None:
    _check_no_text(program)
    with unheard():
        torch.export.save(program, path)


FORMATS = {
    ".onnx": Format(
        "ONNX",
        _write_onnx,
        OnnxSession,
        ("onnx", "onnxscript", "onnxruntime"),
        # onnxruntime has no convolution in others.
        (torch.float32, torch.float16),
        # Where there are more, torch writes them into a second file beside.
        1536 * 2**20,
    ),
    ".pt2": Format("torch.export", _write_torch, TorchProgram),
}

"""Random networks: nothing may be wrong in silence.

A cut of channels that are zero changes nothing; what is recovered is no worse than what is not, or
a warning says that it is; a student comes back from its file; the teacher stays as it was; what
cannot be done is refused in one sentence.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import torch
from part import Fault, Part
from random_networks import SIDE, Network
from torch import Tensor, nn

import fsc
from fsc.networks.outputs import tensors_of
from fsc.result import Result

METHODS = {
    "L1": fsc.L1Norm(),
    "CD": fsc.CrossDistillation(fsc.Estimation()),
    "FSKD": fsc.FSKD(),
}
IMAGES, RATIO = 12, 0.5
# Of what differs from image to image: what float32 makes of a cut that changes nothing, and by how
# much a recovered student may be further away than the bare one.
EXACT, WORSE = 1e-4, 1.02
SAME = 1e-10  # of a student and what comes back from its file
NOTICED = "student is farther from the teacher than"
REFUSALS = (ValueError, TypeError, RuntimeError, NotImplementedError)


def outputs(network: nn.Module, images: Tensor) -> Tensor:
    """All of them, a row an image."""
    with torch.no_grad():
        return torch.cat([each.flatten(1) for each in tensors_of(network(images))], 1)


def apart(found: Tensor, wanted: Tensor) -> float:
    """How far one is from the other, relative to what differs over images, if anything does."""
    spread = (wanted - wanted.mean(0)).norm()
    return float((found - wanted).norm() / torch.maximum(spread, 1e-3 * wanted.norm()))


def results(network: nn.Module, images: Tensor, told: str) -> tuple[dict[str, Result], str]:
    """Of every method, and the sentence of the first that refuses.

    Raises:
        Fault: an error is no sentence, or the teacher has changed.
    """
    before, found, said = copy.deepcopy(network.state_dict()), {}, ""
    for name, method in METHODS.items():
        try:
            found[name] = fsc.compress(network, images, method=method, pruning_ratio=RATIO)
        except REFUSALS as error:
            if len(str(error).splitlines()) != 1:
                raise Fault(f"{told}: {name} says {type(error).__name__}: {error}") from error
            said = said or f"{name}: {error}"
            continue
        for key, value in network.state_dict().items():
            if not torch.equal(value, before[key]):
                raise Fault(f"{told}: {name} changes {key} of the teacher")
    return found, said


def check_neutral(number: int, images: Tensor, told: str) -> str:
    """A cut of what is zero changes nothing.

    Raises:
        Fault: it does.
    """
    network = Network(number).double()
    if not network.is_neutral:
        return "not neutral"
    network.kill()
    wanted = outputs(network, images.double())
    found, said = results(network, images.double(), told)
    for name, result in found.items():
        far = apart(outputs(result.student, images.double()), wanted)
        if not far <= EXACT:
            raise Fault(f"{told}: {name} moves the output by {far:.1e} where only zeros go")
    return "refused" if said else "neutral"


def check_recovery(number: int, images: Tensor, folder: Path, told: str) -> str:
    """What is recovered is no worse than what is not, and comes back from its file.

    Raises:
        Fault: it is, or does not.
    """
    network = Network(number)
    wanted = outputs(network, images)
    found, said = results(network, images, told)
    far = {name: apart(outputs(each.student, images), wanted) for name, each in found.items()}
    worse = [name for name in far if not far[name] <= WORSE * far.get("L1", far[name]) + EXACT]
    for name, result in found.items():
        if name in worse and not any(NOTICED in each for each in result.report.warnings):
            raise Fault(f"{told}: {name} is {far[name]:.3g} away, L1 {far['L1']:.3g}")
        path = folder / f"{name}.safetensors"
        fsc.save(result.student, path)
        back = fsc.load(path, model=Network(number))
        # In float64: float32 is rounded by where tensors lie in memory.
        pair = (outputs(each.double(), images.double()) for each in (back, result.student))
        if not apart(*pair) <= SAME:
            raise Fault(f"{told}: the student of {name} does not come back from its file")
    if said:
        return "refused"
    smaller = found["L1"].report.parameters < found["L1"].report.parameters_teacher
    return ("smaller" if smaller else "whole") + (", a warning" if worse else "")


def case(number: int, folder: Path) -> str:
    """One network."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(IMAGES, 3, SIDE, SIDE, generator=generator)
    told = f"network {number} ({Network(number).kinds()})"
    neutral = check_neutral(number, images, told)
    return f"{check_recovery(number, images, folder, told)}, {neutral}"


PART = Part(count=300, case=case, limit=120)

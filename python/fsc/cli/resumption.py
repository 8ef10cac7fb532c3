"""What an interrupted `fsc compress` left behind: taken up, dropped, or refused with a way out."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

from fsc import method_names
from fsc.cli.given import Inputs
from fsc.cli.outputs import Destination
from fsc.cli.run import identity_of
from fsc.cli.settings import Settings
from fsc.images.sampling import FewShotSample
from fsc.methods.identity import AnotherCompression, Difference, as_json, described, differences
from fsc.methods.journal import Journal
from fsc.methods.training_state import in_words

# What differs -> the flag for it, where the value is what was typed.
_TYPED = {"seed": "--seed", "device": "--device", "threads": "--threads", "scheme": "--scheme"}
# What differs -> what it is called and which flags decide it, where the value says nothing.
_DECIDED = {
    "scheme": ("another scheme", "--scheme"),
    "images": (
        "other images",
        "--data, --size, --normalize, --shots, --ways, --images or --augment",
    ),
    "teacher": ("another teacher", "--model and --checkpoint"),
    "method": ("another method", "--method"),
}
# What decides how many images there are.
_COUNTING = "--shots, --ways, --images or --augment"
# What differs between two goals -> the flag for it.
_GOALS = {
    f"scheme.{name}": f"--{name.replace('_', '-')}"
    for name in ("flops", "parameters", "pruning_ratio", "round_to", "style")
} | {
    "scheme.ignored": "--ignore",
    "scheme.count": "--drop-blocks",
    "scheme.terms": "--decouple",
}


def take_up(
    destination: Destination,
    method: str,
    inputs: Inputs,
    sample: FewShotSample,
    settings: Settings,
) -> tuple[Journal, str]:
    """The journal of a run that begins, and what to say of what it holds.

    Args:
        destination: where the student goes, and what may become of what is there.
        method: of the run, as are the next three.
        inputs: teacher and images.
        sample: the few images.
        settings: scheme and resources.

    Raises:
        ValueError: another run left it, and it may not be dropped.
        OSError: a damaged file cannot be removed.
    """
    path = destination.journal
    identity, kept = identity_of(method, inputs, sample, settings), in_words(path)
    if destination.resume and not path.is_dir():
        nothing = f"Nothing is unfinished in {destination.output}: starting anew."
        return Journal(path, identity), nothing
    if destination.resume:
        try:
            going_on = f"Going on after {kept} in {path}." if kept else ""
            return Journal(path, identity), going_on
        except AnotherCompression as error:
            if not destination.overwrite:
                raise ValueError(_refusal(error, inputs)) from error
    shutil.rmtree(path, ignore_errors=True)
    dropped = f"Starting anew, as --overwrite says, in spite of {kept} in {path}."
    return Journal(path, identity), dropped if kept else ""


def _refusal(error: AnotherCompression, inputs: Inputs) -> str:
    """What differs from the interrupted run, and both ways out."""
    found = differences(error.before, error.now)
    if any(one.name in _GOALS for one in found):
        found = [one for one in found if one.name != "scheme.name"]
    got, flags, versions = [], [], []
    for one in found:
        if _follows(one, found):
            continue
        what, _, part = one.name.partition(".")
        if what == "versions":
            got.append(f"{part} {one.now} instead of {one.before}")
            versions.append(f"{part} {one.before}")
        else:
            said, flag = _in_flags(what, one, error, inputs)
            got.append(said)
            flags.append(flag)
    ways = [f"give {' and '.join(dict.fromkeys(flags))}"] if flags else []
    ways += [f"go back to {' and '.join(versions)}"] if versions else []
    return (
        f"--resume must go on with the same run, got {', '.join(dict.fromkeys(got))}: "
        f"{' and '.join(ways)}, or {'' if flags else 'give '}--overwrite to start anew"
    )


def _follows(difference: Difference, found: Sequence[Difference]) -> bool:
    """Whether something differs only because something else does that is told already."""
    differing = {one.name.partition(".")[0] for one in found}
    if difference.name == "images.sha256":  # another seed draws other images
        return "seed" in differing
    # What a method learns, or crops, of the same images is there with it alone.
    is_of_method = difference.name in ("images.labels", "images.files")
    return is_of_method and None in (difference.before, difference.now) and "method" in differing


def _in_flags(
    what: str, difference: Difference, error: AnotherCompression, inputs: Inputs
) -> tuple[str, str]:
    """A difference as it is typed, and what to type to go on."""
    before, now = difference.before, difference.now
    said, deciding = _DECIDED.get(what, ("", ""))
    flag = _TYPED.get(what)
    if what == "method":
        before, now = (_name_of(each["method"], inputs) for each in (error.before, error.now))
        flag = "--method" if before and now else None
        if before == now:
            flag, before, now = _of_training(difference, error) or (flag, before, now)
    if difference.name in _GOALS:
        flag = _GOALS[difference.name]
        said = f"another {flag}"
        deciding = flag
    if what == "keep_batch_norm":
        typed, missing = "--keep-batch-norm", "no --keep-batch-norm"
        return (typed, missing) if now else (missing, typed)
    if what == "images" and difference.is_short:
        return f"{now} images instead of {before}", f"the earlier {_COUNTING}"
    if flag is None or not difference.is_short:
        return said, f"the earlier {deciding}"
    return f"{flag} {now} instead of {before}", f"{flag} {before}"


def _of_training(
    difference: Difference, error: AnotherCompression
) -> tuple[str | None, Any, Any] | None:
    """The flag for what differs in how one method trains, and both values as they are typed."""
    part = difference.name.rpartition(".")[2]
    if part in ("steps", "steps_between"):
        trainings = [_training_of(each["method"]) for each in (error.before, error.now)]
        return "--mir-steps", *(training["steps"] for training in trainings)
    if part in ("views", "precision"):
        return f"--{part}", difference.before, difference.now
    return None


def _name_of(method: dict[str, Any], inputs: Inputs) -> str | None:
    """What a described method is called on the command line."""
    training = _training_of(method)
    typed = [training.get(name) for name in ("steps", "views", "precision")]
    for name in method_names.NAMES:
        known = method_names.named(name, inputs.known_as, *typed)
        if as_json(described(known)) == method:
            return name
    return None


def _training_of(method: dict[str, Any]) -> dict[str, Any]:
    """What a described method says of its training: the default has it in a part of its own."""
    nested = method.get("train")
    return nested if isinstance(nested, dict) else method

"""What went wrong, in the words of the command line instead of Python's."""

from __future__ import annotations

import re
from collections.abc import Mapping

import click

# How the sentences of the functions below begin: "sample_per_class: num_shots must not exceed ...".
_RULE = re.compile(r"(?:\w+: )?(\w+) must ")
_VALUE = re.compile(r"\b(\w+)=(?=\S)")
# Of Python, and of torch on a GPU; on the CPU torch says it in words.
_NO_MEMORY = ("MemoryError", "OutOfMemoryError")
_ENDINGS = ("_name", "_path")


def of_error(error: Exception, command: click.Command | None) -> str:
    """The sentence of an error; the argument that it begins with becomes the flag for it.

    Args:
        error: what a function below the command line raised.
        command: the verb that was invoked, whose options are the flags.
    """
    if is_lack_of_memory(error):
        return "there is too little memory for this; smaller images, or fewer at once, need less"
    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    rule = _RULE.match(text)
    if rule is None:
        return text
    flags = _flags(command)
    # Another argument that it names stands with its value: "with round_to=8".
    rest = _VALUE.sub(
        lambda found: f"{flags[found[1]]} " if found[1] in flags else found[0], text[rule.end(1) :]
    )
    return f"{flags.get(rule[1], rule[1])}{rest}"


def as_typed(given: Mapping[str, object]) -> list[str]:
    """Those of some flags that are given, each with its value: "--shots 1", "--no-evaluate".

    Args:
        given: flag -> its value; None and False: it was not typed.
    """
    found = []
    for flag, value in given.items():
        values = value if isinstance(value, tuple) else (value,)
        found += [
            flag if each is True else f"{flag} {each}"
            for each in values
            if each is not None and each is not False
        ]
    return found


def is_lack_of_memory(error: Exception) -> bool:
    """Whether there was too little memory for what was asked."""
    return type(error).__name__ in _NO_MEMORY or "can't allocate memory" in str(error)


def _flags(command: click.Command | None) -> dict[str, str]:
    """Every name that a function may have for an option -> the flag that is typed for it."""
    found = {}
    for option in [] if command is None else command.params:
        if isinstance(option, click.Option) and option.name is not None:
            flag = option.opts[0]
            names = {option.name, flag.lstrip("-").replace("-", "_")}
            names |= {option.name.removesuffix(ending) for ending in _ENDINGS}
            found.update(dict.fromkeys(names, flag))
    # What functions call images are those of the data; --images is how many are drawn.
    found |= {"images": "--data"} if "data" in found else {}
    return found | ({"teacher": "--model"} if "model" in found else {})

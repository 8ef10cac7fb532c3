"""How help is set: names with hyphens stay whole, options stand by what they are about."""

from __future__ import annotations

from collections.abc import Iterable

import click

# Letters that no sentence about a verb has.
_WHOLE_SENTENCE = 1000
# A hyphen that click's wrapping does not break behind.
_UNBROKEN = "\u2011"
# So many options can be read as one list.
SHORT = 15
# What those of a longer page are about, in the order in which a run is thought of.
SUBJECTS = {
    subject: names.split()
    for subject, names in {
        "Network and images": "model data checkpoint data-root size normalize",
        "What is looked at": "over values measure layer objective intervals",
        "The images that are given": "shots ways images seed seeds augment",
        "What is to be left": (
            "scheme flops parameters pruning-ratio decouple drop-blocks ignore round-to style"
        ),
        "Method": "method mir-steps views precision keep-batch-norm",
        "Machine": "device threads batch-size memory-budget",
        "What is measured": "test-images no-evaluate latency compiled",
        "What is written and shown": "output json report layers resume overwrite quiet help",
    }.items()
}


class Formatter(click.HelpFormatter):
    """Breaks lines between words only: half a name cannot be typed."""

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write names and what is said of each."""
        whole = [(name, said.replace("-", _UNBROKEN)) for name, said in rows]
        super().write_dl(whole, col_max, col_spacing)

    def getvalue(self) -> str:
        """What was written, with the hyphens that can be typed."""
        return super().getvalue().replace(_UNBROKEN, "-")


class Context(click.Context):
    """Has help set by `Formatter`."""

    formatter_class = Formatter


class Verb(click.Command):
    """Lists its options by what they are about, where they are many."""

    context_class = Context

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write every option under its subject."""
        options = [each for each in self.get_params(context) if isinstance(each, click.Option)]
        if len(options) < SHORT:
            super().format_options(context, formatter)
            return
        named = {option.opts[-1].lstrip("-"): option for option in options}
        listed = [[named.pop(name, None) for name in names] for names in SUBJECTS.values()]
        listed.append(list(named.values()))  # of no subject
        for subject, chosen in zip([*SUBJECTS, "Other options"], listed, strict=True):
            records = [each.get_help_record(context) for each in chosen if each is not None]
            if any(records):
                with formatter.section(subject):
                    formatter.write_dl([record for record in records if record is not None])


def write_verbs(group: click.Group, formatter: click.HelpFormatter) -> None:
    """Write each verb with its whole sentence, of which click writes what one line holds."""
    listed = [
        (name, verb.get_short_help_str(limit=_WHOLE_SENTENCE))
        for name, verb in sorted(group.commands.items())
    ]
    with formatter.section("Commands"):
        formatter.write_dl(listed)

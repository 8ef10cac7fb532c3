"""The command `fsc`: demonstrate, compress, evaluate, compare, list schemes, analyse, sweep."""

from __future__ import annotations

import errno
from typing import Any

import click

from fsc.cli.analyse import command as _analyse
from fsc.cli.compare import command as _compare
from fsc.cli.compress import command as _compress
from fsc.cli.demo import command as _demo
from fsc.cli.evaluate import command as _evaluate
from fsc.cli.schemes import command as _schemes
from fsc.cli.sweep import command as _sweep

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


class _Commands(click.Group):
    """Turns what goes wrong below into one sentence and an exit code."""

    def invoke(self, context: click.Context) -> Any:
        """Run the verb; a traceback would hide the sentence that says what to change."""
        try:
            return super().invoke(context)
        except (click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt as interruption:
            kept = str(interruption) or "nothing was written"
            click.echo(f"interrupted: {kept}", err=True)
            context.exit(EXIT_INTERRUPTED)
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            click.echo(f"error: {_sentence(error)}", err=True)
            context.exit(EXIT_ERROR)


def _sentence(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fsc-ext", message="%(prog)s %(version)s")
def main() -> None:
    """Compress a pretrained convolutional network with a handful of unlabelled images."""


for _command in (_demo, _compress, _evaluate, _compare, _schemes, _analyse, _sweep):
    main.add_command(_command)

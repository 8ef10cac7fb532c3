"""The command `fsc`: demonstrate, inspect, compress, evaluate, compare, sweep and more."""

from __future__ import annotations

import errno
from typing import Any

import click

from fsc.cli import commands, help_pages, invocation, options, sentences, several
from fsc.cli.warning_lines import warnings_as_lines

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


class _Commands(click.Group):
    """Turns what goes wrong below into one sentence and an exit code."""

    context_class = help_pages.Context

    def invoke(self, context: click.Context) -> Any:
        """Run the verb; a traceback would hide the sentence that says what to change."""
        try:
            with several.quiet_unless_first(), warnings_as_lines():
                return super().invoke(context)
        except (click.exceptions.Exit, click.Abort, click.exceptions.NoArgsIsHelpError):
            raise
        except click.UsageError as error:
            _show(error)
            context.exit(EXIT_ERROR)
        except KeyboardInterrupt as interruption:
            kept = str(interruption) or "nothing was written"
            several.tell(f"interrupted: {kept}", interruption)
            context.exit(EXIT_INTERRUPTED)
        except (ValueError, TypeError, OSError, RuntimeError, ImportError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            verb = self.get_command(context, context.invoked_subcommand or "")
            several.tell(f"error: {sentences.of_error(error, verb)}", error)
            context.exit(EXIT_ERROR)

    def make_context(
        self, info_name: str | None, args: list[str], *rest: Any, **keywords: Any
    ) -> click.Context:
        """Reads what is typed before the verb."""
        as_typed = list(args)
        try:
            context = super().make_context(info_name, args, *rest, **keywords)
            context.meta[invocation.TYPED] = as_typed
            return context
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            _show(error)
            raise click.exceptions.Exit(EXIT_ERROR) from error

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the verbs."""
        help_pages.write_verbs(self, formatter)


def _show(error: click.UsageError) -> None:
    """As click does, but with the sentence in the form of all others."""
    usage = ""
    if error.ctx is not None:
        path = error.ctx.command_path
        usage = f"{error.ctx.get_usage()}\nTry '{path} -h' for help.\n\n"
    several.tell(f"{usage}error: {error.format_message()}", error)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fsc-ext", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Compress a pretrained convolutional network with a handful of unlabelled images."""
    several.check_verb(context.invoked_subcommand)


for _command in commands.ALL:
    main.add_command(options.quiet(_command))

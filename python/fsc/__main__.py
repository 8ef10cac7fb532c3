"""`python -m fsc`: the same as the command `fsc`."""

import signal
import sys

# As `fsc.cli.EXIT_INTERRUPTED`, which is not there yet.
_EXIT_INTERRUPTED = 130


def run() -> None:
    """Run the command; one that is interrupted while it is imported ends as any other.

    Once all is said and written nothing is interrupted: Python would end by the signal while it
    takes everything down.
    """
    try:
        from fsc.cli import main
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing was written\n")
        sys.exit(_EXIT_INTERRUPTED)
    try:
        main(prog_name="fsc")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    run()

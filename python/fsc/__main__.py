"""`python -m fsc`: the same as the command `fsc`."""

import os
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
    # What stops jobs sends this: it ends as Ctrl-C does, and nothing is left behind. But for
    # torchrun, which waits for its processes: those that wait for another one hear nothing.
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main(prog_name="fsc")
    finally:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)


if __name__ == "__main__":
    run()

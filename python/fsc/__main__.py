"""`python -m fsc`: the same as the command `fsc`."""

from fsc.cli import main

main(prog_name="fsc")

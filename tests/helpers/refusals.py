"""What a command that refuses its input says."""

from click.testing import Result


def sentence(result: Result) -> str:
    """The one sentence of an error, which is the last line, without what stands before it."""
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and lines[-1] == errors[0], result.stderr
    return errors[0].removeprefix("error: ")

"""A progress that interrupts, for tests of what can be taken up again."""


class Interrupting:
    """Counts the steps that it is told of, not the images before them, and interrupts at one.

    Args:
        at: that one, the first being 1.
    """

    def __init__(self, at: int) -> None:
        self.at, self.told = at, 0

    def __call__(self, what: str, step: int, total: int) -> None:
        if what.startswith("preparing images"):
            return
        self.told += 1
        if self.told == self.at:
            raise KeyboardInterrupt

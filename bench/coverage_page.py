"""The page of `bench/coverage.py`."""


def page(found):
    return "x"

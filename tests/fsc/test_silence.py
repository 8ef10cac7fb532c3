"""What torch says while it exports is dropped; what anybody else says meanwhile is heard."""

import logging
import sys
import threading

import pytest
import torch
from torch import nn

from fsc.networks.exported import exported
from fsc.networks.silence import silence

TORCH, OWN = logging.getLogger("torch.fx.of_a_test"), logging.getLogger("of_a_test")


def say(who: str) -> None:
    print(f"{who} prints")
    print(f"{who} complains", file=sys.stderr)
    TORCH.warning("%s warns in torch", who)
    OWN.warning("%s warns", who)


@pytest.fixture
def logged(caplog):
    """What reaches handlers; torch's loggers hand nothing on to the root."""
    TORCH.addHandler(caplog.handler)
    yield caplog
    TORCH.removeHandler(caplog.handler)


def test_only_what_torch_says_in_this_thread_is_dropped(logged, capsys):
    before = sys.stderr
    with silence():
        other = threading.Thread(target=say, args=("another",))
        say("this")
        other.start()
        other.join()
    said = capsys.readouterr()
    assert said.out == "this prints\nanother prints\n"
    assert "another complains" in said.err and "this complains" not in said.err
    found = set(logged.messages)
    assert found == {"this warns", "another warns in torch", "another warns"}
    assert sys.stderr is before and not logged.handler.filters
    say("this")
    assert "this warns in torch" in logged.messages
    assert "this complains" in capsys.readouterr().err


def test_threads_end_in_any_order(capsys):
    before, begun, may_end = sys.stderr, threading.Event(), threading.Event()

    def other() -> None:
        with silence():
            begun.set()
            may_end.wait(10)
            print("dropped", file=sys.stderr)

    thread = threading.Thread(target=other)
    with silence():
        thread.start()
        assert begun.wait(10)
    print("heard", file=sys.stderr)
    may_end.set()
    thread.join()
    assert capsys.readouterr().err == "heard\n" and sys.stderr is before


def test_torch_says_nothing_of_a_forward_that_it_cannot_export(capfd):
    class Decides(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.layer(x) if x.sum() > 0 else x

    with pytest.raises(Exception, match="data-dependent"):
        exported(Decides().eval(), (torch.randn(2, 3, 8, 8),), {})
    assert capfd.readouterr() == ("", "")

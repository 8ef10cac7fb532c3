"""`fsc inspect` shows what can go, what goes together, and why others stay."""

import json


def test_a_network_is_described_without_weights(fsc, tmp_path):
    path = tmp_path / "found.json"
    told = fsc("inspect", "--model", "resnet20", "--json", path)
    assert told.exit_code == 0, told.output
    assert "352 of 410 channels can go, in 10 sets" in told.output
    assert "linear: they reach the output of the network" in told.output
    assert max(map(len, told.output.replace(str(path), "").splitlines())) <= 80
    assert json.loads(path.read_text())["groups"][0]["writers"][0] == "conv1"


def test_a_network_of_ones_own(fsc, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))\n"
    )
    told = fsc("inspect", "--model", f"{file}:build", "--size", 16)
    assert told.exit_code == 0, told.output
    assert "4 of 6 channels can go" in told.output

"""Network slimming from the command line: the scales are the teacher's own."""

import json

from fsc import models, schemes
from fsc.networks import checkpoint
from fsc.networks.pretrained import load_pretrained


def test_the_scales_of_the_teacher_decide(fsc, on_digits, teacher_file, tmp_path):
    path = tmp_path / "slim.json"
    path.write_text(json.dumps({"name": "slim", "kind": "slimming", "pruning_ratio": 0.3}))
    where = tuple(each for each in on_digits if each not in ("--scheme", "res-50"))
    given = ("--method", "l1", "--shots", 1, "--test-images", 9, "--scheme", path)
    result = fsc("compress", *where, *given, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    teacher = load_pretrained(models.build("resnet14", in_channels=1), teacher_file).eval()
    image = models.example_inputs("resnet14", 1)[:, :, :8, :8]
    expected = schemes.slimming(teacher, 0.3, image).kept
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    student = checkpoint.load(tmp_path / "out" / "model.safetensors")
    for name, count in expected.items():
        assert len(report["kept"][name]) == count
        assert student.get_submodule(name).out_channels == count

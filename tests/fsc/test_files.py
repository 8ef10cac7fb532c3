import pytest

from fsc import files


def test_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.json"
    files.write_json(path, {"runs": 1})

    def interrupted(temporary):
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(path, interrupted)
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"top1": float("nan")})
    assert path.read_text() == '{\n  "runs": 1\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_written_file_keeps_its_suffix_and_has_ordinary_rights(tmp_path):
    path = tmp_path / "figure.png"
    names = []
    files.write_atomically(path, lambda temporary: (names.append(temporary), temporary.touch()))
    (tmp_path / "plain").touch()
    assert names[0].suffix == ".png" and names[0].parent == tmp_path
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_check_writable(tmp_path):
    files.check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="folder .*file cannot be written"):
        files.check_writable(tmp_path / "file")

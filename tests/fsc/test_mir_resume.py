from functools import cache
from pathlib import Path

import pytest
import torch
from networks import chain
from torch import Tensor, nn

import fsc
from fsc import models, schemes
from fsc.images import data, sampling
from fsc.methods import schedule
from fsc.methods.training_state import TrainingState
from fsc.networks import pretrained
from fsc.networks.tensor_files import read_tensors, write_tensors
from fsc.schemes import Scheme

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_STEPS_BETWEEN_LOOKS", 4)


def _teacher(drops: bool = False) -> nn.Module:
    torch.manual_seed(3)
    model = chain()
    if drops:
        model.relu = nn.Sequential(nn.ReLU(), nn.Dropout(0.2))
    return model


def _run(
    teacher: nn.Module,
    journal: Path | None,
    stop_after: int | None = None,
    **changed: float,
) -> tuple[nn.Module, list[int]]:
    done: list[int] = []

    def progress(what: str, step: int, total: int) -> None:
        if not what.endswith(", step"):  # the teacher runs on the images before
            return
        done.append(step)
        if len(done) == stop_after:
            raise KeyboardInterrupt

    images = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    rate = 0.003 if changed.get("relative") else 0.02
    method = fsc.MiR(**{"steps": 30, "batch_size": 5, "learning_rate": rate} | changed)  # type: ignore[arg-type]
    result = fsc.compress(
        teacher, images, method=method, scheme=SCHEME, journal=journal, progress=progress
    )
    return result.student, done


def _same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@cache
def _whole(drops: bool, name: str, value: float) -> nn.Module:
    return _run(_teacher(drops), None, **{name: value})[0]


# Before a state is kept, as one is, between two, and at the last step; what a state has besides.
@pytest.mark.parametrize(
    ("stop_after", "setting", "drops"),
    [
        *((stop_after, ("precondition", 0.3), False) for stop_after in (3, 4, 14, 27, 30)),
        (14, ("precondition", 0.3), True),
        *((stop_after, ("relative", True), False) for stop_after in (4, 14)),
        (14, ("momentum", 0.9), True),
        (14, ("momentum", 0.9), False),
        (4, ("momentum", 0.0), False),
    ],
)
def test_interrupted_and_resumed_has_the_bits_of_an_uninterrupted_run(
    tmp_path: Path, stop_after: int, setting: tuple[str, float], drops: bool
) -> None:
    teacher = _teacher(drops)
    whole, changed = _whole(drops, *setting), dict([setting])
    torch.rand(1)  # what others draw does not matter
    with pytest.raises(KeyboardInterrupt):
        _run(teacher, tmp_path, stop_after, **changed)
    parts, done = _run(teacher, tmp_path, **changed)
    assert _same(whole, parts)
    assert done[0] == (stop_after - 1) // 4 * 4 + 1 if stop_after != 4 else 5


def test_a_retry_is_resumed_too(tmp_path: Path) -> None:
    teacher = _teacher()
    with torch.no_grad():
        teacher.conv4.weight *= 1000
        teacher.head.weight /= 1000
    with pytest.warns(fsc.CompressionWarning, match="diverged"):
        whole, done = _run(teacher, None, max_retries=2)
        assert len(done) > 30
        with pytest.raises(KeyboardInterrupt):
            _run(teacher, tmp_path, 42, max_retries=2)
        parts, done = _run(teacher, tmp_path, max_retries=2)
    assert done[0] == 9 and _same(whole, parts)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_state_is_dropped_with_a_sentence(tmp_path: Path, damage: str) -> None:
    teacher = _teacher()
    whole, _ = _run(teacher, None)
    with pytest.raises(KeyboardInterrupt):
        _run(teacher, tmp_path, 14)
    path = tmp_path / "training.safetensors"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    with pytest.warns(fsc.CompressionWarning, match="training.safetensors is damaged"):
        parts, done = _run(teacher, tmp_path)
    assert done[0] == 1 and _same(whole, parts)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("student.conv1.weight", None, r"conv1.weight \[\d.*got none"),
        ("momentum.0", torch.zeros(7), "the training that goes on, got a state that does not fit"),
        ("dropout", None, "the training that goes on, got a state that does not fit it .'dropout"),
        ("generator", torch.zeros(7, dtype=torch.uint8), "the training that goes on"),
    ],
)
def test_a_state_of_something_else_is_refused(
    tmp_path: Path, name: str, value: torch.Tensor | None, told: str
) -> None:
    teacher = _teacher()
    with pytest.raises(KeyboardInterrupt):
        _run(teacher, tmp_path, 14)
    path = tmp_path / "training.safetensors"
    tensors, header = read_tensors(path)
    assert tensors.pop(name) is not None
    header.pop("sha256")
    write_tensors(path, tensors | ({} if value is None else {name: value}), header)
    with pytest.raises(ValueError, match=f"journal must hold {told}"):
        _run(teacher, tmp_path)


@pytest.mark.parametrize("missing", ["taken", "part"])
def test_a_state_of_another_version_is_dropped_with_a_sentence(
    tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, keep = _teacher(), TrainingState.keep

    def older(self: TrainingState, tensors: dict, counts: dict) -> None:
        keep(self, tensors, {key: count for key, count in counts.items() if key != missing})

    whole, _ = _run(teacher, None)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(TrainingState, "keep", older)
        _run(teacher, tmp_path, 14)
    told = f"of another version of fsc, without {missing}; it is dropped, and the training starts"
    with pytest.warns(fsc.CompressionWarning, match=told):
        parts, done = _run(teacher, tmp_path)
    assert done[0] == 1 and _same(whole, parts)


def test_the_state_of_another_compression_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _run(_teacher(), tmp_path, 9)
    told = r"^journal must belong to .* with method\.learning_rate 0\.02, not 0\.01: pass what"
    with pytest.raises(ValueError, match=told):
        _run(_teacher(), tmp_path, learning_rate=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["training.safetensors"]


def test_dropout_follows_the_seed_and_leaves_the_generator_alone() -> None:
    teacher = _teacher(drops=True)
    first, _ = _run(teacher, None)
    before = torch.get_rng_state()
    second, _ = _run(teacher, None)
    assert _same(first, second) and torch.equal(before, torch.get_rng_state())


def test_tied_buffers_are_kept(tmp_path: Path) -> None:
    """safetensors refuses tensors that share memory."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.next = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
            self.last = nn.Conv2d(8, 8, 1)
            self.norm = nn.BatchNorm2d(8)
            self.last.bias = self.norm.bias
            self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            features = self.norm(self.last(self.next(torch.relu(self.stem(x)))))
            return self.head(self.pool(features).flatten(1))

    arguments = {"method": fsc.MiR(steps=9), "scheme": Scheme("half", {"stem": 4})}
    torch.manual_seed(0)
    teacher, images = Tied(), torch.randn(4, 3, 4, 4)
    fsc.compress(teacher, images, journal=tmp_path, **arguments)
    assert (tmp_path / "training.safetensors").is_file()


def test_a_real_network_goes_on_with_the_same_bits(data_root: Path, tmp_path: Path) -> None:
    path = data_root / "checkpoints" / "cifar10_resnet20_akamaster.pt"
    teacher = pretrained.load_pretrained(models.build("resnet20"), path)
    train = data.load("cifar10", "train", data_root)
    chosen = sampling.sample_per_class(train.labels, 1, seed=0).indices
    images = data.to_tensor(train.images[chosen], *models.normalization("resnet20"))
    scheme = schemes.named("res-50", "resnet20")

    def run(journal: Path | None, stop_after: int) -> tuple[nn.Module, list[int]]:
        done: list[int] = []

        def progress(what: str, step: int, total: int) -> None:
            if not what.endswith(", step"):
                return
            done.append(step)
            if step == stop_after:
                raise KeyboardInterrupt

        method = fsc.MiR(steps=12)
        keywords = {"method": method, "scheme": scheme, "progress": progress}
        return fsc.compress(teacher, images, journal=journal, **keywords).student, done

    whole, _ = run(None, 0)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 11)
    parts, done = run(tmp_path, 0)
    assert done[0] == 9 and _same(whole, parts)

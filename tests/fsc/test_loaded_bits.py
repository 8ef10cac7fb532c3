"""A student that was saved and loaded gives the bits that it gave before."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fsc
from fsc.networks.tensor_files import read_tensors, write_tensors

# What processors' libraries compute with at once begins at such addresses, in bytes.
_ALIGNMENT = 64


class Gated(nn.Module):
    """Chunks, a gate that weighs channels, a shuffle of pixels and an interpolation."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.second = nn.Conv2d(width // 2, width, 3, padding=1)
        self.squeeze, self.excite = nn.Conv2d(width, 6, 1), nn.Conv2d(6, width, 1)
        self.wide = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.first(x).chunk(2, 1)
        x = self.second(one * other.sigmoid())
        pooled = self.squeeze(x.mean((2, 3), keepdim=True)).relu()
        x = self.wide((x * self.excite(pooled).sigmoid()).relu())
        x = F.interpolate(F.pixel_shuffle(x, 2), scale_factor=2, mode="bilinear")
        return self.last(x).mean((2, 3))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("method", ["l1", "fskd"])
def test_outputs_of_a_loaded_student_are_the_same_bits(tmp_path, layout, method):
    torch.manual_seed(0)
    teacher = Gated().eval().to(memory_format=layout)
    images = torch.randn(6, 3, 17, 17).to(memory_format=layout)
    student = fsc.compress(teacher, images, method=method, flops=0.6, progress=False).student
    fsc.save(student, tmp_path / "student.safetensors")
    loaded = fsc.load(tmp_path / "student.safetensors", model=teacher)
    for number in (1, 6):
        assert torch.equal(loaded(images[:number]), student(images[:number]))


def test_tensors_of_a_file_begin_where_those_of_torch_do(tmp_path):
    given = {f"a{size}": torch.randn(size) for size in range(1, 20)}
    write_tensors(tmp_path / "file.safetensors", given, {})
    found, _ = read_tensors(tmp_path / "file.safetensors")
    for name, value in found.items():
        assert torch.equal(value, given[name]) and value.data_ptr() % _ALIGNMENT == 0, name

import pytest
import torch
from torch import Tensor, nn

from fsc.images.checks import check_images
from fsc.networks.tracing import trace


class LateStem(nn.Module):
    """Declares a convolution before the one that runs first."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Conv2d(4, 2, 1)
        self.stem = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.stem(x))


class FromGrey(nn.Module):
    """Makes three channels of one before the first convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(torch.cat([x, x, x], 1))


def check(images: Tensor, model: nn.Module, **options: object) -> None:
    check_images("here", images, model, trace(model), **options)


def test_the_convolution_that_runs_first_tells_the_channels() -> None:
    check(torch.zeros(2, 3, 4, 4), LateStem())
    with pytest.raises(ValueError, match="here: images must have the 3 input channels .* got 4"):
        check(torch.zeros(2, 4, 4, 4), LateStem())


def test_channels_that_the_network_makes_itself_are_not_asked_of_the_images() -> None:
    grey = torch.zeros(2, 1, 4, 4)
    check(grey, FromGrey())
    assert len(FromGrey()(grey)) == 2
    with pytest.raises(ValueError, match="must have the 3 input channels .* got 1"):
        check(grey, LateStem())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 4, 4), r"\[N, C, H, W\] with N at least 1 .* got .* \[3, 4, 4\]"),
        (torch.zeros(0, 3, 4, 4), "with N at least 1"),
        (torch.zeros(1, 3, 0, 4), "C, H, W at least 1"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "must be floating point .* got torch.uint8"),
        (torch.zeros(1, 3, 4, 4).half(), "dtype of the network, torch.float32, got torch.float16"),
        (torch.zeros(1, 3, 4, 4, device="meta"), "must hold values, got a tensor on the meta"),
        (torch.zeros(1, 3, 4, 4).to_sparse(), r"must be dense, got torch\.sparse_coo; to_dense"),
        (torch.full((2, 3, 1, 1), torch.inf), "must be finite, got NaN or Inf in image 0"),
    ],
)
def test_unfit_images_are_named(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"^here: images .*{message}"):
        check(images, LateStem())


def test_what_is_no_tensor_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"here: images must be a torch\.Tensor, got list"):
        check_images("here", [[1.0]])  # type: ignore[arg-type]


def test_another_device_is_refused_only_where_images_stay_where_they_are() -> None:
    model, images = LateStem(), torch.zeros(1, 3, 4, 4)
    elsewhere = LateStem().to("meta")
    check_images("here", images, model, moved=False)
    check_images("here", images, elsewhere)
    with pytest.raises(ValueError, match="on the device of the network, meta, got cpu"):
        check_images("here", images, elsewhere, moved=False)


def test_more_images_can_be_asked_for() -> None:
    with pytest.raises(ValueError, match="with N at least 2"):
        check_images("here", torch.zeros(1, 3, 4, 4), min_images=2)

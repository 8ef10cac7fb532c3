"""What may be called a model: a network of fsc, of torchvision, of timm, or of the user's own file.

Nothing heavy is imported before a network is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsc import models
from fsc.wording import shown

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("torchvision", "timm")
FORMS = "torchvision:NAME, timm:NAME or FILE.py:FUNCTION"


@dataclass(frozen=True)
class Factory:
    """How a network is made.

    Attributes:
        kind: "fsc", "torchvision", "timm" or "file".
        name: of the network; of a file its path.
        function: in the file; "" otherwise.
    """

    kind: str
    name: str
    function: str = ""

    def __str__(self) -> str:
        """As it is typed."""
        if self.kind == "fsc":
            return self.name
        return f"{self.name}:{self.function}" if self.kind == "file" else f"{self.kind}:{self.name}"

    def build(
        self,
        *,
        pretrained: bool = False,
        num_classes: int | None = None,
        in_channels: int | None = None,
    ) -> nn.Module:
        """Build the network.

        Args:
            pretrained: with the default weights of the library, which may have to be fetched; the
                function of a file decides by itself which weights it gives.
            num_classes: of the head; None: as many as the network usually has.
            in_channels: of the images, for a network of fsc; None: 3.

        Returns:
            The network, in evaluation mode.

        Raises:
            ValueError: there is no such network, function or file, or it gives no network.
            ImportError: the library is missing or does not import.
            OSError: the weights cannot be fetched.
        """
        # Here, so that names can be read without torch.
        from fsc.models import library_networks
        from fsc.models.file_networks import build_from_file

        if self.kind == "file":
            return build_from_file(self.name, self.function).eval()
        if self.kind == "fsc":
            sizes = _given(num_classes=num_classes, in_channels=in_channels)
            return models.build(self.name, **sizes).eval()
        return library_networks.build(
            self.kind, self.name, pretrained=pretrained, **_given(num_classes=num_classes)
        ).eval()

    def data_configuration(self, model: nn.Module) -> dict[str, Any] | None:
        """How a library prepares images for the network, or None where nothing is known.

        Args:
            model: what `build` gave.

        Returns:
            Keyword arguments of `fsc.images.preparation.Preparation`.
        """
        from fsc.models import library_networks

        if self.kind in LIBRARIES:
            return library_networks.data_configuration(self.kind, self.name, model)
        # What timm built says so wherever it was built.
        from_timm = self.kind == "file" and hasattr(model, "pretrained_cfg")
        return library_networks.data_configuration("timm", "", model) if from_timm else None


def parse(text: str) -> Factory:
    """Read what was typed, without building or importing anything.

    Raises:
        ValueError: it is none of the forms.

    Example:
        >>> parse("timm:resnet50")
        Factory(kind='timm', name='resnet50', function='')
        >>> parse("nets/mine.py:build").function
        'build'
    """
    library, _, name = text.partition(":")
    if library in LIBRARIES and name:
        return Factory(library, name)
    # A path may hold colons itself.
    path, _, function = text.rpartition(":")
    if path.endswith(".py") and function:
        return Factory("file", path, function)
    if text.rstrip(":").endswith(".py"):
        path = text.rstrip(":")
        raise ValueError(
            f"model must name the function in {path} that returns the network, as in "
            f"{path}:build, got {shown(text)}"
        )
    if text in models.names():
        return Factory("fsc", text)
    raise ValueError(f"{text!r} is not one of {', '.join(models.names())}, {FORMS}")


def of_library(source: object) -> Factory | None:
    """The network of torchvision or timm that the header of a file names, or None.

    Whatever else it names is not built: no file is run because a header says so.

    Example:
        >>> of_library("timm:resnet50").name
        'resnet50'
        >>> of_library("nets/mine.py:build")
    """
    try:
        factory = parse(source) if isinstance(source, str) else None
    except ValueError:
        return None
    return factory if factory is not None and factory.kind in LIBRARIES else None


def _given(**sizes: int | None) -> dict[str, int]:
    return {name: size for name, size in sizes.items() if size is not None}

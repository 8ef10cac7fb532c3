"""Which few images a command draws: so many a class, of all or of some, or so many in all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import click

from fsc.cli import tables
from fsc.cli.given import Inputs
from fsc.cli.sentences import as_typed
from fsc.images import sampling
from fsc.images.folder import ImageFolder
from fsc.images.sampling import FewShotSample


@dataclass(frozen=True)
class Draw:
    """How the few images are drawn; exactly one of the first two is given.

    Attributes:
        num_shots: images a class.
        num_images: images in all, without regard to classes.
        num_ways: classes that are drawn first; None: all of them.
    """

    num_shots: int | None
    num_images: int | None
    num_ways: int | None

    def __post_init__(self) -> None:
        """Refuses both and none, and classes without images of each."""
        typed = as_typed({"--shots": self.num_shots, "--images": self.num_images})
        if len(typed) != 1:
            raise click.UsageError(
                f"Give either --shots or --images, got {' and '.join(typed) or 'none'}."
            )
        if self.num_ways is not None and self.num_shots is None:
            raise click.UsageError(
                f"--ways must go with --shots, got {self.num_ways} with --images {self.num_images}."
            )

    def __str__(self) -> str:
        """How many, in words."""
        if self.num_shots is not None:
            return tables.shots(self.num_shots, self.num_ways)
        return "1 image" if self.num_images == 1 else f"{self.num_images} images"

    @property
    def identity(self) -> dict[str, int | None]:
        """What the draws of two files must share."""
        return {"shots": self.num_shots, "ways": self.num_ways, "images": self.num_images}

    def sample(self, inputs: Inputs, seed: int) -> FewShotSample:
        """Draw from the training images.

        Raises:
            ValueError: there are fewer images than asked for, or none of them has a class.
        """
        train = inputs.train
        if self.num_images is not None:
            sample = sampling.sample_random(train.labels, self.num_images, seed, inputs.data_name)
        else:
            assert self.num_shots is not None
            if not train.classes:
                raise ValueError(
                    f"--shots must be left out where images have no classes, as in "
                    f"{inputs.data_title}: give --images, the number of all"
                )
            sample = sampling.sample_per_class(
                train.labels,
                self.num_shots,
                seed,
                inputs.data_name,
                train.classes,
                num_ways=self.num_ways,
            )
        if not isinstance(train, ImageFolder):
            return sample
        files = train.at(sample.indices).files
        names = [file.relative_to(train.path).as_posix() for file in files]
        return replace(sample, files=names, labels=sample.labels if train.classes else [])

"""Inputs that do not fit a network are refused in one sentence."""

import pytest
import torch
from any_networks import IMAGES, MASKS, VALID, WORDS, Optional, Plain, Reading, Signal, Two, Words

import fsc
from fsc import schemes

LABELS = torch.arange(6)
READ = {"image": IMAGES, "words": WORDS, "valid": VALID}


class Signals(Signal):
    """Two signals at once."""

    def forward(self, x, other):
        return super().forward(x + other)


class Weighted(Two):
    """An image, a mask, and how much each pixel counts."""

    def forward(self, image, mask, weight=None):
        return super().forward(image if weight is None else weight * image, mask)


SIX = r"\[6, 3, 10, 10\]"
OF_TWO = r"forward of Two, \(image, mask\)"
BYTES = (50 * IMAGES).abs().to(torch.uint8)
BOTH = {"image": IMAGES, "mask": MASKS}


@pytest.mark.parametrize(
    ("make", "given", "sentence"),
    [
        (Two, (IMAGES, MASKS[:4]), rf"as many in .* {SIX} for input 0 and \[4, 1, 10, 10\]"),
        (Two, (IMAGES[0], MASKS[0]), r"as many in .* \[3, 10, 10\] for input 0 and \[1, 10, 10\]"),
        (
            Two,
            BOTH | {"mask": MASKS[:0]},
            r"one N of at least 1, got .* \[0, 1, 10, 10\] for 'mask'",
        ),
        (Two, IMAGES, f"each argument of {OF_TWO}, got one tensor"),
        (Two, [IMAGES], f"each argument of {OF_TWO}, got one tensor"),
        (Two, (IMAGES,), f"{OF_TWO}, got 1; a list is one of images"),
        (Two, (IMAGES, MASKS, LABELS), f"{OF_TWO}, got 3"),
        (Two, {"image": IMAGES}, f"arguments of {OF_TWO}, got 'image'"),
        (Two, BOTH | {"label": LABELS}, f"{OF_TWO}, got 'image', 'mask', 'label'"),
        (Two, {}, f"{OF_TWO}, got an empty one"),
        (Two, [{"image": IMAGES, "label": LABELS}], f"{OF_TWO}, got 'image', 'label'"),
        (Plain, {}, r"\(x\), got an empty one"),
        (Two, BOTH | {"mask": None}, "for every input, got NoneType for 'mask'"),
        (Two, (IMAGES, [1]), "a torch.Tensor for every input, got list for input 1"),
        (Two, None, "a tuple or dict of them, a DataLoader, .* got NoneType"),
        (Two, (IMAGES, MASKS.double()), "or integers in every .*, got torch.float64 for input 1"),
        (Two, (IMAGES, MASKS[:, [0, 0]]), f"{OF_TWO} takes, .* 1, on which it fails with: Runtime"),
        (Two, (IMAGES, MASKS.to("meta")), "device of the network, cpu, got meta for input 1"),
        (Two, (IMAGES, MASKS * torch.nan), "finite, got NaN or Inf in image 0"),
        (Two, (IMAGES, MASKS.to_sparse()), r"dense, got torch\.sparse_coo; to_dense"),
        (Plain, IMAGES.to_sparse(), r"dense, got torch\.sparse_coo; to_dense"),
        (Plain, [IMAGES.to_sparse()], r"dense, got torch\.sparse_coo; to_dense"),
        (Plain, {"image": IMAGES}, r"a tensor or a dict of .* of Plain, \(x\), got 'image'$"),
        (Plain, {"image": IMAGES, "mask": MASKS}, r"Plain, \(x\), got 'image', 'mask'$"),
        (
            Plain,
            {"image": IMAGES[:, 0]},
            r"\(x\) takes, got \[6, 10, 10\] for 'image', .* arguments - got \([^()]*\)$",
        ),
        (Plain, {"x": BYTES}, r"floating point for .* \(x\), got torch\.uint8 for 'x'$"),
        (Two, (BYTES, MASKS), rf"floating point for {OF_TWO}, got torch\.uint8 for input 0$"),
        (Two, (BYTES, BYTES[:, :1]), "got torch.uint8 for input 0 and torch.uint8 for input 1$"),
        (Reading, READ | {"words": WORDS + 2**24}, "torch.float32 can hold, up to 16777216, got"),
        (Reading, (IMAGES, WORDS), r"of Reading, \(image, words, valid\) takes, .* 'valid'"),
        (
            Optional,
            [(IMAGES, MASKS)],
            r"as dicts .* of Optional, \(image, mask\) can .* tuple of 2",
        ),
        (Weighted, [[*BOTH.values(), IMAGES]], r"as dicts .*, weight\) can do .*, got a list of 3"),
        (Words, WORDS + 7, r"\(words\) takes, got \[6, 4\] for input 0, .* index out of range"),
        (Words, WORDS[:0], r"one N of at least 1, got \[0, 4\] for input 0"),
        (Plain, IMAGES.long(), "floating point .*, got torch.int64"),
        (Signals, [(IMAGES, IMAGES)], rf"as \[C, L\] or \[N, C, L\], or .* got {SIX} .* {SIX}"),
        (Two, [BOTH, BOTH | {"mask": MASKS[..., :4]}], "have one size, .* 10] and .* 4]"),
        (Optional, [BOTH, {"image": IMAGES}], "come alike in every batch"),
    ],
)
def test_unfit_inputs_are_one_sentence(make, given, sentence):
    with pytest.raises(
        (ValueError, TypeError), match=f"^compress: images.* must .*{sentence}"
    ) as e:
        fsc.compress(make().eval(), given, method="l1")
    assert "\n" not in str(e.value)


def test_inspect_and_structured_say_the_same():
    for function, call in (
        ("inspect", lambda given: fsc.inspect(Two(), given)),
        ("structured", lambda given: schemes.structured(Two(), 0.5, given)),
        ("check", lambda given: schemes.check(schemes.Scheme("s", {"a": 4}), Two(), given)),
    ):
        with pytest.raises(
            ValueError, match=f"^{function}: images must be a dict of the arguments"
        ):
            call({"image": IMAGES})

import json

import numpy as np
import pytest

from fsc.images.sampling import FewShotSample, sample_per_class, sample_random

LABELS = np.array([2, 0, 1, 1, 0, 2, 2, 0, 1, 2] * 5)


@pytest.mark.parametrize("num_shots", [1, 3, 15])
def test_every_class_gives_its_shots(num_shots):
    sample = sample_per_class(LABELS, num_shots, seed=3, dataset="toy")
    assert sample.labels == [0] * num_shots + [1] * num_shots + [2] * num_shots
    assert sample.labels == LABELS[sample.indices].tolist()
    assert len(set(sample.indices)) == 3 * num_shots == sample.num_images
    assert (sample.seed, sample.num_shots, sample.dataset) == (3, num_shots, "toy")


def test_seed_decides_the_sample():
    assert sample_per_class(LABELS, 5, seed=1) == sample_per_class(LABELS, 5, seed=1)
    assert sample_per_class(LABELS, 5, seed=1) != sample_per_class(LABELS, 5, seed=2)
    assert sample_random(LABELS, 9, seed=1) == sample_random(LABELS, 9, seed=1)
    assert sample_random(LABELS, 9, seed=1).indices != sample_random(LABELS, 9, seed=2).indices


def test_the_draw_is_pinned():
    assert sample_per_class(LABELS, 2, seed=0).indices == [7, 37, 8, 38, 10, 46]
    assert sample_random(LABELS, 6, seed=0).indices == [18, 23, 36, 4, 2, 3]


def test_smaller_samples_are_part_of_larger_ones():
    few = set(sample_per_class(LABELS, 2, seed=7).indices)
    assert few < set(sample_per_class(LABELS, 3, seed=7).indices)
    assert sample_random(LABELS, 30, 7).indices[:4] == sample_random(LABELS, 4, 7).indices


@pytest.mark.parametrize("num_ways", [1, 2, 3])
def test_so_many_classes_are_drawn_first(num_ways):
    drawn = set()
    for seed in range(40):
        sample = sample_per_class(LABELS, 4, seed, num_ways=num_ways)
        classes = sorted(set(sample.labels))
        assert len(classes) == num_ways == sample.num_ways
        assert sample.labels == [label for label in classes for _ in range(4)]
        assert sample.labels == LABELS[sample.indices].tolist()
        assert len(set(sample.indices)) == 4 * num_ways == sample.num_images
        drawn.add(tuple(classes))
    assert len(drawn) == (1 if num_ways == 3 else 3)


def test_fewer_classes_are_part_of_more_with_the_images_that_they_have_among_all():
    every = sample_per_class(LABELS, 3, seed=5)
    assert sample_per_class(LABELS, 3, seed=5, num_ways=3).indices == every.indices
    one, two = (sample_per_class(LABELS, 3, seed=5, num_ways=ways) for ways in (1, 2))
    assert set(one.indices) < set(two.indices) < set(every.indices)
    assert set(sample_per_class(LABELS, 2, seed=5, num_ways=2).indices) < set(two.indices)


def test_classes_with_too_few_images_are_not_drawn():
    labels = np.array([0] * 9 + [1] * 2 + [2] * 9)
    for seed in range(20):
        assert set(sample_per_class(labels, 3, seed, num_ways=2).labels) == {0, 2}
    with pytest.raises(ValueError, match="exceed the 2 classes that have 3 images or more, got 3"):
        sample_per_class(labels, 3, 0, num_ways=3)


def test_random_sample_ignores_the_classes():
    sample = sample_random(LABELS, len(LABELS), seed=0)
    assert sorted(sample.indices) == list(range(len(LABELS)))
    assert sample.num_shots is None and sample.labels == LABELS[sample.indices].tolist()


def test_sample_survives_a_file(tmp_path):
    for sample in (
        sample_per_class(LABELS, 2, 0, "toy"),
        sample_per_class(LABELS, 2, 0, num_ways=2),
        sample_random(LABELS, 5, 0),
    ):
        sample.save(tmp_path / "runs" / "sample.json")
        assert FewShotSample.load(tmp_path / "runs" / "sample.json") == sample
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["sample.json"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: sample_per_class(LABELS, 16, 0),
            "num_shots must not exceed the 15 images of class 0, got 16",
        ),
        (
            lambda: sample_per_class(LABELS, 1, 0, num_ways=4),
            "num_ways must not exceed the 3 classes that have 1 image or more, got 4",
        ),
        (lambda: sample_per_class(LABELS, 1, 0, num_ways=0), "num_ways must be at least 1, got 0"),
        (lambda: sample_per_class(LABELS, 0, 0), "num_shots must be at least 1, got 0"),
        (lambda: sample_per_class(LABELS, 1, -1), "seed must not be negative, got -1"),
        (
            lambda: sample_random(LABELS, 51, 0),
            "between 1 and the 50 images there are, got 51",
        ),
        (lambda: sample_random(LABELS, 0, 0), "between 1 and the 50 images there are, got 0"),
        (lambda: sample_random(LABELS[:0], 1, 0), "labels must be integers"),
        (lambda: sample_per_class(LABELS / 2, 1, 0), "labels must be integers"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


GOOD = {
    "indices": [3, 1],
    "labels": [0, 1],
    "seed": 0,
    "num_shots": 1,
    "num_images": 2,
    "dataset": "",
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        (json.dumps([]), "expected an object with exactly indices, labels"),
        (json.dumps(GOOD | {"more": 1}), "expected an object with exactly indices, labels"),
        (json.dumps(GOOD | {"indices": [1, -2]}), "indices must be a list of integers"),
        (json.dumps(GOOD | {"labels": [0]}), "indices and labels must be equally long"),
        (json.dumps(GOOD | {"indices": [1, 1]}), "indices must not repeat"),
        (json.dumps(GOOD | {"num_images": 3}), "num_images must be 2, got 3"),
        (json.dumps(GOOD | {"seed": "a"}), "seed must be an integer, got 'a'"),
        (json.dumps(GOOD | {"num_shots": 1.5}), "num_shots must be an integer or null, got 1.5"),
        (json.dumps(GOOD | {"num_ways": "2"}), "num_ways must be an integer or null, got '2'"),
        (json.dumps(GOOD | {"dataset": None}), "dataset must be a text, got None"),
    ],
)
def test_damaged_file(tmp_path, content, message):
    path = tmp_path / "sample.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        FewShotSample.load(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="sample file .*none.json does not exist"):
        FewShotSample.load(tmp_path / "none.json")


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file .*sample.json cannot be written"):
        sample_random(LABELS, 2, 0).save(tmp_path / "file" / "sample.json")

"""CIFAR-10 and CIFAR-100 as they are published, but with a few images of noise."""

import io
import pickle

import numpy as np

CLASSES = tuple(f"class{index}" for index in range(10))


class Python2Pickler(pickle._Pickler):
    """Writes strings and bytes alike as Python 2 did, and numpy's functions at their old home."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        raw = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)
        self.memoize(value)

    dispatch[str] = save_string
    dispatch[bytes] = save_string


def dump(path, content, python2):
    if not python2:
        path.write_bytes(pickle.dumps(content, protocol=4))
        return
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    path.write_bytes(buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))


def write_batches(folder, python2=False, images_per_batch=4):
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    dump(folder / "batches.meta", {"label_names": list(CLASSES)}, python2)
    written = {}
    for name in [f"data_batch_{index}" for index in range(1, 6)] + ["test_batch"]:
        rows = generator.integers(0, 256, (images_per_batch, 3072)).astype(np.uint8)
        labels = generator.integers(0, 10, images_per_batch).tolist()
        dump(folder / name, {"data": rows, "labels": labels, "filenames": ["a.png"]}, python2)
        written[name] = (rows, labels)
    return written


def write_arrays(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        "images": np.arange(3 * 3072).astype(np.uint8).reshape(3, 32, 32, 3),
        "labels": np.array([0, 9, 4], dtype=np.uint8),
        "classes": np.array(CLASSES),
    } | changes
    np.savez(path, **arrays)
    return arrays


def write_cifar100(folder, python2=False):
    folder.mkdir(parents=True)
    names = [f"fine{index}" for index in range(100)]
    coarse = [f"coarse{index}" for index in range(20)]
    dump(folder / "meta", {"fine_label_names": names, "coarse_label_names": coarse}, python2)
    generator = np.random.default_rng(0)
    written = {}
    for split, count in (("train", 6), ("test", 3)):
        rows = generator.integers(0, 256, (count, 3072)).astype(np.uint8)
        labels = generator.integers(50, 100, count).tolist()
        batch = {"data": rows, "fine_labels": labels, "coarse_labels": [0] * count}
        dump(folder / split, batch, python2)
        written[split] = (rows, labels)
    return written

"""Trains a small image classifier on a directory of labelled pictures, and times it.

Ordinary code that knows nothing of shardfs: it walks a directory, and worker processes open its
files with Pillow. The label of a picture is the top folder it lies in.
"""

import argparse
import json
import multiprocessing
import os
import random
import subprocess
import time
from collections import Counter

import numpy
from PIL import Image
from sklearn.ensemble import RandomForestClassifier

SIDE = 32  # pixels to which a picture is shrunk
CELL = 8   # pixels of a cell of the gradient histogram
BINS = 9   # directions a gradient is counted by
LARGEST = 1_000_000  # pixels of a picture that is worth its time here


def pictures(root, classes):
    """(path, label) of every picture in the `classes` largest top folders, in a fixed order.

    Symbolic links are left out: they would put one picture into training and test both.
    """
    found = []
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name.endswith(".png") and not os.path.islink(path):
                found.append((path, os.path.relpath(path, root).split(os.sep)[0]))
    largest = {label for label, _ in Counter(label for _, label in found).most_common(classes)}
    return [(path, label) for path, label in found if label in largest]


def gradient_histogram(gray):
    """How strong the edges of each direction are, cell by cell."""
    dy, dx = numpy.gradient(gray)
    strength = numpy.hypot(dx, dy)
    direction = ((numpy.arctan2(dy, dx) % numpy.pi) / numpy.pi * BINS).astype(int) % BINS
    cells = SIDE // CELL
    row, column = numpy.indices(gray.shape) // CELL
    slot = (row * cells + column) * BINS + direction
    counts = numpy.bincount(slot.ravel(), strength.ravel(), cells * cells * BINS)
    return counts / (counts.sum() + 1e-6)


def features(path):
    """A picture's bytes in its file, and numbers that describe it; None for a very large one."""
    with Image.open(path) as image:
        width, height = image.size
        if width * height > LARGEST:
            return 0, None
        colour = image.convert("RGBA").resize((SIDE, SIDE), Image.BOX)
    pixels = numpy.asarray(colour, dtype=numpy.float32) / 255
    opaque = pixels[:, :, 3:]
    rgb = pixels[:, :, :3] * opaque + (1 - opaque)
    thumbnail = rgb.reshape(8, SIDE // 8, 8, SIDE // 8, 3).mean(axis=(1, 3))
    return os.stat(path).st_size, numpy.concatenate([
        gradient_histogram(rgb.mean(axis=2)), thumbnail.ravel(), rgb.std(axis=(0, 1)),
        [width, height, width / height, opaque.mean()]])


def one_pass(pool, paths):
    """Reads all pictures in random order. Returns seconds, bytes, and features in `paths`' order."""
    order = random.sample(range(len(paths)), len(paths))
    start = time.monotonic()
    read = pool.map(features, [paths[i] for i in order], chunksize=32)
    seconds = time.monotonic() - start
    rows = dict(zip(order, (row for _, row in read)))
    return seconds, sum(size for size, _ in read), [rows[i] for i in range(len(paths))]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="directory whose top folders are the labels")
    parser.add_argument("--classes", type=int, default=10, help="take the N largest top folders")
    parser.add_argument("--between", default="true", metavar="COMMAND",
                        help="shell command to run between the two passes")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random.seed(options.seed)

    found = pictures(options.root, options.classes)
    paths = [path for path, _ in found]
    Image.MAX_IMAGE_PIXELS = None
    with multiprocessing.Pool() as pool:
        first, size, rows = one_pass(pool, paths)
        subprocess.run(options.between, shell=True, check=True)
        second, _, again = one_pass(pool, paths)
    if not all(numpy.array_equal(a, b) for a, b in zip(rows, again)):
        raise SystemExit("the second pass read other pictures than the first")

    kept = [i for i, row in enumerate(rows) if row is not None]
    table, labels = numpy.array([rows[i] for i in kept]), numpy.array([found[i][1] for i in kept])

    held_back = numpy.arange(len(labels)) % 5 == 0  # a fifth, evenly from every folder
    forest = RandomForestClassifier(300, class_weight="balanced_subsample", n_jobs=-1,
                                    random_state=options.seed)
    start = time.monotonic()
    forest.fit(table[~held_back], labels[~held_back])
    accuracy = forest.score(table[held_back], labels[held_back])
    most_common = Counter(labels).most_common(1)[0][1] / len(labels)
    print(json.dumps({"files": len(kept), "bytes": size, "classes": len(set(labels)),
                      "first_pass_s": first, "second_pass_s": second,
                      "train_s": time.monotonic() - start, "accuracy": accuracy,
                      "always_the_largest_class": most_common}))


if __name__ == "__main__":
    main()

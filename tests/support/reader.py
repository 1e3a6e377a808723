"""A process that reads a tree again and again in random order and compares every byte with its source.

    reader.py MOUNT SOURCE SEED [EPOCHS]

Reads EPOCHS times, or until its standard input ends. What it reads leaves the page cache again, so that the next
read asks the mount. Prints one JSON object: files read; wrong, files with other bytes; errors, [file, errno, begin,
end], the times by the monotonic clock, which all processes share; longest, seconds of the slowest file.
"""

import json
import os
import random
import select
import sys
import time


def is_told_to_end() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


def read_afresh(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        pieces = []
        while piece := os.read(descriptor, 1 << 20):
            pieces.append(piece)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def main(mount: str, source: str, seed: str, epochs: str = "0") -> dict:
    files = {}
    for folder, _, names in os.walk(source):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                files[os.path.relpath(path, source)] = file.read()
    order = sorted(files)
    shuffle = random.Random(int(seed)).shuffle
    seen = {"files": 0, "wrong": [], "errors": [], "longest": 0}
    epoch = 0
    while epoch < int(epochs) or int(epochs) == 0:
        shuffle(order)
        for name in order:
            if int(epochs) == 0 and is_told_to_end():
                return seen
            begin = time.monotonic()
            try:
                right = read_afresh(os.path.join(mount, name)) == files[name]
                seen["files"] += 1
                if not right:
                    seen["wrong"].append(name)
            except OSError as error:
                seen["errors"].append([name, error.errno, begin, time.monotonic()])
                time.sleep(0.01)
            seen["longest"] = max(seen["longest"], time.monotonic() - begin)
        epoch += 1
    return seen


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))

"""Archives of other formats, as the tools that people have make them: one for each way to get at the data."""

import os
import random
import subprocess
from pathlib import Path

# How each is made of the tree $S as the archive $A.
PACKERS = {
    "plain.tar": "tar --format=gnu --sort=name -C $S -cf $A .",  # at once
    "deflate.zip": "bsdtar --format=zip -C $S -cf $A .",  # a member
    "zstd.squashfs": "mksquashfs $S $A -comp zstd -quiet -no-progress",  # a block of 128 KiB
    "points.tar.gz": "tar --format=gnu --sort=name -C $S -c . | gzip -1 > $A",  # from a point where it can be entered
}


def make_files(seed: int, count: int = 200) -> dict:
    """Files of 48 to 144 KiB in folders, 19 MB: path → bytes. Every other one compresses, to a half."""
    make = random.Random(seed)
    files = {}
    for number in range(count):
        size = make.randrange(24 << 10, 72 << 10)
        data = make.randbytes(size).hex().encode() if number % 2 else make.randbytes(2 * size)
        files[f"{number % 7}/file-{number:03}"] = data
    return files


def write_tree(root, files: dict) -> Path:
    for path, data in files.items():
        (Path(root) / path).parent.mkdir(parents=True, exist_ok=True)
        (Path(root) / path).write_bytes(data)
    return Path(root)


def pack(source, archive) -> Path:
    """Makes the archive that its name says of a tree."""
    archive = Path(archive)
    archive.unlink(missing_ok=True)
    subprocess.run(["bash", "-o", "pipefail", "-c", PACKERS[archive.name]], check=True,
                   env={**os.environ, "S": str(source), "A": str(archive), "LC_ALL": "C.UTF-8", "TZ": "UTC"})
    return archive

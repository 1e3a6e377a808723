"""KvikIO on the extracted files that bench_gpu has made, in the same batches."""

import os
import statistics
import sys
import time
from pathlib import Path

try:
    import cupy
    import kvikio
    import kvikio.defaults
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(0)

files = Path(sys.argv[1]) / "files"
rounds = int(sys.argv[2])
SETS = [("20KB", 20_000, 256), ("110KB", 110_000, 256), ("1MB", 1_000_000, 256), ("4GB", 4_000_000_000, 1)]


def forget(paths):
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def read(paths, size, batch, out):
    for begin in range(0, len(paths), batch):
        opened, futures = [], []
        for number, path in enumerate(paths[begin:begin + batch]):
            file = kvikio.CuFile(path, "r")
            opened.append(file)
            futures.append(file.pread(out[number * size:(number + 1) * size]))
        for future in futures:
            future.get()
        for file in opened:
            file.close()


try:
    kvikio.defaults.set("num_threads", 16)
except (AttributeError, TypeError):
    kvikio.defaults.num_threads_reset(16)
for name, size, batch in SETS:
    paths = [str(path) for path in sorted((files / name).rglob("*.bin"))]
    out = cupy.empty(size * batch, cupy.uint8)
    for state in ("warm", "cold"):
        rates = []
        if state == "warm":
            read(paths, size, batch, out)
        for _ in range(rounds if state == "warm" else min(rounds, 2)):
            if state == "cold":
                forget(paths)
            start = time.perf_counter()
            read(paths, size, batch, out)
            rates.append(size * len(paths) / (time.perf_counter() - start))
        print(f'{{"set": "{name}", "way": "KvikIO, 16 threads", "state": "{state}", '
              f'"gb_s": {statistics.median(rates) / 1e9:.2f}}}', flush=True)
    del out

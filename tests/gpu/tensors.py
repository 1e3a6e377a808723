"""DLPack tensors on a GPU: PyTorch, CuPy and JAX take them without a copy, bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import shardfs

work = Path(sys.argv[1])
source = work / "tensors"
source.mkdir()
FILES = {f"f{size}": os.urandom(size) for size in (0, 1, 4095, 4096, 4097, 20_000, 1_000_000, 100_000_000)}
for name, data in FILES.items():
    (source / name).write_bytes(data)
failures = 0


def check(what: str, right: bool):
    global failures
    failures += not right
    print(f"{'ok' if right else 'WRONG'}: {what}")


for container in ("tar", "tar.zst"):
    archive = work / f"tensors.{container}"
    subprocess.run(["mkshard", source, "-o", archive, "-q", "--force"], check=True)
    with shardfs.Dataset(archive) as data:
        batch = data.read_batch(list(FILES), device="cuda:0")
        check(f"{container}: {set(batch.routes)}, all verified", all(batch.verified))
        try:
            import torch
            tensors = [torch.from_dlpack(tensor) for tensor in batch]
            check(f"{container}: PyTorch", all(tensor.is_cuda and bytes(tensor.cpu().numpy()) == FILES[name]
                                               for tensor, name in zip(tensors, FILES)))
            begin = tensors[-1].data_ptr()
            again = torch.from_dlpack(batch[len(batch) - 1])
            check(f"{container}: no copy", again.data_ptr() == begin)
            out = torch.zeros(sum(-(-len(d) // 256) * 256 for d in FILES.values()), dtype=torch.uint8, device="cuda")
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                out.fill_(7)
                pending = data.submit(list(FILES), out, device=out.device, stream=stream).wait(stream)
                copy = out.clone()
            stream.synchronize()
            check(f"{container}: PyTorch's own memory, in its stream",
                  all(bytes(copy[o:o + n].cpu().numpy()) == FILES[name]
                      for name, o, n in zip(FILES, pending.offsets, pending.sizes)))
        except ImportError:
            print("skipped: PyTorch is not here")
        try:
            import cupy
            check(f"{container}: CuPy", all(cupy.from_dlpack(tensor).tobytes() == FILES[name]
                                            for tensor, name in zip(batch, FILES) if len(tensor)))
        except ImportError:
            print("skipped: CuPy is not here")
        try:
            os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
            import jax
            import numpy
            check(f"{container}: JAX", all(numpy.asarray(jax.dlpack.from_dlpack(tensor)).tobytes() == FILES[name]
                                           for tensor, name in zip(batch, FILES) if len(tensor)))
        except ImportError:
            print("skipped: JAX is not here")
    archive.unlink()
sys.exit(failures != 0)

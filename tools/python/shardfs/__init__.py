"""Files of a shardfs archive, in batches, into the memory of a GPU or the host's.

    import shardfs, torch
    data = shardfs.Dataset("/project/def-x/imagenet.tar")        # or a directory it is mounted at
    batch = data.read_batch(["n01440764/1.JPEG", "n01440764/2.JPEG"], device="cuda:0")
    images = [torch.from_dlpack(tensor) for tensor in batch]

What comes back are one-dimensional tensors of bytes that PyTorch, CuPy, JAX and NumPy take by DLPack
without a copy. Every byte has been compared with the archive's checksums, where it has any
(shards have), unless verify=False.
"""

from shardfs._dataset import Batch, Dataset, Pending, Tensor
from shardfs._library import Error

__all__ = ["Batch", "Dataset", "Error", "Pending", "Tensor"]
__version__ = "0.1.0"

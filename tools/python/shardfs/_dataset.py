"""Data sets, batches and tensors."""

import ctypes
import operator
import os
import sys
from collections.abc import Sequence
from ctypes import byref, c_char, c_char_p, c_int, c_size_t, c_uint64, c_void_p, sizeof

from shardfs import _library
from shardfs._library import HOST, ROUTES, TO_END, Error, Extent, Options, Read, call, lib

_GAP = 256  # bytes: what files in one allocation are aligned to


def _device_number(device) -> int:
    """ "cpu" as HOST, "cuda:N" as N, "cuda" as PyTorch's present device; a torch.device is told by
    its text."""
    text = str(device)
    if text == "cpu":
        return HOST
    kind, _, number = text.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise ValueError(f'device {text!r}: not "cpu", "cuda" or "cuda:N"')
    if number:
        return int(number)
    return sys.modules["torch"].cuda.current_device() if "torch" in sys.modules else 0


def _memory_of(array, device: int):
    """Address and bytes of a contiguous array of PyTorch, CuPy or NumPy, or of a bytearray and the
    like, on `device`, and what keeps it there."""
    on_gpu = getattr(array, "__cuda_array_interface__", None) if not hasattr(array, "data_ptr") else None
    is_object = is_read_only = False
    if hasattr(array, "data_ptr"):
        address, nbytes, is_contiguous = (array.data_ptr(), array.numel() * array.element_size(),
                                          array.is_contiguous())
    elif on_gpu or hasattr(array, "__array_interface__"):
        interface = on_gpu or array.__array_interface__
        (address, is_read_only), nbytes, is_contiguous = (interface["data"], array.nbytes,
                                                          interface.get("strides") is None)
        is_object = interface["typestr"][1] == "O"
    else:
        array = memoryview(array)
        nbytes, is_contiguous, is_read_only = array.nbytes, array.contiguous, array.readonly
        if is_contiguous and not is_read_only and nbytes:
            array = (c_char * nbytes).from_buffer(array)
        address = ctypes.addressof(array) if isinstance(array, ctypes.Array) else 0
    if is_object:
        raise ValueError("the memory to read into holds Python objects")
    if not is_contiguous:
        raise ValueError("the memory to read into is not contiguous")
    if is_read_only:
        raise ValueError("the memory to read into is read-only")
    is_on_gpu = bool(on_gpu) or str(getattr(array, "device", "cpu")) != "cpu"
    if is_on_gpu != (device != HOST):
        raise ValueError(f"the memory to read into is {'' if is_on_gpu else 'not '}on a GPU; try: the "
                         "device that it is on")
    return address, nbytes, array


def _stream_number(stream) -> int:
    """A stream of PyTorch or CuPy, or its address."""
    for name in ("cuda_stream", "ptr"):
        if hasattr(stream, name):
            return getattr(stream, name)
    return int(stream)


ctypes.pythonapi.PyCapsule_New.restype = ctypes.py_object
ctypes.pythonapi.PyCapsule_New.argtypes = [c_void_p, c_char_p, c_void_p]


# What the library gives is taken in by an object that is there before: an exception, as a signal's
# handler raises one, finds it owned.


class _Buffer:
    """One allocation of a batch."""

    def __init__(self, device: int):
        self.handle, self.device = c_void_p(), device

    def __del__(self):
        if self.handle:
            lib.shardfs_buffer_drop(self.handle)


class Tensor:
    """One file's bytes: a one-dimensional tensor of uint8 for from_dlpack()."""

    def __init__(self, buffer: _Buffer, offset: int, nbytes: int):
        self._buffer, self._offset, self.nbytes = buffer, offset, nbytes

    def __len__(self) -> int:
        return self.nbytes

    def __dlpack_device__(self):
        return (1, 0) if self._buffer.device == HOST else (2, self._buffer.device)

    def __dlpack__(self, stream=None, max_version=None, dl_device=None, copy=None):
        # Of the versions the first is understood by all. The bytes have been in place since the
        # batch was read: no stream needs to wait.
        if copy:
            raise BufferError("a tensor gives no copy of itself; try: copying what it gives")
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            raise BufferError(f"the bytes are on device {self.__dlpack_device__()}")
        managed = lib.shardfs_buffer_dlpack(self._buffer.handle, self._offset, self.nbytes)
        return ctypes.pythonapi.PyCapsule_New(managed, b"dltensor",
                                              ctypes.cast(lib.shardfs_drop_capsule, c_void_p))

    def __bytes__(self) -> bytes:
        """A copy; of host memory only."""
        if self._buffer.device != HOST:
            raise ValueError("the bytes are on a GPU; try: torch.from_dlpack(tensor).cpu()")
        return ctypes.string_at(lib.shardfs_buffer_data(self._buffer.handle) + self._offset,
                                self.nbytes)


class _Results:
    """What became of the reads of a batch."""

    def _take(self, reads):
        self.sizes = [read.bytes for read in reads]
        self.routes = [ROUTES[read.route] for read in reads]
        self.verified = [bool(read.verified) for read in reads]
        self.errors = [read.error for read in reads]


class Batch(_Results, Sequence):
    """Tensors of the files that were read, in the order of their paths, all in one allocation."""

    def __init__(self, buffer: _Buffer, reads):
        begin = lib.shardfs_buffer_data(buffer.handle)
        self._buffer = buffer
        self.offsets = [(read.buffer or begin) - begin for read in reads]
        self._take(reads)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number):
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        return Tensor(self._buffer, self.offsets[number], self.sizes[number])

    @property
    def packed(self) -> Tensor:
        """The whole allocation: file i is its sizes[i] bytes from offsets[i] on."""
        return Tensor(self._buffer, 0, lib.shardfs_buffer_size(self._buffer.handle))


class Pending(_Results):
    """A batch on its way into memory of the caller's, which is kept until it has arrived."""

    def __init__(self, reads, offsets, memory):
        self._handle, self._reads, self._memory, self.offsets = c_void_p(), reads, memory, offsets

    def wait(self, stream=None):
        """Waits until every byte is in place; with a stream only until the rest is its business.
        Error, each time it is called: a file could not be read."""
        try:
            if stream is None:
                call("shardfs_wait", self._handle)
            else:
                call("shardfs_wait_in_stream", self._handle, c_void_p(_stream_number(stream)))
        except Error as error:
            error.batch = self
            raise
        finally:
            self._take(self._reads)
        return self

    def __del__(self):
        if self._handle:
            lib.shardfs_batch_drop(self._handle)  # Waits: the memory is written to until then.


class _Opened:
    """An archive as the library has it open, until nobody uses it."""

    def __init__(self, path, options):
        self.handle, self.pid = c_void_p(), os.getpid()
        call("shardfs_open", path, byref(options), byref(self.handle))

    def __del__(self):
        if self.handle:
            lib.shardfs_close(self.handle)


def _options_of(values) -> Options:
    options = Options()
    lib.shardfs_options_init_sized(byref(options), sizeof(options))
    kinds = dict(Options._fields_)
    for name, value in values.items():
        if value is None:
            continue
        if kinds[name] is c_char_p:
            setattr(options, name, os.fsencode(value))
            continue
        number = operator.index(value)
        setattr(options, name, number)
        if getattr(options, name) != number:
            raise ValueError(f"{name}: {number}: out of range")
    return options


def _path(path) -> bytes:
    path = os.fsencode(path)
    if b"\0" in path:
        raise ValueError("embedded null byte")
    return path


class Dataset:
    """An archive, by its own path or by that of a directory it is mounted at.

    tier, cache_dir, cache_bytes: as of `shardfs mount`. gpu: "off", "auto" or "require". verify:
    compare every byte with the archive's checksums, where it has any. route: "pinned" or "gds", for comparisons.
    readers: threads. library options that are None are the library's defaults. Any thread may use
    it; in a forked or unpickled copy, as those of a DataLoader's workers, it is opened anew.
    """

    def __init__(self, path, *, tier=None, cache_dir=None, cache_bytes=None, shardfs=None, gpu=None,
                 verify=True, route=None, cufile=None, readers=0, staging_bytes=None):
        # A copy of it may be opened in another directory.
        self.path = os.path.abspath(os.fspath(path))
        self._options = {"tier": tier, "cache_dir": cache_dir and os.path.abspath(cache_dir),
                         "cache_bytes": cache_bytes, "shardfs": shardfs, "gpu": gpu,
                         "verify": int(verify), "route": route, "cufile": cufile, "readers": readers,
                         "staging_bytes": staging_bytes}
        self._opened = self._open()

    def _open(self) -> _Opened:
        return _Opened(_path(self.path), _options_of(self._options))

    def _use(self) -> _Opened:
        """For as long as what it gives is held, it stays open."""
        opened = self._opened
        if opened is None:
            raise ValueError("the data set is closed")
        if opened.pid != os.getpid():
            # Of several threads that do so the last one's stays.
            self._opened = opened = self._open()
        return opened

    def __getstate__(self):
        return {"path": self.path, "_options": self._options}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._opened = self._open()

    def close(self):
        """It ends with what is under way in it. Tensors that it gave live on."""
        self._opened = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def files(self, directory="") -> list:
        """(path, size in bytes) of every regular file below a directory."""
        length, opened = c_size_t(), self._use()
        call("shardfs_list_text", opened.handle, _path(directory), None, 0, byref(length))
        text = ctypes.create_string_buffer(length.value)
        call("shardfs_list_text", opened.handle, _path(directory), text, length.value, byref(length))
        words = text.raw.split(b"\0")
        return [(os.fsdecode(path), int(size)) for path, size in zip(words[0:-1:2], words[1::2])]

    def size(self, path) -> int:
        size, opened = c_uint64(), self._use()
        call("shardfs_size", opened.handle, _path(path), byref(size))
        return size.value

    def extents(self, path) -> list:
        """Where a file's bytes lie in the archive: [{offset, length, stored, skip, decoded}]."""
        count, opened = c_size_t(), self._use()
        call("shardfs_extents", opened.handle, _path(path), None, 0, byref(count))
        extents = (Extent * count.value)()
        call("shardfs_extents", opened.handle, _path(path), extents, count.value, byref(count))
        return [{name: getattr(extent, name) for name, _ in Extent._fields_} for extent in extents]

    def route(self, device="cpu"):
        """(route, reason): how the next batch to `device` will be read, and why."""
        route, reason, opened = c_int(), ctypes.create_string_buffer(500), self._use()
        call("shardfs_route_to", opened.handle, _device_number(device), byref(route), reason,
             len(reason))
        return ROUTES[route.value], reason.value.decode(errors="replace")

    def read_batch(self, paths, device="cpu") -> Batch:
        """Reads whole files. Error: one of them could not be read."""
        reads, opened = self._reads(paths), self._use()
        buffer = _Buffer(_device_number(device))
        try:
            call("shardfs_read_packed", opened.handle, buffer.device, reads, len(reads),
                 byref(buffer.handle))
        except Error as error:
            error.batch = Batch(buffer, reads) if buffer.handle else None
            raise
        return Batch(buffer, reads)

    def submit(self, paths, out, device="cpu", stream=None, sizes=None) -> Pending:
        """Begins to read whole files into `out`, memory of PyTorch, CuPy or NumPy on `device`, or a
        bytearray: one behind the other, each at a multiple of 256 bytes (Pending.offsets). With a
        stream it is written to after what is in the stream now; without one at once, so that nothing
        that was queued may use it still. `sizes`: of the files, where they are known; no more of a
        file is read."""
        reads, number, opened = self._reads(paths), _device_number(device), self._use()
        begin, room, memory = _memory_of(out, number)
        offsets, end = [], 0
        for i, read in enumerate(reads):
            read.length = sizes[i] if sizes is not None else self.size(paths[i])
            offsets.append(min(end, room))
            read.buffer = begin + offsets[-1]
            if read.length > room - offsets[-1]:
                raise ValueError(f"the files need more than the {room} bytes to read into")
            end += read.length
            end = -(-end // _GAP) * _GAP
        pending = Pending(reads, offsets, memory)
        flags = 0 if stream is None else _library.AFTER_STREAM
        call("shardfs_submit", opened.handle, number, reads, len(reads),
             None if stream is None else c_void_p(_stream_number(stream)), flags,
             byref(pending._handle))
        return pending

    @staticmethod
    def _reads(paths):
        if isinstance(paths, (str, bytes, os.PathLike)):
            raise TypeError("one path, not a list of paths")
        reads = (Read * len(paths))()
        for read, path in zip(reads, paths):
            read.path, read.length = _path(path), TO_END
        return reads

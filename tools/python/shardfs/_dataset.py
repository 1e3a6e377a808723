"""Data sets, batches and tensors."""

import ctypes
import errno
import os
import threading
from collections.abc import Sequence
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p, sizeof

from shardfs import _library
from shardfs._library import HOST, ROUTES, TO_END, Error, Extent, Options, Read, call, lib

_GAP = 256  # bytes: what files in one allocation are aligned to


def _device_number(device) -> int:
    """ "cpu" as HOST, "cuda" and "cuda:N" as N; a torch.device is told by its text."""
    text = str(device)
    if text == "cpu":
        return HOST
    kind, _, number = text.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise ValueError(f'device {text!r}: not "cpu", "cuda" or "cuda:N"')
    return int(number or 0)


def _memory_of(array, device: int):
    """Address and bytes of a contiguous array of PyTorch, or of CuPy or NumPy, on `device`."""
    if hasattr(array, "data_ptr"):
        address, nbytes, is_contiguous = (array.data_ptr(), array.numel() * array.element_size(),
                                          array.is_contiguous())
        is_read_only, is_on_gpu = False, str(array.device) != "cpu"
    else:
        on_gpu = getattr(array, "__cuda_array_interface__", None)
        interface = on_gpu or array.__array_interface__
        (address, is_read_only), nbytes, is_contiguous = (interface["data"], array.nbytes,
                                                          interface.get("strides") is None)
        is_on_gpu = on_gpu is not None
    if not is_contiguous:
        raise ValueError("the memory to read into is not contiguous")
    if is_read_only:
        raise ValueError("the memory to read into is read-only")
    if is_on_gpu != (device != HOST):
        raise ValueError(f"the memory to read into is {'' if is_on_gpu else 'not '}on a GPU; try: the "
                         "device that it is on")
    return address, nbytes


def _stream_number(stream) -> int:
    """A stream of PyTorch or CuPy, or its address."""
    for name in ("cuda_stream", "ptr"):
        if hasattr(stream, name):
            return getattr(stream, name)
    return int(stream)


ctypes.pythonapi.PyCapsule_New.restype = ctypes.py_object
ctypes.pythonapi.PyCapsule_New.argtypes = [c_void_p, c_char_p, c_void_p]


class _Buffer:
    """One allocation of a batch."""

    def __init__(self, handle, device: int):
        self.handle, self.device = handle, device

    def __del__(self):
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


class Batch(Sequence):
    """Tensors of the files that were read, in the order of their paths, all in one allocation."""

    def __init__(self, buffer: _Buffer, reads):
        begin = lib.shardfs_buffer_data(buffer.handle)
        self._buffer = buffer
        self.offsets = [(read.buffer or begin) - begin for read in reads]
        self.sizes = [read.bytes for read in reads]
        self.routes = [ROUTES[read.route] for read in reads]
        self.verified = [bool(read.verified) for read in reads]

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


class _InFlight:
    """What the library writes to until it has been waited for, which is done once, by whoever comes
    first. Any thread."""

    def __init__(self, handle, reads, memory):
        self.reads, self._handle, self._memory = reads, handle, memory
        self._lock, self._pid, self._error = threading.Lock(), os.getpid(), None

    @property
    def is_over(self) -> bool:
        return self._handle is None

    def finish(self, stream=None):
        """Waits. Gives the batch's Error, each time, or None."""
        if self._pid != os.getpid():
            return Error(errno.ECHILD, "begun before fork(); try: reading in this process")
        with self._lock:
            if self._handle is not None:
                try:
                    if stream is None:
                        call("shardfs_wait", self._handle)
                    else:
                        call("shardfs_wait_in_stream", self._handle,
                             c_void_p(_stream_number(stream)))
                except Error as error:
                    self._error = error
                self._handle = None
                if stream is None:
                    self._memory = None
            return self._error


class Pending:
    """A batch on its way into memory of the caller's."""

    def __init__(self, in_flight: _InFlight, offsets, dataset):
        self._in_flight, self._dataset, self.offsets = in_flight, dataset, offsets

    def wait(self, stream=None):
        """Waits until every byte is in place; with a stream only until the rest is its business.
        Error, each time it is called: a file could not be read."""
        error = self._in_flight.finish(stream)
        if error is not None:
            raise error
        reads = self._in_flight.reads
        self.sizes = [read.bytes for read in reads]
        self.routes = [ROUTES[read.route] for read in reads]
        self.verified = [bool(read.verified) for read in reads]
        return self

    def __del__(self):
        self._in_flight.finish()  # Its memory is written to until then.


class Dataset:
    """An archive, by its own path or by that of a directory it is mounted at.

    tier, cache_dir, cache_bytes: as of `shardfs mount`. gpu: "off", "auto" or "require". verify:
    compare every byte with the archive's checksums, where it has any. route: "pinned" or "gds", for comparisons.
    readers: threads. library options that are None are the library's defaults. Any thread may use
    it; in a forked or unpickled copy, as those of a DataLoader's workers, it is opened anew.
    """

    def __init__(self, path, *, tier=None, cache_dir=None, cache_bytes=None, shardfs=None, gpu=None,
                 verify=True, route=None, cufile=None, readers=0, staging_bytes=None):
        self.path = os.fspath(path)
        self._options = {"tier": tier, "cache_dir": cache_dir, "cache_bytes": cache_bytes,
                         "shardfs": shardfs, "gpu": gpu, "verify": int(verify), "route": route,
                         "cufile": cufile, "readers": readers, "staging_bytes": staging_bytes}
        self._open()

    def _open(self):
        options = Options()
        lib.shardfs_options_init_sized(byref(options), sizeof(options))
        for name, value in self._options.items():
            if value is not None:
                setattr(options, name, value if isinstance(value, int) else os.fsencode(value))
        handle = c_void_p()
        self._handle_or_none = None
        call("shardfs_open", os.fsencode(self.path), byref(options), byref(handle))
        self._handle_or_none, self._pid = handle, os.getpid()
        self._in_flight = set()

    @property
    def _handle(self):
        if self._handle_or_none is None:
            raise ValueError("the data set is closed")
        if self._pid != os.getpid():
            self._open()
        return self._handle_or_none

    def __getstate__(self):
        return {"path": self.path, "_options": self._options}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._open()

    def close(self):
        """Waits for batches that are on their way. Tensors that it gave live on."""
        for batch in list(self._in_flight):
            batch.finish()
        self._in_flight.clear()
        handle, self._handle_or_none = self._handle_or_none, None
        if handle is not None and self._pid == os.getpid():
            lib.shardfs_close(handle)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if getattr(self, "_handle_or_none", None) is not None:
            self.close()

    def files(self, directory="") -> list:
        """(path, size in bytes) of every regular file below a directory."""
        found = []

        @_library.VISIT
        def visit(_context, path, size):
            found.append((os.fsdecode(path), size))
            return 0

        call("shardfs_list", self._handle, os.fsencode(directory), visit, None)
        return found

    def size(self, path) -> int:
        size = c_uint64()
        call("shardfs_size", self._handle, os.fsencode(path), byref(size))
        return size.value

    def extents(self, path) -> list:
        """Where a file's bytes lie in the archive: [{offset, length, stored, skip, decoded}]."""
        count = c_size_t()
        call("shardfs_extents", self._handle, os.fsencode(path), None, 0, byref(count))
        extents = (Extent * count.value)()
        call("shardfs_extents", self._handle, os.fsencode(path), extents, count.value, byref(count))
        return [{name: getattr(extent, name) for name, _ in Extent._fields_} for extent in extents]

    def route(self, device="cpu"):
        """(route, reason): how the next batch to `device` will be read, and why."""
        route, reason = c_int(), ctypes.create_string_buffer(500)
        call("shardfs_route_to", self._handle, _device_number(device), byref(route), reason,
             len(reason))
        return ROUTES[route.value], reason.value.decode(errors="replace")

    def read_batch(self, paths, device="cpu") -> Batch:
        """Reads whole files. Error: one of them could not be read."""
        reads = self._reads(paths)
        buffer, number = c_void_p(), _device_number(device)
        try:
            call("shardfs_read_packed", self._handle, number, reads, len(reads), byref(buffer))
        except Error:
            if buffer:
                lib.shardfs_buffer_drop(buffer)
            raise
        return Batch(_Buffer(buffer, number), reads)

    def submit(self, paths, out, device="cpu", stream=None, sizes=None) -> Pending:
        """Begins to read whole files into `out`, memory of PyTorch, CuPy or NumPy on `device`: one
        behind the other, each at a multiple of 256 bytes (Pending.offsets). With a stream it is
        written to after what is in the stream now. `sizes`: of the files, where they are known; no
        more of a file is read."""
        reads, number = self._reads(paths), _device_number(device)
        begin, room = _memory_of(out, number)
        offsets, end = [], 0
        for i, read in enumerate(reads):
            offsets.append(end)
            read.buffer = begin + end
            read.length = sizes[i] if sizes is not None else self.size(paths[i])
            end += read.length
            if end > room:
                raise ValueError(f"the files need more than the {room} bytes to read into")
            end = -(-end // _GAP) * _GAP
        handle = c_void_p()
        flags = 0 if stream is None else _library.AFTER_STREAM
        call("shardfs_submit", self._handle, number, reads, len(reads),
             None if stream is None else c_void_p(_stream_number(stream)), flags, byref(handle))
        batch = _InFlight(handle, reads, out)
        for other in list(self._in_flight):
            if other.is_over:
                self._in_flight.discard(other)
        self._in_flight.add(batch)
        return Pending(batch, offsets, self)

    @staticmethod
    def _reads(paths):
        reads = (Read * len(paths))()
        for read, path in zip(reads, paths):
            read.path, read.length = os.fsencode(path), TO_END
        return reads

"""The C interface of libshardfs_gpu (shardfs_gpu.h), by ctypes."""

import ctypes
import os
import sys
from ctypes import (POINTER, Structure, byref, c_char, c_char_p, c_int, c_int32, c_size_t, c_uint,
                    c_uint32, c_uint64, c_void_p)

NAME = "libshardfs_gpu.so.0"
TO_END = 2**64 - 1
HOST = -1
AFTER_STREAM = 1
ROUTES = ("host", "pinned", "gds-compat", "gds")


class Error(OSError):
    """A read that failed; errno and strerror are set. Of a batch, `batch` is what there is all the
    same: its `errors` has the errno of each file, 0 for those that were read."""

    batch = None


class CError(Structure):
    _fields_ = [("code", c_int), ("message", c_char * 500)]


class Options(Structure):
    _fields_ = [("size", c_size_t), ("tier", c_char_p), ("cache_dir", c_char_p),
                ("cache_bytes", c_uint64), ("store_rate", c_uint32), ("store_inflight", c_uint32),
                ("store_timeout_ms", c_uint32), ("shardfs", c_char_p), ("gpu", c_char_p),
                ("verify", c_int), ("route", c_char_p), ("cufile", c_char_p), ("readers", c_uint32),
                ("staging_bytes", c_uint64)]


class Read(Structure):
    _fields_ = [("path", c_char_p), ("buffer", c_void_p), ("offset", c_uint64), ("length", c_uint64),
                ("bytes", c_uint64), ("route", c_int32), ("verified", c_int32), ("error", c_int32)]


class Extent(Structure):
    _fields_ = [("offset", c_uint64), ("length", c_uint64), ("stored", c_int), ("skip", c_uint64),
                ("decoded", c_uint64)]


_ERROR = POINTER(CError)
_READS = POINTER(Read)
_SIGNATURES = {
    "shardfs_options_init_sized": (None, [POINTER(Options), c_size_t]),
    "shardfs_open": (c_int, [c_char_p, POINTER(Options), POINTER(c_void_p), _ERROR]),
    "shardfs_close": (None, [c_void_p]),
    "shardfs_size": (c_int, [c_void_p, c_char_p, POINTER(c_uint64), _ERROR]),
    "shardfs_list_text": (c_int, [c_void_p, c_char_p, c_char_p, c_size_t, POINTER(c_size_t), _ERROR]),
    "shardfs_extents": (c_int, [c_void_p, c_char_p, POINTER(Extent), c_size_t, POINTER(c_size_t),
                                _ERROR]),
    "shardfs_route_to": (c_int, [c_void_p, c_int, POINTER(c_int), c_char_p, c_size_t, _ERROR]),
    "shardfs_submit": (c_int, [c_void_p, c_int, _READS, c_size_t, c_void_p, c_uint,
                               POINTER(c_void_p), _ERROR]),
    "shardfs_wait": (c_int, [c_void_p, _ERROR]),
    "shardfs_wait_in_stream": (c_int, [c_void_p, c_void_p, _ERROR]),
    "shardfs_batch_drop": (None, [c_void_p]),
    "shardfs_read_packed": (c_int, [c_void_p, c_int, _READS, c_size_t, POINTER(c_void_p), _ERROR]),
    "shardfs_buffer_data": (c_void_p, [c_void_p]),
    "shardfs_buffer_size": (c_uint64, [c_void_p]),
    "shardfs_buffer_drop": (None, [c_void_p]),
    "shardfs_buffer_dlpack": (c_void_p, [c_void_p, c_uint64, c_uint64]),
    "shardfs_drop_capsule": (None, [c_void_p]),
}


def _candidates():
    """Where it may be: as told, beside this interpreter, where ld.so looks."""
    told = os.environ.get("SHARDFS_GPU_LIBRARY")
    if told:
        return [told]
    return [os.path.join(sys.prefix, "lib", NAME), NAME]


def _load():
    reasons = []
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            reasons.append(str(error))
            continue
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        return library
    raise ImportError(f"{NAME} cannot be loaded ({'; '.join(reasons)}); try: cmake --install BUILD "
                      f"--prefix {sys.prefix}, or set SHARDFS_GPU_LIBRARY to its path")


lib = _load()


def call(name, *arguments):
    """Calls a function that can fail; raises what it tells."""
    error = CError()
    if getattr(lib, name)(*arguments, byref(error)) != 0:
        raise Error(error.code, error.message.decode(errors="surrogateescape"))

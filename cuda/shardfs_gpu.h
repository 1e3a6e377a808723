/* Files of an archive, straight into the memory of a GPU or into the host's. The C interface of
 * libshardfs_gpu.
 *
 * An archive is opened by its own path or by that of a directory it is mounted at; neither a mount
 * nor a GPU is needed. It is read through the node's cache as `shardfs mount` reads it. Paths are
 * relative to the root of the tree ("train/cat/1.jpg"); symlinks in it are followed.
 *
 * Functions that can fail return 0 or an errno, and tell more in `error`, which may be NULL. All
 * may be called by any thread at any time, but for those that end what they are given. After fork()
 * a child opens the archive again.
 */
#ifndef SHARDFS_GPU_H
#define SHARDFS_GPU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHARDFS_API __attribute__((visibility("default")))

/* Grows when something is added; what is there keeps its meaning. */
#define SHARDFS_GPU_VERSION 1

/* In place of the number of a device. */
#define SHARDFS_HOST (-1)
/* In place of a length: up to the end of the file. */
#define SHARDFS_TO_END UINT64_MAX

/* How bytes came to their place. */
enum shardfs_route {
  SHARDFS_ROUTE_HOST = 0,       /* host memory was asked for */
  SHARDFS_ROUTE_PINNED = 1,     /* read by the CPU into pinned memory, copied from there */
  SHARDFS_ROUTE_GDS_COMPAT = 2, /* by cuFile, which read through the CPU */
  SHARDFS_ROUTE_GDS = 3         /* by cuFile, and nvidia-fs was seen to serve this file */
};

typedef struct shardfs_error {
  int code;          /* errno */
  char message[500]; /* "PATH: WHAT; try: COMMAND", ends with NUL */
} shardfs_error;

typedef struct shardfs_dataset shardfs_dataset;
typedef struct shardfs_batch shardfs_batch;
typedef struct shardfs_buffer shardfs_buffer;

/* What shardfs_options_init() sets is what `shardfs mount` does without options. Strings may be
 * NULL for that. */
typedef struct shardfs_options {
  size_t size;               /* of this struct, bytes: set by shardfs_options_init() */
  const char* tier;          /* "auto", "memory", "disk", "partial", "none" */
  const char* cache_dir;     /* parent of the cache; else $SHARDFS_CACHE_DIR, $SLURM_TMPDIR */
  uint64_t cache_bytes;      /* most bytes of it; UINT64_MAX */
  uint32_t store_rate;       /* most small requests a second to the archive; 0: no bound */
  uint32_t store_inflight;   /* most requests to it at a time */
  uint32_t store_timeout_ms; /* of one request, with what is tried again */
  const char* shardfs;       /* the program that serves the cache; else $SHARDFS_COMMAND, the one
                                installed beside this library, the one in $PATH */
  const char* gpu;           /* "off", "auto", "require"; else $SHARDFS_GPU, else "auto" */
  int verify;         /* 1: every byte is compared with the archive's checksums, where it has any,
                         which the CPU does; 0: direct reads are taken where they are faster */
  const char* route;  /* "pinned", "gds": for comparisons */
  const char* cufile; /* the library; "libcufile.so.0" */
  uint32_t readers;   /* threads, at most 256; 0: seven for eight CPUs, at most 16 */
  uint64_t staging_bytes; /* of pinned memory, two for each reader; 4 MiB */
} shardfs_options;

/* For a program's own version of the struct, of `size` bytes: nothing behind them is touched. */
SHARDFS_API void shardfs_options_init_sized(shardfs_options* options, size_t size);
static inline void shardfs_options_init(shardfs_options* options) {
  shardfs_options_init_sized(options, sizeof *options);
}

/* `options` may be NULL. */
SHARDFS_API int shardfs_open(const char* path, const shardfs_options* options,
                             shardfs_dataset** dataset, shardfs_error* error);
/* Batches that are on their way and buffers outlive it. In a child after fork() it, and what it
 * has, is left as it is. */
SHARDFS_API void shardfs_close(shardfs_dataset* dataset);

/* Size of a regular file, bytes. */
SHARDFS_API int shardfs_size(shardfs_dataset* dataset, const char* path, uint64_t* size,
                             shardfs_error* error);

/* Calls visit() for every regular file below `path` ("" for all), in the order of the tree, until
 * it returns other than 0. The strings live during the call. */
SHARDFS_API int shardfs_list(shardfs_dataset* dataset, const char* path,
                             int (*visit)(void* context, const char* path, uint64_t size),
                             void* context, shardfs_error* error);

/* The same files in one text: of each its path, a NUL, its size in decimal, a NUL. Sets *length to
 * the bytes of that, and fills `text` if they are no more than `capacity`. */
SHARDFS_API int shardfs_list_text(shardfs_dataset* dataset, const char* path, char* text,
                                  size_t capacity, size_t* length, shardfs_error* error);

/* Where bytes of a file lie. */
typedef struct shardfs_extent {
  uint64_t offset;  /* in the archive file, bytes */
  uint64_t length;  /* bytes there */
  int stored;       /* 1: they are the file's own; 0: they must be decoded */
  uint64_t skip;    /* decoded bytes in front of the file's own */
  uint64_t decoded; /* bytes of the file they give */
} shardfs_extent;

/* Sets *count to how many there are, and fills the first `capacity`. A file's holes have none. */
SHARDFS_API int shardfs_extents(shardfs_dataset* dataset, const char* path, shardfs_extent* extents,
                                size_t capacity, size_t* count, shardfs_error* error);

/* By which route the next batch to `device` (or SHARDFS_HOST) will go, and why, up to `capacity`
 * bytes of text with its NUL. */
SHARDFS_API int shardfs_route_to(shardfs_dataset* dataset, int device, enum shardfs_route* route,
                                 char* reason, size_t capacity, shardfs_error* error);
/* "host", "pinned", "gds-compat", "gds". */
SHARDFS_API const char* shardfs_route_name(enum shardfs_route route);

/* One read of a batch. */
typedef struct shardfs_read {
  const char* path; /* in */
  void* buffer;    /* in: of `length` bytes, or of the file's size if that is less, on the device */
  uint64_t offset; /* in: in the file, bytes */
  uint64_t length; /* in: most bytes, or SHARDFS_TO_END */
  uint64_t bytes;  /* out: that were read; less than `length` at the end of the file */
  int32_t route;   /* out: enum shardfs_route; of several the least good */
  int32_t verified; /* out: 1 if every byte was compared with the archive's checksums */
  int32_t error;    /* out: errno, 0 for success; what is in the buffer then is not said */
} shardfs_read;

/* Begins to read a batch to `device`, or SHARDFS_HOST. `reads` must stay until it is dropped, and
 * the buffers until it has been waited for. With SHARDFS_AFTER_STREAM the buffers are written to
 * after what is in `stream` now (a cudaStream_t; NULL is the default stream). */
SHARDFS_API int shardfs_submit(shardfs_dataset* dataset, int device, shardfs_read* reads,
                               size_t count, void* stream, unsigned flags, shardfs_batch** batch,
                               shardfs_error* error);
#define SHARDFS_AFTER_STREAM 1u

/* Waits until all bytes are in place, and fills in the results. Returns the first error of a read;
 * the others have been read all the same. May be called again, which returns the same. */
SHARDFS_API int shardfs_wait(shardfs_batch* batch, shardfs_error* error);
/* As shardfs_wait(), but waits only until all bytes have been read; what is asked of `stream` from
 * then on waits for those that are still being copied. Where the stream cannot be made to wait,
 * that is an error, and all bytes are in place. */
SHARDFS_API int shardfs_wait_in_stream(shardfs_batch* batch, void* stream, shardfs_error* error);
/* Ends a batch, and waits for it first where neither of these has. NULL: nothing. In a child after
 * fork() it is left as it is. */
SHARDFS_API void shardfs_batch_drop(shardfs_batch* batch);

/* shardfs_submit(), shardfs_wait() and shardfs_batch_drop(). */
SHARDFS_API int shardfs_read_batch(shardfs_dataset* dataset, int device, shardfs_read* reads,
                                   size_t count, void* stream, unsigned flags,
                                   shardfs_error* error);

/* Reads a batch into one new allocation and sets each buffer to its place there, a multiple of 256
 * bytes from its beginning, in the order of the archive. Returns as shardfs_wait(); *buffer is NULL
 * only where nothing could be read at all. */
SHARDFS_API int shardfs_read_packed(shardfs_dataset* dataset, int device, shardfs_read* reads,
                                    size_t count, shardfs_buffer** buffer, shardfs_error* error);

/* Memory that is freed when its last reference is dropped. */
SHARDFS_API void* shardfs_buffer_data(const shardfs_buffer* buffer);
SHARDFS_API uint64_t shardfs_buffer_size(const shardfs_buffer* buffer);
SHARDFS_API void shardfs_buffer_drop(shardfs_buffer* buffer);
/* A DLManagedTensor (https://dmlc.github.io/dlpack) of `bytes` unsigned bytes at `offset`, with a
 * reference of its own; whoever takes it calls its deleter. NULL: they are not in the buffer. */
SHARDFS_API void* shardfs_buffer_dlpack(shardfs_buffer* buffer, uint64_t offset, uint64_t bytes);
/* The destructor for a Python capsule of one, PyCapsule_Destructor: frees what nobody has taken.
 * Called by the interpreter, also while an exception is on its way. */
SHARDFS_API void shardfs_drop_capsule(void* capsule);

#ifdef __cplusplus
}
#endif

#endif

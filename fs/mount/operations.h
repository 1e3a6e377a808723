// The FUSE callbacks: decode, ask the data set, reply.
#pragma once

struct fuse_lowlevel_ops;

namespace shardfs {

/// Callbacks for fuse_session_new(); its userdata is a Served, which must outlive the session. Any
/// number of threads may serve requests.
[[nodiscard]] const fuse_lowlevel_ops& operations();

}  // namespace shardfs

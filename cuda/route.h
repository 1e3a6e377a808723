// By which way bytes come into device memory: a decision from facts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "fs/base/result.h"

namespace shardfs {

/// The ways, the better ones last.
enum class Route : std::uint8_t {
  Host,       ///< into host memory; no device takes part
  Pinned,     ///< read by the CPU into pinned memory, copied from there
  GdsCompat,  ///< by cuFile, which itself reads through the CPU
  Gds,        ///< by cuFile and nvidia-fs, from the disk into the device
};

/// "host", "pinned", "gds-compat", "gds".
[[nodiscard]] const char* name(Route route);

/// --gpu.
enum class GpuMode : std::uint8_t { Off, Auto, Require };

/// "off", "auto", "require". Invalid: anything else.
[[nodiscard]] Result<GpuMode> gpu_mode_of(const std::string& text);

/// What is decided from.
struct RouteFacts {
  GpuMode mode = GpuMode::Auto;
  bool to_device = true;       ///< the destination is device memory
  std::string why_no_device;   ///< "" where there is one
  bool checked = true;         ///< every byte is to be compared with the archive's checksums
  std::optional<Route> asked;  ///< Pinned or GdsCompat: for comparisons
  std::string why_no_cufile;   ///< "" where its driver could be opened
  std::string why_no_file;     ///< "" where the archive, or a complete copy of it, is at hand for
                               ///< direct reads
  bool nvidia_fs = false;      ///< a trial read was served by it
};

/// What was decided, and why, in words for people.
struct RouteChoice {
  Route route = Route::Host;
  std::string reason;
};

/// A pure function. Unsupported: device memory is wanted, and there is no device; or a device is
/// required, and there is none. cuFile is chosen unasked only where nvidia-fs serves it: in its
/// compatible mode it copies through the CPU as the pinned way does, and later.
[[nodiscard]] Result<RouteChoice> choose(const RouteFacts& facts);

}  // namespace shardfs

#include "cuda/route.h"

#include <fmt/format.h>

namespace shardfs {

const char* name(Route route) {
  switch (route) {
    case Route::Host:
      return "host";
    case Route::Pinned:
      return "pinned";
    case Route::GdsCompat:
      return "gds-compat";
    case Route::Gds:
      return "gds";
  }
  return "";
}

Result<GpuMode> gpu_mode_of(const std::string& text) {
  if (text == "off") return GpuMode::Off;
  if (text == "auto") return GpuMode::Auto;
  if (text == "require") return GpuMode::Require;
  return fail(ErrorKind::Invalid, fmt::format("{}: not one of off, auto, require", text));
}

Result<RouteChoice> choose(const RouteFacts& facts) {
  const bool has_device = facts.why_no_device.empty() && facts.mode != GpuMode::Off;
  const std::string& why_not =
      facts.mode == GpuMode::Off ? std::string("the GPU is off (--gpu off)") : facts.why_no_device;
  if (!has_device && (facts.to_device || facts.mode == GpuMode::Require))
    return fail(ErrorKind::Unsupported, why_not + "; try: reading into host memory");
  if (!facts.to_device) return RouteChoice{Route::Host, "host memory was asked for"};
  if (facts.asked == Route::Pinned) return RouteChoice{Route::Pinned, "asked for"};
  if (facts.checked) return RouteChoice{Route::Pinned, "every byte is checked, which the CPU does"};
  if (!facts.why_no_cufile.empty()) return RouteChoice{Route::Pinned, facts.why_no_cufile};
  if (!facts.why_no_file.empty()) return RouteChoice{Route::Pinned, facts.why_no_file};
  if (facts.nvidia_fs) return RouteChoice{Route::Gds, "nvidia-fs serves it"};
  if (facts.asked == Route::GdsCompat)
    return RouteChoice{Route::GdsCompat, "asked for; nvidia-fs does not serve it"};
  return RouteChoice{Route::Pinned, "cuFile would read through the CPU too: no nvidia-fs"};
}

}  // namespace shardfs

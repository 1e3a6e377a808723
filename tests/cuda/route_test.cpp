#include "cuda/route.h"

#include <string>

#include <gtest/gtest.h>

#include "cuda/cufile.h"

namespace shardfs {
namespace {

struct Row {
  const char* name;
  RouteFacts facts;
  std::optional<Route> route;  ///< nothing: an error
  const char* says;
};

TEST(RouteChoice, Table) {
  RouteFacts all;
  all.checked = false;
  all.nvidia_fs = true;
  const auto with = [&](auto change) {
    RouteFacts facts = all;
    change(facts);
    return facts;
  };
  const std::vector<Row> rows{
      {"everything is there", all, Route::Gds, "nvidia-fs"},
      {"host memory", with([](auto& f) { f.to_device = false; }), Route::Host, "asked for"},
      {"host memory, no GPU", with([](auto& f) { f.to_device = false, f.why_no_device = "none"; }),
       Route::Host, "asked for"},
      {"host memory, no GPU, required",
       with([](auto& f) {
         f.to_device = false, f.why_no_device = "none", f.mode = GpuMode::Require;
       }),
       {},
       "none"},
      {"no GPU", with([](auto& f) { f.why_no_device = "no driver"; }), {}, "no driver"},
      {"off", with([](auto& f) { f.mode = GpuMode::Off; }), {}, "--gpu off"},
      {"off, host memory", with([](auto& f) { f.mode = GpuMode::Off, f.to_device = false; }),
       Route::Host, "asked for"},
      {"checked", with([](auto& f) { f.checked = true; }), Route::Pinned, "checked"},
      {"no libcufile", with([](auto& f) { f.why_no_cufile = "cuFile: not found"; }), Route::Pinned,
       "cuFile: not found"},
      {"not complete", with([](auto& f) { f.why_no_file = "not complete"; }), Route::Pinned,
       "not complete"},
      {"no nvidia-fs", with([](auto& f) { f.nvidia_fs = false; }), Route::Pinned, "no nvidia-fs"},
      {"no nvidia-fs, asked for",
       with([](auto& f) { f.nvidia_fs = false, f.asked = Route::GdsCompat; }), Route::GdsCompat,
       "asked for"},
      {"asked for, and served", with([](auto& f) { f.asked = Route::GdsCompat; }), Route::Gds,
       "nvidia-fs"},
      {"asked for, and not to be had",
       with([](auto& f) { f.asked = Route::GdsCompat, f.why_no_file = "none"; }), Route::Pinned,
       "none"},
      {"pinned, asked for", with([](auto& f) { f.asked = Route::Pinned; }), Route::Pinned,
       "asked for"},
  };
  for (const Row& row : rows) {
    const auto choice = choose(row.facts);
    ASSERT_EQ(choice.has_value(), row.route.has_value()) << row.name;
    const std::string text = choice ? choice->reason : choice.error().message;
    if (choice) {
      EXPECT_EQ(choice->route, *row.route) << row.name;
    }
    EXPECT_NE(text.find(row.says), std::string::npos) << row.name << ": " << text;
  }
}

TEST(RouteChoice, Modes) {
  EXPECT_EQ(*gpu_mode_of("off"), GpuMode::Off);
  EXPECT_EQ(*gpu_mode_of("auto"), GpuMode::Auto);
  EXPECT_EQ(*gpu_mode_of("require"), GpuMode::Require);
  EXPECT_FALSE(gpu_mode_of("on"));
}

// As nvidia-fs 2.17 prints it, with its counters on, off, and none of it.
TEST(NvidiaFsStats, Reads) {
  EXPECT_EQ(reads_in("GDS Version: 1.7.0.149 \nNVFS statistics(ver: 4.0)\nIO stats: Enabled\n"
                     "Sparse Reads\t\t\t: n=6 io=0 holes=0 pages=0 \n"
                     "Reads\t\t\t\t: n=2190 ok=2190 err=0 readMiB=107 io_state_err=0\n"
                     "Writes\t\t\t\t: n=1 ok=1 err=0\n"),
            2190U);
  EXPECT_EQ(reads_in("Reads\t\t\t\t: err=0 io_state_err=0\nWrites : n=5\n"), 0U);
  EXPECT_EQ(reads_in(""), 0U);
}

}  // namespace
}  // namespace shardfs

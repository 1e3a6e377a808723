// How far a long task is: a line that is redrawn on a terminal, a line now and then in a log.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "tools/common/io.h"

namespace shardfs {

struct ProgressState {
  std::uint64_t bytes = 0;  ///< done; the rate is made of these
  std::uint64_t files = 0;  ///< done; not shown while 0
  double fraction = -1;  ///< of the whole task, 0 to 1; negative: not known, no time left is shown
};

/// Any thread may call any member. On a terminal the line is redrawn ten times a second; otherwise
/// a line is written every 30 s, so that a task shorter than that leaves nothing in a log.
class Progress {
 public:
  enum class Show : bool { No, Yes };
  using Clock = std::function<std::chrono::steady_clock::time_point()>;

  /// `label` stands in front of each line: "mkshard". `io` must outlive this object.
  Progress(Io& io, std::string label, Show show, Clock clock = std::chrono::steady_clock::now);
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Tells the state; cheap enough for every file.
  void update(const ProgressState& state);

  /// Writes a whole line to `io.err` without tearing the line that is being redrawn.
  void message(std::string_view line);

  /// Wipes the line. Nothing is drawn until update() is called again.
  void finish();

 private:
  using Time = std::chrono::steady_clock::time_point;
  std::string line(const ProgressState& state, std::chrono::duration<double> elapsed) const;
  void draw(const std::string& text);
  void wipe();

  Io& io_;
  const std::string label_;
  const Show show_;
  const Clock clock_;
  const Time start_;
  std::mutex mutex_;
  Time next_;
  std::size_t drawn_ = 0;  ///< columns of the line on the terminal
};

/// Tells `progress`, which must outlive it, of bytes done and bytes in all.
[[nodiscard]] std::function<void(std::uint64_t done, std::uint64_t size)> bytes_of(
    Progress& progress);

/// "0:07", "12:34", "3:05:00".
[[nodiscard]] std::string format_duration(std::chrono::seconds duration);

}  // namespace shardfs

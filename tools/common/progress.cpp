#include "tools/common/progress.h"

#include <cmath>
#include <ostream>

#include <fmt/format.h>

#include "tools/common/size.h"

namespace shardfs {
namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kLogEvery = std::chrono::seconds(30);
// An estimate made of less than this jumps about.
constexpr double kLeastFraction = 0.005;

}  // namespace

std::string format_duration(std::chrono::seconds duration) {
  const auto seconds = duration.count();
  if (seconds < 3600) return fmt::format("{}:{:02}", seconds / 60, seconds % 60);
  return fmt::format("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

std::function<void(std::uint64_t, std::uint64_t)> bytes_of(Progress& progress) {
  return [&progress](std::uint64_t done, std::uint64_t size) {
    const double fraction = size == 0 ? 1 : static_cast<double>(done) / static_cast<double>(size);
    progress.update({.bytes = done, .files = 0, .fraction = fraction});
  };
}

Progress::Progress(Io& io, std::string label, Show show, Clock clock)
    : io_(io),
      label_(std::move(label)),
      show_(show),
      clock_(std::move(clock)),
      start_(clock_()),
      next_(start_ + (io.err_is_terminal ? std::chrono::nanoseconds(kRedraw) : kLogEvery)) {}

void Progress::update(const ProgressState& state) {
  if (show_ == Show::No) return;
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return;
  const Time now = clock_();
  if (now < next_) return;
  next_ = now + (io_.err_is_terminal ? std::chrono::nanoseconds(kRedraw) : kLogEvery);
  const std::string text = line(state, now - start_);
  if (io_.err_is_terminal) {
    draw(text);
  } else {
    io_.err << text << '\n' << std::flush;
  }
}

void Progress::message(std::string_view line) {
  const std::lock_guard lock(mutex_);
  wipe();
  io_.err << line << '\n' << std::flush;
}

void Progress::finish() {
  const std::lock_guard lock(mutex_);
  wipe();
}

std::string Progress::line(const ProgressState& state,
                           std::chrono::duration<double> elapsed) const {
  const double seconds = elapsed.count() > 0 ? elapsed.count() : 1;
  std::string text = fmt::format("{}: {}", label_, format_size(state.bytes));
  if (state.files > 0) text += fmt::format(", {} files", state.files);
  text += fmt::format(
      ", {}/s",
      format_size(static_cast<std::uint64_t>(static_cast<double>(state.bytes) / seconds)));
  if (state.fraction < kLeastFraction || state.fraction > 1) return text;
  const double left = seconds * (1 - state.fraction) / state.fraction;
  return text + fmt::format(", {:.0f} %, {} left", state.fraction * 100,
                            format_duration(std::chrono::seconds(std::lround(left))));
}

void Progress::draw(const std::string& text) {
  // Spaces instead of "erase line": right on every terminal.
  const std::size_t rest = drawn_ > text.size() ? drawn_ - text.size() : 0;
  io_.err << '\r' << text << std::string(rest, ' ') << std::flush;
  drawn_ = text.size();
}

void Progress::wipe() {
  if (drawn_ == 0) return;
  io_.err << '\r' << std::string(drawn_, ' ') << '\r' << std::flush;
  drawn_ = 0;
}

}  // namespace shardfs

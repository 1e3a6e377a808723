#include "fs/mount/error_log.h"

#include <utility>

#include <spdlog/spdlog.h>

namespace shardfs {

void ErrorLog::record(std::string path, const Error& error) {
  const std::lock_guard lock(mutex_);
  ++total_;
  if (texts_.size() >= kMaxTexts || !texts_.insert(error.message).second) return;
  spdlog::error("{}", error.message);
  if (texts_.size() == kMaxTexts) {
    spdlog::error("{} different failures so far; further ones are not logged; try: shardfs verify",
                  kMaxTexts);
  }
  last_.push_back({std::move(path), error.to_errno(), error.message, error.place});
  if (last_.size() > kKept) last_.pop_front();
}

std::vector<ErrorLog::Entry> ErrorLog::last() const {
  const std::lock_guard lock(mutex_);
  return {last_.begin(), last_.end()};
}

std::uint64_t ErrorLog::total() const {
  const std::lock_guard lock(mutex_);
  return total_;
}

}  // namespace shardfs

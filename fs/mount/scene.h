// What is known of an archive at a moment, as a mount shows it.
#pragma once

#include <memory>

#include "fs/archive/archive.h"
#include "fs/mount/view.h"

namespace shardfs {

/// All of an archive; or while it is still being scanned, what has been found so far. Immutable;
/// any thread.
struct Scene {
  enum class State : std::uint8_t {
    Part,    ///< more will be found
    Whole,   ///< this is all
    Broken,  ///< more cannot be found: the scan has failed
  };

  std::shared_ptr<const Archive> archive;  ///< of a whole one the data set is the owner
  View view;
  State state = State::Whole;

  [[nodiscard]] const Tree& tree() const { return archive->tree(); }
  [[nodiscard]] bool is_whole() const { return state == State::Whole; }
  /// What is not there now will not come.
  [[nodiscard]] bool is_last() const { return state != State::Part; }
};

}  // namespace shardfs

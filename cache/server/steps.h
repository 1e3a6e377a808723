// Moments at which a server's death matters most, named so that tests can stop it there.
#pragma once

#include <cstdint>

namespace shardfs {

enum class Step : std::uint8_t {
  Locked,               ///< holds the lock, is not yet reachable
  Bound,                ///< clients can connect, none has been answered
  MidFetch,             ///< bytes have come from the store, none is in the mirror
  WrittenNotCommitted,  ///< bytes are in the mirror, the ledger does not know
  Sealing,              ///< all is verified, the mirror not yet renamed
};

/// Where SHARDFS_TEST_STOP_AT names this step ("mid-fetch"), stops the process (SIGSTOP), once.
void reached(Step step);

}  // namespace shardfs

// Who is decoding which block, so that no two clients decode the same.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "cache/server/connection.h"
#include "cache/server/hot_ranges.h"

namespace shardfs {

/// No I/O but that of answers; the caller's lock guards it.
class Leases {
 public:
  /// `client` wants a block that nobody has: it is given the lease, or waits for who holds it.
  void ask(const HotKey& key, std::uint64_t client, const std::shared_ptr<Connection>& connection);

  /// `client` has put the block. Those who wait may get it.
  void finish(const HotKey& key, std::uint64_t client, ByteSpan block);

  /// It comes to nothing: the next one is given the lease.
  void abandon(const HotKey& key, std::uint64_t client);
  /// The client has gone.
  void abandon_all(std::uint64_t client);

 private:
  struct Waiting {
    std::uint64_t client = 0;
    std::shared_ptr<Connection> connection;
  };
  struct Lease {
    std::uint64_t holder = 0;
    std::vector<Waiting> waiting;
  };
  struct Less {
    bool operator()(const HotKey& a, const HotKey& b) const {
      return std::tie(a.archive, a.offset, a.length) < std::tie(b.archive, b.offset, b.length);
    }
  };
  std::map<HotKey, Lease, Less> leases_;
};

}  // namespace shardfs

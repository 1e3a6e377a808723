#include "cache/server/leases.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace shardfs {

void Leases::ask(const HotKey& key, std::uint64_t client,
                 const std::shared_ptr<Connection>& connection) {
  auto [at, is_new] = leases_.try_emplace(key);
  if (!is_new && at->second.holder != client) {
    at->second.waiting.push_back({client, connection});
    return;
  }
  at->second.holder = client;
  connection->send(Message::Lease);
}

void Leases::finish(const HotKey& key, std::uint64_t client, ByteSpan block) {
  const auto at = leases_.find(key);
  if (at == leases_.end() || at->second.holder != client) return;
  const auto waiting = std::move(at->second.waiting);
  leases_.erase(at);
  for (const Waiting& one : waiting) one.connection->send_bytes(block);
}

void Leases::abandon(const HotKey& key, std::uint64_t client) {
  const auto at = leases_.find(key);
  if (at == leases_.end()) return;
  Lease& lease = at->second;
  std::erase_if(lease.waiting, [&](const Waiting& one) { return one.client == client; });
  if (lease.holder != client) return;
  if (lease.waiting.empty()) {
    leases_.erase(at);
    return;
  }
  const Waiting next = std::move(lease.waiting.front());
  lease.waiting.erase(lease.waiting.begin());
  lease.holder = next.client;
  next.connection->send(Message::Lease);
}

void Leases::abandon_all(std::uint64_t client) {
  std::vector<HotKey> keys;
  for (const auto& [key, lease] : leases_) keys.push_back(key);
  for (const HotKey& key : keys) abandon(key, client);
}

}  // namespace shardfs

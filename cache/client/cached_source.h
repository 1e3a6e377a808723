// An archive read through the node's cache.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <shared_mutex>
#include <span>
#include <string>
#include <vector>

#include "cache/client/server_link.h"
#include "fs/base/byte_source.h"
#include "fs/base/result.h"

namespace shardfs {

/// Bytes that readers were given, by where they came from.
struct CacheCounters {
  std::uint64_t hit_bytes = 0;     ///< from the mirror, at once
  std::uint64_t miss_bytes = 0;    ///< after the server had fetched them
  std::uint64_t direct_bytes = 0;  ///< past the server, which was not there
};

/// What is in the mirror is read from it, the rest is asked of the cache server. Who reads checks
/// the bytes, and comes back with reread_at(); or says check_itself(): then what the mirror gives
/// is compared here with the sums that the server took as it came. While there is no server, and
/// after it has not answered for a while, the archive is read directly, as FileSource does.
class CachedSource final : public ByteSource {
 public:
  /// Where there is no server now (the one before may still be ending) it begins without, and looks
  /// for one with the reads to come. Fails where none can be had at all; then the archive is better
  /// read in place. `file` is moved from only on success.
  [[nodiscard]] static Result<std::unique_ptr<CachedSource>> open(std::unique_ptr<FileSource>& file,
                                                                  const CacheOptions& options);

  [[nodiscard]] Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override;
  [[nodiscard]] Result<void> try_read_at(std::uint64_t offset,
                                         std::span<std::byte> out) const override;
  [[nodiscard]] Result<void> reread_at(std::uint64_t offset,
                                       std::span<std::byte> out) const override;
  [[nodiscard]] bool may_wait() const override { return true; }
  [[nodiscard]] std::uint64_t size() const override { return file_->size(); }
  [[nodiscard]] const std::string& name() const override { return file_->name(); }

  [[nodiscard]] bool keeps_decoded() const override { return link_.options().tier != Tier::Memory; }
  [[nodiscard]] DecodedPiece find_decoded(std::uint64_t position, std::span<std::byte> out,
                                          std::chrono::milliseconds patience) const override;

  void check_itself() const override {
    checked_ = true;
    file_->check_itself();
  }

  /// While distrusting, every read is a reread.
  void set_distrust(bool on) { distrust_ = on; }

  /// Makes all reads that wait fail, and those to come that would: for the end of a mount.
  void cancel() const;

  /// Tells the server what will be read, in this order. `flags`: of HintRequest.
  [[nodiscard]] Result<void> hint(std::span<const HintRange> ranges, std::uint32_t flags) const;
  /// The server's figures of this archive, as JSON; NotFound where there is no server.
  [[nodiscard]] Result<std::string> server_figures() const;
  [[nodiscard]] CacheCounters counters() const;
  /// Opens the mirror once more, with the `flags` of open(2), if it is sealed; Unsupported if not.
  [[nodiscard]] Result<UniqueFd> open_sealed(int flags) const;
  /// Units that the mirror holds at this moment, to be read first by a later job.
  [[nodiscard]] std::vector<Unit> present_units() const;

 private:
  CachedSource(std::unique_ptr<FileSource> file, const CacheOptions& options);

  using Mapped = std::shared_ptr<const Attached>;
  [[nodiscard]] Mapped attached() const;
  void set_attached(const Mapped& attached) const;

  class Turn;
  [[nodiscard]] static bool has(const Attached* cache, std::uint64_t offset, std::uint64_t length);
  [[nodiscard]] Result<void> read_mirror(const Attached& cache, std::uint64_t offset,
                                         std::span<std::byte> out) const;
  [[nodiscard]] Result<void> read_unchecked(const Attached& cache, std::uint64_t offset,
                                            std::span<std::byte> out) const;
  [[nodiscard]] Result<void> read_checked(const Attached& cache, std::uint64_t offset,
                                          std::span<std::byte> out) const;
  [[nodiscard]] Result<void> read_chunk(const Attached& cache, std::uint64_t offset,
                                        std::span<std::byte> whole) const;
  [[nodiscard]] Result<void> read_by_units(std::uint64_t offset, std::span<std::byte> out,
                                           bool distrust) const;
  [[nodiscard]] Result<void> read_part(std::uint64_t offset, std::span<std::byte> out,
                                       bool distrust) const;
  [[nodiscard]] Result<void> ask(Line& line, std::uint64_t offset, std::span<std::byte> out,
                                 bool distrust) const;
  [[nodiscard]] std::unexpected<Error> ending() const;
  [[nodiscard]] Result<Packet> request(Message type,
                                       const std::function<Bytes(const Line&)>& payload) const;
  [[nodiscard]] Result<void> read_direct(std::uint64_t offset, std::span<std::byte> out) const;
  void touch(const Attached& cache, std::uint64_t offset, std::uint64_t length) const;
  void note_gone(const Error& why) const;
  void note_back() const;

  std::unique_ptr<FileSource> file_;
  mutable ServerLink link_;
  mutable std::shared_mutex attached_mutex_;
  mutable Mapped attached_;  ///< guarded by attached_mutex_
  std::atomic<bool> distrust_{false};
  mutable bool checked_ = false;  ///< by sums of the server; set before any other thread reads
  mutable std::atomic<bool> gone_{false};

  mutable std::atomic<std::uint64_t> hit_bytes_{0}, miss_bytes_{0}, direct_bytes_{0};
  /// Where recent reads ended, by a hash of the place: a read that goes on there is no new touch.
  mutable std::array<std::atomic<std::uint64_t>, 64> ends_{};
};

}  // namespace shardfs

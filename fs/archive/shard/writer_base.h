// What the writers of both containers share: the order of calls, small files gathered, the index
// builder, the header digest.
#pragma once

#include <cstdint>
#include <memory>

#include "fs/archive/shard/output.h"
#include "fs/archive/shard/ustar.h"
#include "fs/archive/shard/writer.h"
#include "fs/base/checksum.h"

namespace shardfs {

class WriterBase : public ShardWriter {
 public:
  [[nodiscard]] Result<void> add(const Member& member, Payload payload) final;
  [[nodiscard]] Result<void> begin(const Member& member) final;
  [[nodiscard]] Result<void> append(ByteSpan data) final;
  [[nodiscard]] Result<ShardSummary> finish() final;

 protected:
  WriterBase(const ShardOptions& options, ByteSink& sink);

  /// A member with all its data; never the root. `number` is the builder's.
  [[nodiscard]] virtual Result<void> place(const Member& member, std::uint32_t number,
                                           Payload payload) = 0;
  /// A file too large to be gathered: its start, its data, its end.
  [[nodiscard]] virtual Result<void> start(const Member& member, std::uint32_t number) = 0;
  [[nodiscard]] virtual Result<void> more(ByteSpan data) = 0;
  [[nodiscard]] virtual Result<void> end() = 0;
  /// Everything behind the members.
  [[nodiscard]] virtual Result<ShardSummary> close() = 0;

  [[nodiscard]] Bytes headers(const Member& member, std::uint64_t position) const;
  /// Whether its headers depend on its position.
  [[nodiscard]] bool is_aligned(const Member& member) const {
    return options_.align != 0 && member.is_regular() && member.size >= kAlignFrom;
  }

  ShardOptions options_;
  Output out_;
  TreeBuilder builder_;
  Checksum64 header_digest_;
  Member root_;  ///< as it was added; 0755 with owner and time of the first member otherwise

 private:
  enum class State { Ready, Gathering, Streaming, Finished };

  [[nodiscard]] Result<void> accept(const Member& member, Payload payload);
  [[nodiscard]] Result<std::uint32_t> number(const Member& member);
  [[nodiscard]] Result<void> end_of_data();

  State state_ = State::Ready;
  Member open_;             ///< between begin() and its last append()
  Bytes gathered_;          ///< its data, where it is small
  std::uint64_t left_ = 0;  ///< bytes of it still to come
};

/// Zeros that bring `size` to a block.
[[nodiscard]] std::uint64_t padding_of(std::uint64_t size);

/// Zeros behind a tar stream of `size` bytes: two blocks, then up to a whole record.
[[nodiscard]] std::uint64_t closing_zeros(std::uint64_t size);

[[nodiscard]] ShardSummary summarize(const Superblock& superblock, std::uint64_t packed_bytes);

[[nodiscard]] Result<std::unique_ptr<ShardWriter>> create_tar_writer(const ShardOptions& options,
                                                                     ByteSink& sink);
[[nodiscard]] Result<std::unique_ptr<ShardWriter>> create_zst_writer(const ShardOptions& options,
                                                                     ByteSink& sink);

}  // namespace shardfs

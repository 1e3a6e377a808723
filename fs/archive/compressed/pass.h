// What the decoders of whole files share: the file read once from end to end, and the blocks noted.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <future>
#include <optional>
#include <string_view>
#include <utility>

#include "fs/archive/compressed/stream.h"
#include "fs/archive/foreign/layout.h"
#include "fs/base/byte_source.h"
#include "fs/base/bytes.h"
#include "fs/base/result.h"

namespace shardfs {

/// Decoded bytes given at a time: they are still in the processor's cache when they are used.
inline constexpr std::size_t kDecodedStep = 256 * 1024;

/// How soon what has been found is shown to who asks while something is waited for.
inline constexpr std::chrono::milliseconds kLookEvery{10};

/// What was begun comes to. Meanwhile calls `look`, if it is not empty, now and then.
template <typename T>
[[nodiscard]] T wait_for(std::future<T>& begun, const std::function<void()>& look) {
  while (look && begun.wait_for(kLookEvery) == std::future_status::timeout) look();
  return begun.get();
}

/// A file's bytes in order, asked for in requests of 4 MiB, the next one while the last is used.
/// Keeps two of them. One thread at a time.
class ForwardInput {
 public:
  /// `source` must outlive it.
  explicit ForwardInput(const ByteSource& source) : source_(source) {}

  /// See DecodedStream.
  void while_waiting(const std::function<void()>& look) { look_ = look; }
  [[nodiscard]] const std::function<void()>& look() const { return look_; }

  static constexpr std::size_t kMostWanted = 4096;

  /// The bytes that come next, which stay next: at least `wanted`, unless the file ends before;
  /// mostly far more. Valid until the next call. REQUIRES: wanted <= kMostWanted.
  [[nodiscard]] Result<ByteSpan> peek(std::size_t wanted = 1);
  /// Goes on behind `count` bytes. REQUIRES: peek() has given as many.
  void take(std::size_t count) { begin_ += count; }
  /// The same for any number of bytes. Corrupt: the file ends before.
  [[nodiscard]] Result<void> skip(std::uint64_t count);
  /// The same, and gives them.
  [[nodiscard]] Result<Bytes> read(std::size_t count);

  /// Where the next byte is in the file.
  [[nodiscard]] std::uint64_t position() const { return received_ - (end_ - begin_); }

  /// Bytes of the file from `offset` on.
  [[nodiscard]] std::uint64_t size_from(std::uint64_t offset) const {
    return source_.size() - offset;
  }

  /// "FILE: WHAT at byte POSITION of the file".
  [[nodiscard]] std::unexpected<Error> damaged(std::string_view what,
                                               ErrorKind kind = ErrorKind::Corrupt) const {
    return damaged_at(position(), what, kind);
  }
  [[nodiscard]] std::unexpected<Error> damaged_at(std::uint64_t position, std::string_view what,
                                                  ErrorKind kind = ErrorKind::Corrupt) const;
  [[nodiscard]] std::unexpected<Error> cut_short() const { return damaged("cut short"); }
  [[nodiscard]] std::unexpected<Error> no_memory() const;

 private:
  void request();
  [[nodiscard]] Result<void> receive();
  /// Takes what is there of the next bytes, at most as many. Corrupt: the file ends.
  [[nodiscard]] Result<ByteSpan> some(std::uint64_t most);

  const ByteSource& source_;
  std::function<void()> look_;
  std::uint64_t received_ = 0;       ///< bytes of the file, from its beginning
  std::size_t begin_ = 0, end_ = 0;  ///< of the bytes to come in the current buffer
  std::array<Bytes, 2> buffers_;     ///< each: room for a rest of the other, and a request
  unsigned current_ = 0;
  std::size_t requested_ = 0;          ///< bytes, into the other buffer
  std::future<Result<void>> request_;  ///< last, for it is waited for before the rest goes
};

/// Notes blocks in a layout, and whether each is small enough to be entered for a few bytes.
class BlockNotes {
 public:
  /// `layout` must outlive it.
  explicit BlockNotes(LayoutBuilder& layout) : layout_(layout) {}

  /// As LayoutBuilder::add(); a block that gives no bytes is left out.
  void add(Coder coder, std::uint64_t offset, std::uint64_t packed, std::uint64_t decoded,
           const BlockStart& start = {});

  /// See LayoutBuilder.
  void note_shard_index() { layout_.note_shard_index(); }

  [[nodiscard]] Access access() const { return bounded_ ? Access::Frame : Access::Sequential; }

 private:
  LayoutBuilder& layout_;
  bool bounded_ = true;
};

/// Makes blocks of whole members or frames that follow each other.
class BlockGroup {
 public:
  /// `blocks` must outlive it.
  BlockGroup(BlockNotes& blocks, Codec codec) : blocks_(blocks), coder_{codec, 0} {}

  void add(std::uint64_t offset, std::uint64_t packed, std::uint64_t decoded);
  /// Notes what is not noted yet.
  void flush();
  /// Appends what is not noted yet to a copy of the layout.
  void note_open(LayoutBuilder& layout) const {
    if (decoded_ != 0) layout.add(coder_, offset_, end_ - offset_, decoded_);
  }

 private:
  BlockNotes& blocks_;
  Coder coder_;
  std::uint64_t offset_ = 0, end_ = 0;  ///< in the file
  std::uint64_t decoded_ = 0;
};

/// A stream that stays failed once it has.
class StreamPass : public DecodedStream {
 public:
  [[nodiscard]] Result<ByteSpan> next() final;
  void while_waiting(const std::function<void()>& look) final { input_.while_waiting(look); }
  [[nodiscard]] Access access() const final { return blocks_.access(); }

 protected:
  StreamPass(const ByteSource& source, LayoutBuilder& layout) : input_(source), blocks_(layout) {}

  /// As next(); not called again after an error.
  [[nodiscard]] virtual Result<ByteSpan> advance() = 0;

  ForwardInput input_;
  BlockNotes blocks_;

 private:
  std::optional<Error> failed_;
};

}  // namespace shardfs

// One decoder for each library that undoes a compression. Behind codec.h; for its own files only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <bzlib.h>
#include <lz4frame.h>
#include <lzma.h>
#include <zlib.h>

#include "fs/archive/foreign/codec.h"
#include "fs/archive/foreign/lz4_frame.h"
#include "fs/archive/zstd_contexts.h"

namespace shardfs {

/// zlib and libbz2 count in 32 bits.
inline constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;

/// What is to be undone. More than there are codecs, as Zip and Squashfs hold data of several.
enum class Method : std::uint8_t {
  Stored,
  Deflate,
  Zlib,
  Gzip,
  Zstd,
  XzBlock,
  XzStream,
  ZipLzma,  ///< LZMA as in a zip: version, size of the properties, properties, data
  Bzip2Block,
  Bzip2Stream,
  Lz4,
  Lz4Blocks,
  Squashfs,  ///< a block of one of the compressors that only libsquashfuse undoes
  ZipMember,
  Lzma,  ///< without a header
  Lzma2
};
constexpr std::size_t kMethods = 16;

struct Job {
  Method method = Method::Stored;
  unsigned parameter = 0;             ///< as the codec says
  const BlockStart* start = nullptr;  ///< used by begin() only; Deflate and Bzip2Block
  /// The block is given whole, in one step, and so much of it is wanted, in one array. Not set: it
  /// comes and goes in parts.
  std::optional<std::size_t> room = {};
};

/// A decoder that is used for one block after the other, to spare it the set-up. step() is told by
/// an empty `in` that no more input comes: not all methods have an end of their own.
class MethodDecoder : public Decoder {
 public:
  MethodDecoder() = default;
  MethodDecoder(const MethodDecoder&) = delete;  // The libraries keep the address of their state.
  MethodDecoder& operator=(const MethodDecoder&) = delete;

  /// Goes to the start of a block, whatever was before. step() only after it.
  [[nodiscard]] virtual Result<void> begin(const Job& job) = 0;
  /// Gives memory back that is too much to be kept between two blocks.
  virtual void trim() {}
};

/// Memory that a decoder may keep between two blocks, bytes. A thread has up to one of each method.
constexpr std::uint64_t kKeptMemory = 16 * 1024 * 1024;

[[nodiscard]] std::unique_ptr<MethodDecoder> new_decoder(Method method);

[[nodiscard]] std::unexpected<Error> damaged(std::string_view method, std::string_view what);
[[nodiscard]] std::unexpected<Error> cut_short();
[[nodiscard]] std::unexpected<Error> no_memory();

class StoredDecoder final : public MethodDecoder {
 public:
  Result<void> begin(const Job&) override { return {}; }
  Result<Progress> step(ByteSpan& in, std::span<std::byte>& out) override;
};

class InflateDecoder final : public MethodDecoder {
 public:
  ~InflateDecoder() override;
  Result<void> begin(const Job& job) override;
  Result<Progress> step(ByteSpan& in, std::span<std::byte>& out) override;

 private:
  enum class Next : std::uint8_t { Member, Nothing, Unknown };

  Next look(ByteSpan& in, bool at_end);
  Result<bool> call(ByteSpan& in, std::span<std::byte>& out);

  z_stream stream_{};
  bool open_ = false;   ///< stream_ has been set up
  bool ended_ = false;  ///< nothing of a member has come since the last one's end
  bool gzip_ = false;
  unsigned bits_ = 0;  ///< of the next byte that belong to what is before
};

/// One or more frames, some of them to be skipped, as zstd and lz4 have them.
class FramesDecoder : public MethodDecoder {
 public:
  Result<Progress> step(ByteSpan& in, std::span<std::byte>& out) final;

 protected:
  explicit FramesDecoder(std::uint32_t magic) : magic_(magic) {}
  void rewind();

 private:
  enum class Next : std::uint8_t { Frame, Nothing, Unknown };

  Next look(ByteSpan& in, bool at_end);
  /// One call of the library; returns whether a frame has ended.
  virtual Result<bool> call(ByteSpan& in, std::span<std::byte>& out) = 0;
  /// Decodes a frame that is there whole and has room, if that is worth a way of its own.
  virtual bool decode_whole(ByteSpan&, std::span<std::byte>&) { return false; }

  std::uint32_t magic_;
  bool between_ = true;  ///< two frames, or before the first
  bool any_ = false;     ///< a frame has ended
  Bytes held_;           ///< behind a frame: what may be a part of a magic
};

class ZstdDecoder final : public FramesDecoder {
 public:
  ZstdDecoder() : FramesDecoder(ZSTD_MAGICNUMBER) {}
  Result<void> begin(const Job& job) override;
  void trim() override;

 private:
  Result<bool> call(ByteSpan& in, std::span<std::byte>& out) override;
  bool decode_whole(ByteSpan& in, std::span<std::byte>& out) override;

  ZstdDecoderContext context_;
  bool whole_ = false;
};

/// liblz4's decoder of a frame.
class Lz4Frame {
 public:
  Result<void> begin();
  /// How many bytes would be welcome next: up to the end of this block, and the next one's size; 0
  /// where the frame has ended.
  Result<std::size_t> call(ByteSpan& in, std::span<std::byte>& out);

 private:
  struct Free {
    void operator()(LZ4F_dctx* context) const { LZ4F_freeDecompressionContext(context); }
  };
  std::unique_ptr<LZ4F_dctx, Free> context_;
};

class Lz4Decoder final : public FramesDecoder {
 public:
  Lz4Decoder() : FramesDecoder(kLz4Magic) {}
  Result<void> begin(const Job& job) override;

 private:
  Result<bool> call(ByteSpan& in, std::span<std::byte>& out) override;

  Lz4Frame frame_;
};

/// Blocks of a frame, which get a header in front of them.
class Lz4BlocksDecoder final : public MethodDecoder {
 public:
  Result<void> begin(const Job& job) override;
  Result<Progress> step(ByteSpan& in, std::span<std::byte>& out) override;

 private:
  Lz4Frame frame_;
  bool any_ = false;  ///< something was given
  bool ended_ = false;
};

class LzmaDecoder final : public MethodDecoder {
 public:
  ~LzmaDecoder() override { lzma_end(&stream_); }
  Result<void> begin(const Job& job) override;
  Result<Progress> step(ByteSpan& in, std::span<std::byte>& out) override;
  void trim() override;

 private:
  bool take_header(ByteSpan& in);
  Result<void> start();
  Result<void> start_block();
  Result<void> start_zip();
  Result<void> start_plain();
  Result<void> start_raw(lzma_vli method, ByteSpan properties);
  Result<void> fit(lzma_filter* filters);

  lzma_stream stream_ = LZMA_STREAM_INIT;
  lzma_block block_{};  ///< used by stream_
  Job job_;
  Bytes header_;  ///< as far as it has come
  bool running_ = false;
  std::uint64_t memory_ = 0;  ///< that stream_ takes, about
};

class Bzip2Decoder final : public MethodDecoder {
 public:
  ~Bzip2Decoder() override { trim(); }
  Result<void> begin(const Job& job) override;
  Result<Progress> step(ByteSpan& in, std::span<std::byte>& out) override;
  void trim() override;

 private:
  Result<int> call(ByteSpan& in, std::span<std::byte>& out);
  Result<void> lead(ByteSpan bytes);
  Result<Progress> step_block(ByteSpan& in, std::span<std::byte>& out);

  bz_stream stream_{};
  bool open_ = false;
  bool block_ = false;
  bool ended_ = false;
  // Of a block only:
  unsigned bits_ = 0;     ///< of the first byte that are not the block's
  std::byte before_{};    ///< what stands in them instead
  bool in_first_ = true;  ///< the first byte is still to come
  bool read_ = false;     ///< all of the block has been read
};

class SquashfsDecoder final : public MethodDecoder {
 public:
  Result<void> begin(const Job& job) override;
  Result<Progress> step(ByteSpan& in, std::span<std::byte>& out) override;

 private:
  [[nodiscard]] Result<std::size_t> decode(ByteSpan packed, std::span<std::byte> out) const;
  Result<void> collect(ByteSpan& in);

  Job job_;
  Bytes packed_;        ///< what has come so far
  Bytes decoded_;       ///< once all has come
  std::size_t at_ = 0;  ///< of decoded_, up to where it has gone out
};

/// How blocks of a squashfs compressor are decoded. Unsupported: libsquashfuse does not know it.
[[nodiscard]] Result<Method> squashfs_method(unsigned compressor);

class ZipDecoder final : public MethodDecoder {
 public:
  Result<void> begin(const Job& job) override;
  Result<Progress> step(ByteSpan& in, std::span<std::byte>& out) override;

 private:
  Bytes header_;          ///< the fixed part, as far as it has come
  std::size_t skip_ = 0;  ///< bytes of name and extra field still to come
  std::unique_ptr<MethodDecoder> data_;
};

/// A zip member behind its local header.
struct LocalMember {
  Method method = Method::Stored;
  std::uint32_t crc = 0;        ///< of the data
  std::uint32_t size = 0;       ///< of the data; all ones: more than 32 bits
  bool has_descriptor = false;  ///< these two may stand behind the data instead
};
/// Takes the local header off the front of `member`.
[[nodiscard]] Result<LocalMember> open_zip_member(ByteSpan& member);

/// Whether `data`, all of a member, have the CRC-32 of its header, or of the descriptor that
/// `behind` begins with.
[[nodiscard]] bool is_right(const LocalMember& member, ByteSpan data, ByteSpan behind);

}  // namespace shardfs

// Files made of frames, between which there may be frames to be skipped: zstd's and lz4's.
#pragma once

#include <cstdint>
#include <span>

#include "fs/archive/compressed/pass.h"
#include "fs/base/checksum.h"

namespace shardfs {

/// Both methods number the frames that decoders skip alike: 16 magic numbers, then a length.
[[nodiscard]] constexpr bool is_skippable(std::uint32_t magic) {
  return (magic & 0xfffffff0u) == 0x184d2a50u;
}
constexpr std::size_t kSkippableHeader = 8;
constexpr std::uint32_t kZstdMagic = 0xfd2fb528u;
constexpr std::uint32_t kLz4LegacyMagic = 0x184c2102u;

class FrameStream : public StreamPass {
 public:
  FrameStream(const ByteSource& source, LayoutBuilder& layout, Codec codec, std::uint32_t magic);
  void note_open(LayoutBuilder& layout) const final;

 protected:
  [[nodiscard]] Result<ByteSpan> advance() final;

  struct Step {
    std::size_t taken = 0;  ///< bytes of the input
    std::size_t given = 0;  ///< bytes of the output
    bool done = false;      ///< with the frame
    /// What comes next in the frame needs nothing that is before, but what blocks() says.
    bool enterable = false;
  };
  /// A frame begins, with these bytes: 8 of them at least.
  virtual void begin(ByteSpan) {}
  /// Decodes some of a frame. After `done` the next frame's first bytes come.
  [[nodiscard]] virtual Result<Step> step(ByteSpan in, std::span<std::byte> out) = 0;
  /// How what lies between two `enterable` of a frame is compressed.
  [[nodiscard]] virtual Coder blocks() const { return {codec_}; }

 private:
  [[nodiscard]] Result<bool> begin_frame();
  void note_enterable();
  void note_blocks();
  void end_frame();

  Codec codec_;
  std::uint32_t magic_;
  BlockGroup group_;
  Bytes out_;
  bool inside_ = false;        ///< of a frame
  std::uint64_t offset_ = 0;   ///< of this frame, in the file
  std::uint64_t decoded_ = 0;  ///< bytes of this frame
  // Of a frame that can be entered:
  std::uint64_t entry_ = 0;  ///< where it was noted last that it can be, in the file; 0: nowhere
  std::uint64_t noted_ = 0;  ///< bytes of this frame, decoded before entry_
  Checksum64 sum_;           ///< of those decoded since
};

}  // namespace shardfs

#include <array>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <lzma.h>

#include "fs/archive/compressed/blocks_ahead.h"
#include "fs/archive/compressed/pass.h"
#include "fs/archive/compressed/streams.h"
#include "fs/archive/foreign/block_table.h"

namespace shardfs {

namespace {

/// Of memory for a decoder: xz writes dictionaries of up to 1.5 GiB. Only what is used is taken.
constexpr std::uint64_t kMostMemory = std::uint64_t{2} << 30;

struct FreeIndexHash {
  void operator()(lzma_index_hash* hash) const { lzma_index_hash_end(hash, nullptr); }
};

[[nodiscard]] const std::uint8_t* data(ByteSpan bytes) {
  return reinterpret_cast<const std::uint8_t*>(bytes.data());
}

/// Decodes block by block, for lzma_stream_decoder() would not tell where they are: several at once
/// where their headers tell their sizes, as those do that `xz -T` writes.
class XzStream final : public StreamPass {
 public:
  XzStream(const ByteSource& source, LayoutBuilder& layout) : StreamPass(source, layout) {}
  ~XzStream() override { lzma_end(&lzma_); }
  XzStream(const XzStream&) = delete;
  XzStream& operator=(const XzStream&) = delete;

  void note_open(LayoutBuilder& layout) const override;
  [[nodiscard]] std::string name() const override { return "xz"; }

 protected:
  [[nodiscard]] Result<ByteSpan> advance() override;

 private:
  enum class State : std::uint8_t { Between, AtBlock, InBlock, AtEnd };

  [[nodiscard]] Result<void> look_ahead();
  [[nodiscard]] Result<void> take_block();
  [[nodiscard]] Result<void> skip_padding();
  [[nodiscard]] Result<bool> begin_stream();
  [[nodiscard]] Result<void> begin_block();
  [[nodiscard]] Result<bool> init_decoder();
  [[nodiscard]] bool can_be_ahead(std::uint64_t memory) const;
  [[nodiscard]] Result<void> push_block();
  [[nodiscard]] Coder coder() const {
    return {Codec::Xz, static_cast<std::uint8_t>(header_.check)};
  }
  [[nodiscard]] Result<std::size_t> decode();
  [[nodiscard]] Result<void> note_in_index();
  [[nodiscard]] Result<void> end_block();
  [[nodiscard]] Result<void> check_index();
  [[nodiscard]] Result<void> end_stream();
  [[nodiscard]] std::unexpected<Error> error(lzma_ret answer) const;

  lzma_stream lzma_ = LZMA_STREAM_INIT;
  Bytes out_;
  State state_ = State::Between;  ///< …streams, a stream's blocks, in one, or at the file's end
  BlocksAhead ahead_;             ///< before that
  std::optional<Error> error_;    ///< found behind them
  lzma_stream_flags header_ = {};
  std::unique_ptr<lzma_index_hash, FreeIndexHash> index_;  ///< of the blocks of this stream
  lzma_block block_ = {};
  std::uint64_t offset_ = 0;   ///< of this block in the file
  std::uint64_t decoded_ = 0;  ///< bytes of this block
};

std::unexpected<Error> XzStream::error(lzma_ret answer) const {
  switch (answer) {
    case LZMA_MEM_ERROR:
      return input_.no_memory();
    case LZMA_OPTIONS_ERROR:
      return input_.damaged("unknown xz features", ErrorKind::Unsupported);
    default:
      return input_.damaged("damaged xz data");
  }
}

/// Zeros, four at a time, may follow a stream.
Result<void> XzStream::skip_padding() {
  constexpr std::size_t kUnit = 4;
  for (;;) {
    SHARDFS_TRY(const ByteSpan in, input_.peek(kUnit));
    if (in.size() < kUnit || load<std::uint32_t>(in.data()) != 0) return {};
    input_.take(kUnit);
  }
}

/// False at the end of the file.
Result<bool> XzStream::begin_stream() {
  SHARDFS_CHECK(skip_padding());
  SHARDFS_TRY(const ByteSpan in, input_.peek(LZMA_STREAM_HEADER_SIZE));
  if (in.empty()) return false;
  if (in.size() < LZMA_STREAM_HEADER_SIZE) return input_.cut_short();
  if (const lzma_ret answer = lzma_stream_header_decode(&header_, data(in)); answer != LZMA_OK)
    return error(answer);
  if (lzma_check_is_supported(header_.check) == 0)
    return input_.damaged("an unknown xz checksum", ErrorKind::Unsupported);
  index_.reset(lzma_index_hash_init(index_.release(), nullptr));
  if (!index_) return input_.no_memory();
  input_.take(LZMA_STREAM_HEADER_SIZE);
  return true;
}

/// By its header: can be read and decoded as a whole, by a decoder for random access.
bool XzStream::can_be_ahead(std::uint64_t memory) const {
  return block_.compressed_size != LZMA_VLI_UNKNOWN &&
         block_.uncompressed_size != LZMA_VLI_UNKNOWN &&
         !is_in_steps(lzma_block_total_size(&block_), block_.uncompressed_size) &&
         memory <= std::uint64_t{1} << kWindowLog;
}

/// Reads the header of a block that is next in the input. False: it can be decoded ahead; else
/// there is a decoder for it now.
Result<bool> XzStream::init_decoder() {
  SHARDFS_TRY(const ByteSpan in, input_.peek(LZMA_BLOCK_HEADER_SIZE_MAX));
  block_ = {};
  block_.version = 1;
  block_.check = header_.check;
  block_.header_size = lzma_block_header_size_decode(std::to_integer<unsigned>(in[0]));
  if (in.size() < block_.header_size) return input_.cut_short();
  std::array<lzma_filter, LZMA_FILTERS_MAX + 1> filters = {};
  filters[0].id = LZMA_VLI_UNKNOWN;
  block_.filters = filters.data();
  lzma_ret answer = lzma_block_header_decode(&block_, nullptr, data(in));
  if (answer != LZMA_OK) return error(answer);
  const std::uint64_t memory = lzma_raw_decoder_memusage(filters.data());
  const bool too_much = memory != UINT64_MAX && memory > kMostMemory;
  const bool ahead = !too_much && can_be_ahead(memory);
  if (!too_much && !ahead) answer = lzma_block_decoder(&lzma_, &block_);
  lzma_filters_free(filters.data(), nullptr);
  block_.filters = nullptr;  // they were needed for making the decoder only
  if (too_much)
    return input_.damaged(fmt::format("xz data that take {} MiB of memory", memory >> 20),
                          ErrorKind::Unsupported);
  if (answer != LZMA_OK) return error(answer);
  return !ahead;
}

/// Begins the next block of this stream, or ends the stream where its index is.
Result<void> XzStream::begin_block() {
  constexpr std::byte kIndexIndicator{0};
  SHARDFS_TRY(const ByteSpan in, input_.peek());
  if (in.empty()) return input_.cut_short();
  if (in[0] == kIndexIndicator) {
    SHARDFS_CHECK(check_index());
    SHARDFS_CHECK(end_stream());
    state_ = State::Between;
    return {};
  }
  offset_ = input_.position();
  SHARDFS_TRY(const bool here, init_decoder());
  if (!here) return push_block();
  decoded_ = 0;
  input_.take(block_.header_size);
  state_ = State::InBlock;
  return {};
}

Result<void> XzStream::push_block() {
  SHARDFS_CHECK(note_in_index());
  const auto size = static_cast<std::size_t>(lzma_block_total_size(&block_));
  const auto decoded = static_cast<std::size_t>(block_.uncompressed_size);
  SHARDFS_TRY(Bytes packed, input_.read(size));
  ahead_.push({.coder = coder(),
               .offset = offset_,
               .size = size,
               .packed = std::move(packed),
               .likely = decoded,
               .most = decoded});
  return {};
}

/// Goes on up to a block that is not decoded ahead, or as far as is worth it.
Result<void> XzStream::look_ahead() {
  while ((state_ == State::Between || state_ == State::AtBlock) && ahead_.wants_more()) {
    if (state_ == State::Between) {
      SHARDFS_TRY(const bool another, begin_stream());
      state_ = another ? State::AtBlock : State::AtEnd;
    } else {
      SHARDFS_CHECK(begin_block());
    }
  }
  return {};
}

/// Takes the block that is next, decoded, to out_.
Result<void> XzStream::take_block() {
  auto [block, decoded] = ahead_.pop(input_.look());
  if (!decoded)
    return input_.damaged_at(block.offset, decoded.error().message, decoded.error().kind);
  if (decoded->is_cut) return input_.damaged_at(block.offset, "damaged xz data");
  out_ = std::move(decoded->bytes);
  blocks_.add(block.coder, block.offset, block.size, out_.size());
  return {};
}

/// Decodes some of the block; returns the bytes that came. It may end the block.
Result<std::size_t> XzStream::decode() {
  SHARDFS_TRY(const ByteSpan in, input_.peek());
  lzma_.next_in = data(in);
  lzma_.avail_in = in.size();
  lzma_.next_out = reinterpret_cast<std::uint8_t*>(out_.data());
  lzma_.avail_out = out_.size();
  const lzma_ret answer = lzma_code(&lzma_, LZMA_RUN);
  input_.take(in.size() - lzma_.avail_in);
  const std::size_t given = out_.size() - lzma_.avail_out;
  decoded_ += given;
  if (answer == LZMA_STREAM_END) {
    SHARDFS_CHECK(end_block());
    return given;
  }
  const bool wants_more = answer == LZMA_OK || answer == LZMA_BUF_ERROR;
  if (wants_more && in.empty() && given == 0) return input_.cut_short();
  if (answer != LZMA_OK) return error(answer);
  return given;
}

/// For check_index().
Result<void> XzStream::note_in_index() {
  const lzma_ret answer = lzma_index_hash_append(index_.get(), lzma_block_unpadded_size(&block_),
                                                 block_.uncompressed_size);
  if (answer != LZMA_OK) return error(answer);
  return {};
}

Result<void> XzStream::end_block() {
  SHARDFS_CHECK(note_in_index());
  blocks_.add(coder(), offset_, input_.position() - offset_, decoded_);
  state_ = State::AtBlock;
  return {};
}

void XzStream::note_open(LayoutBuilder& layout) const {
  if (state_ != State::InBlock || decoded_ <= kMaxWhole) return;
  layout.add(coder(), offset_, input_.size_from(offset_), decoded_);
}

/// The index must tell of the blocks that were there.
Result<void> XzStream::check_index() {
  for (;;) {
    SHARDFS_TRY(const ByteSpan in, input_.peek());
    if (in.empty()) return input_.cut_short();
    std::size_t taken = 0;
    const lzma_ret answer = lzma_index_hash_decode(index_.get(), data(in), &taken, in.size());
    input_.take(taken);
    if (answer == LZMA_STREAM_END) return {};
    if (answer != LZMA_OK) return error(answer);
  }
}

Result<void> XzStream::end_stream() {
  SHARDFS_TRY(const ByteSpan in, input_.peek(LZMA_STREAM_HEADER_SIZE));
  if (in.size() < LZMA_STREAM_HEADER_SIZE) return input_.cut_short();
  lzma_stream_flags footer = {};
  if (const lzma_ret answer = lzma_stream_footer_decode(&footer, data(in)); answer != LZMA_OK)
    return error(answer);
  if (lzma_stream_flags_compare(&header_, &footer) != LZMA_OK ||
      footer.backward_size != lzma_index_hash_size(index_.get()))
    return input_.damaged("damaged xz footer");
  input_.take(LZMA_STREAM_HEADER_SIZE);
  return {};
}

Result<ByteSpan> XzStream::advance() {
  for (;;) {
    if (!error_) {
      if (const auto looked = look_ahead(); !looked) error_ = looked.error();
    }
    if (!ahead_.empty()) {
      SHARDFS_CHECK(take_block());
      if (!out_.empty()) return out_;
    } else if (error_) {
      return std::unexpected(*error_);
    } else if (state_ == State::AtEnd) {
      return ByteSpan();
    } else {
      out_.resize(kDecodedStep);
      SHARDFS_TRY(const std::size_t given, decode());
      if (given > 0) return ByteSpan(out_).first(given);
    }
  }
}

}  // namespace

StreamResult xz_stream(const ByteSource& source, LayoutBuilder& layout) {
  return std::make_unique<XzStream>(source, layout);
}

}  // namespace shardfs

#include "tools/mkshard/gzip_input.h"

#include <cerrno>
#include <new>

namespace shardfs {
namespace {

constexpr std::size_t kOutput = 256 * 1024;
constexpr int kGzipOnly = 16 + MAX_WBITS;

}  // namespace

GzipInput::GzipInput(ArchiveFile& file) : file_(file), out_(kOutput) {
  if (::inflateInit2(&z_, kGzipOnly) != Z_OK) throw std::bad_alloc();
}

int GzipInput::attach(struct archive* a) {
  ::archive_read_set_read_callback(a, &GzipInput::read);
  ::archive_read_set_callback_data(a, this);
  return ::archive_read_open1(a);
}

la_ssize_t GzipInput::read(struct archive* a, void* self, const void** buffer) {
  auto* input = static_cast<GzipInput*>(self);
  const la_ssize_t size = input->next_block(buffer);
  if (size >= 0) return size;
  const auto& error = input->file_.error();
  ::archive_set_error(a, EIO, "%s", error ? error->message.c_str() : input->failure_.c_str());
  return -1;
}

la_ssize_t GzipInput::next_block(const void** buffer) {
  *buffer = out_.data();
  z_.next_out = out_.data();
  z_.avail_out = kOutput;
  while (state_ != State::Ended && z_.avail_out == kOutput) {
    if (z_.avail_in == 0 && !input_ended_ && !refill()) return -1;
    if (state_ == State::BetweenMembers) {
      find_member();
    } else if (!decode()) {
      return -1;
    }
  }
  return static_cast<la_ssize_t>(kOutput - z_.avail_out);
}

bool GzipInput::refill() {
  const void* bytes = nullptr;
  const la_ssize_t size = file_.next_block(&bytes);
  if (size < 0) return false;
  input_ended_ = size == 0;
  z_.next_in = static_cast<Bytef*>(const_cast<void*>(bytes));  // zlib only reads it.
  z_.avail_in = static_cast<uInt>(size);
  return true;
}

void GzipInput::find_member() {
  while (z_.avail_in > 0 && *z_.next_in == 0) {
    ++z_.next_in;
    --z_.avail_in;
  }
  if (z_.avail_in == 0) {
    if (input_ended_) state_ = State::Ended;
    return;
  }
  garbage_ = *z_.next_in != 0x1f;
  state_ = garbage_ ? State::Ended : State::InMember;
  ::inflateReset2(&z_, kGzipOnly);
}

bool GzipInput::decode() {
  const int result = ::inflate(&z_, Z_NO_FLUSH);
  if (result == Z_STREAM_END) state_ = State::BetweenMembers;
  if (result == Z_STREAM_END || result == Z_OK) return true;
  if (result == Z_MEM_ERROR) {
    failure_ = "out of memory";
  } else if (result == Z_BUF_ERROR) {
    if (!input_ended_) return true;
    failure_ = "the data end too early";
  } else {
    failure_ = z_.msg != nullptr ? z_.msg : "the data make no sense";
  }
  return false;
}

}  // namespace shardfs

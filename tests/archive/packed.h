// Shards made in memory from lists of members, and temporary files to open them from.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "fs/archive/shard/reader.h"
#include "fs/archive/shard/writer.h"

namespace shardfs::testing {

struct File {
  Member member;
  Bytes data;
};

inline Bytes text(std::string_view t) { return {as_bytes(t).begin(), as_bytes(t).end()}; }

/// Bytes that do not compress, the same for the same seed.
inline Bytes noise(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  Bytes bytes(size);
  for (std::byte& b : bytes) b = std::byte(random());
  return bytes;
}

/// Bytes that compress.
inline Bytes prose(std::size_t size) {
  std::string t;
  for (unsigned i = 0; t.size() < size; ++i) t += "line " + std::to_string(i * 7919) + "\n";
  t.resize(size);
  return text(t);
}

inline Member member(std::string path, std::uint32_t mode) {
  Member m;
  m.path = std::move(path);
  m.mode = mode;
  m.uid = m.gid = 1000;
  m.mtime = {1700000000, 123456789};
  return m;
}

inline File file(std::string path, Bytes data) {
  File f{member(std::move(path), 0100644), std::move(data)};
  f.member.size = f.data.size();
  return f;
}
inline File directory(std::string path) { return {member(std::move(path), 040755), {}}; }
inline File symlink(std::string path, std::string to) {
  File f{member(std::move(path), 0120777), {}};
  f.member.link = std::move(to);
  return f;
}
inline File hard_link(std::string path, std::string to) {
  File f{member(std::move(path), 0100644), {}};
  f.member.hard_link = true;
  f.member.link = std::move(to);
  return f;
}

class MemorySink : public ByteSink {
 public:
  Result<void> write(ByteSpan part) override {
    bytes.insert(bytes.end(), part.begin(), part.end());
    return {};
  }
  Bytes bytes;
};

/// `cut`: files are given in parts of so many bytes; 0: whole, with add().
inline Bytes pack(const std::vector<File>& files, const ShardOptions& options, std::size_t cut = 0,
                  ShardSummary* summary = nullptr) {
  MemorySink sink;
  auto writer = ShardWriter::create(options, sink);
  EXPECT_TRUE(writer) << writer.error().message;
  for (const File& f : files) {
    Result<void> done;
    if (cut == 0 && f.data.size() <= kSmallFile) {
      done = (*writer)->add(f.member, Payload::prepare(f.data, options.container));
    } else {
      done = (*writer)->begin(f.member);
      for (std::size_t at = 0; done && at < f.data.size();) {
        const std::size_t part = std::min(cut == 0 ? f.data.size() : cut, f.data.size() - at);
        done = (*writer)->append(ByteSpan(f.data).subspan(at, part));
        at += part;
      }
    }
    EXPECT_TRUE(done) << done.error().message;
  }
  auto end = (*writer)->finish();
  EXPECT_TRUE(end) << end.error().message;
  if (summary != nullptr) *summary = *end;
  return std::move(sink.bytes);
}

/// A file under $TMPDIR that goes away with this object.
class TemporaryFile {
 public:
  explicit TemporaryFile(ByteSpan bytes = {}) {
    const char* dir = std::getenv("TMPDIR");
    path_ = std::string(dir != nullptr ? dir : "/tmp") + "/shardfs-test-XXXXXX";
    fd_ = ::mkstemp(path_.data());
    EXPECT_GE(fd_, 0);
    write(0, bytes);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    ::close(fd_);
    ::unlink(path_.c_str());
  }

  void write(std::size_t offset, ByteSpan bytes) {
    for (std::size_t done = 0; done < bytes.size();) {
      const ssize_t n = ::pwrite(fd_, bytes.data() + done, bytes.size() - done,
                                 static_cast<off_t>(offset + done));
      ASSERT_GT(n, 0);
      done += static_cast<std::size_t>(n);
    }
  }
  void resize(std::size_t size) { ASSERT_EQ(::ftruncate(fd_, static_cast<off_t>(size)), 0); }
  [[nodiscard]] const std::string& path() const { return path_; }

  [[nodiscard]] Result<std::unique_ptr<Archive>> open() const {
    SHARDFS_TRY(auto source, FileSource::open(path_));
    return open_shard(std::move(source));
  }

 private:
  std::string path_;
  int fd_ = -1;
};

/// All of a file, read in one go.
inline Result<Bytes> contents(const Archive& archive, Entry entry) {
  SHARDFS_TRY(const Entry inode, archive.tree().inode(entry));
  Bytes bytes(archive.tree().file_size(inode));
  SHARDFS_TRY(const std::size_t size, archive.read(inode, 0, bytes, nullptr));
  EXPECT_EQ(size, bytes.size());
  return bytes;
}

inline Result<Bytes> contents(const Archive& archive, std::string_view path) {
  SHARDFS_TRY(const Entry entry, archive.tree().find(path));
  return contents(archive, entry);
}

inline ShardOptions options(Container container) {
  ShardOptions o;
  o.container = container;
  return o;
}

inline std::string name_of(const ::testing::TestParamInfo<Container>& info) {
  return info.param == Container::Tar ? "Tar" : "TarZst";
}

/// One of everything a tree can hold.
inline std::vector<File> odd_tree() {
  std::vector<File> files;
  files.push_back(directory(""));
  files.back().member.mode = 040750;
  files.push_back(file("a-small", text("hello\n")));
  files.push_back(directory("big"));
  files.push_back(file("big/noise", noise(3 * 1024 * 1024 + 17, 1)));
  files.push_back(file("big/noise-64k", noise(65536, 2)));
  files.push_back(file("big/noise-64k+1", noise(65537, 3)));
  files.push_back(file("big/prose", prose(1500000)));
  files.push_back(file("big/prose-64k", prose(65536)));
  files.push_back(directory("deep"));
  std::string path = "deep";
  for (int i = 0; i < 12; ++i) {
    path += "/" + std::string(240, static_cast<char>('a' + i));
    files.push_back(directory(path));
  }
  files.push_back(file(path + "/end", text("deep down")));
  files.push_back(file("deep/" + std::string(255, 'n'), text("long name")));
  files.push_back(directory("empty-directory"));
  files.push_back(file("empty-file", {}));
  files.push_back(hard_link("hard", "big/noise-64k"));
  files.push_back(file("holes", Bytes(300000)));
  files.back().member.holes = {{0, 131072}, {196608, 65536}};
  for (std::size_t i = 131072; i < 196608; ++i) files.back().data[i] = std::byte(i);
  files.push_back(file("name\n\x01\xff with \"odd\" bytes", text("odd")));
  files.push_back(file("old", text("before 1970")));
  files.back().member.mtime = {-2, 500000000};
  files.push_back(file("owned", text("by many")));
  files.back().member.uid = 4000000000;
  files.back().member.gid = 3000000;
  files.back().member.mtime = {9000000000, 1};
  files.push_back({member("pipe", 010600), {}});
  files.push_back({member("device", 020600), {}});
  files.back().member.device_major = 1;
  files.back().member.device_minor = 300;
  files.push_back(symlink("symlink", "a-small"));
  files.push_back(symlink("symlink-long", std::string(4000, 'l')));
  files.push_back(file("with-xattrs", prose(5000)));
  files.back().member.xattrs = {{"user.a", text("1")}, {"user.b", noise(2000, 9)}};
  files.push_back(directory("z"));
  for (int i = 0; i < 300; ++i)
    files.push_back(file("z/" + std::to_string(1000 + i), prose(static_cast<std::size_t>(i) * 37)));
  return files;
}

}  // namespace shardfs::testing

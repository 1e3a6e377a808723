// What the store was asked for and gave, counted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "tests/support/slowstore_files.h"

namespace slowstore {

/// The bytes of one file that were served at least once. One thread at a time.
class Coverage {
 public:
  /// Adds the bytes from `begin` up to `end`; returns how many of them are new.
  std::uint64_t add(std::uint64_t begin, std::uint64_t end);

 private:
  std::map<std::uint64_t, std::uint64_t> ranges_;  ///< begin → end; no two overlap or touch
};

struct Counts {
  std::uint64_t opens = 0;
  std::uint64_t requests = 0;        ///< READs that arrived
  std::uint64_t bytes = 0;           ///< in answers to them
  std::uint64_t distinct_bytes = 0;  ///< each byte of a file once

  Counts& operator+=(const Counts& other);
};

struct Statistics {
  Counts all;
  std::uint64_t in_flight = 0;      ///< arrived and not answered
  std::uint64_t max_in_flight = 0;  ///< the most at any one time
  std::uint64_t failed = 0;         ///< answered with an error
  std::uint64_t shortened = 0;
  std::uint64_t flipped = 0;
  /// READs by size asked for: [n] counts those of at most 2^n bytes and more than 2^(n-1).
  std::array<std::uint64_t, 64> sizes = {};
  std::map<std::string, Counts> files;  ///< files that had a name one after the other are summed
};

/// How an answer differs from what the file holds.
struct Damage {
  bool shortened = false;
  bool flipped = false;
};

/// Thread-safe. An answer is to be counted before it is sent, so that who has it finds it counted.
class Counters {
 public:
  void opened(const File& file);
  void arrived(const File& file, std::size_t asked);
  void answered(const File& file, std::uint64_t offset, std::size_t bytes, Damage damage);
  void failed();
  /// Starts anew; what is in flight stays so.
  void reset();
  [[nodiscard]] Statistics read() const;

 private:
  struct Account {
    std::string name;
    Counts counts;
    Coverage coverage;
  };
  Account& account(const File& file);

  mutable std::mutex mutex_;
  Statistics total_;  ///< its `files` and `all` are filled by read()
  std::map<std::uint64_t, Account> accounts_;
};

}  // namespace slowstore

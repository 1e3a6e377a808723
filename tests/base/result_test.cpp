#include "fs/base/result.h"

#include <cerrno>

#include <gtest/gtest.h>

namespace shardfs {
namespace {

TEST(Result, EveryKindHasAnErrno) {
  const std::pair<ErrorKind, int> expected[] = {
      {ErrorKind::Corrupt, EIO},      {ErrorKind::Io, EIO},
      {ErrorKind::NotFound, ENOENT},  {ErrorKind::Invalid, EINVAL},
      {ErrorKind::NoSpace, ENOSPC},   {ErrorKind::Unsupported, EOPNOTSUPP},
      {ErrorKind::Interrupted, EINTR}};
  for (const auto& [kind, number] : expected) EXPECT_EQ((Error{kind, 0, "x"}.to_errno()), number);
}

TEST(Result, SomeKindsKeepTheirErrno) {
  EXPECT_EQ((Error{ErrorKind::Io, ESTALE, "x"}.to_errno()), ESTALE);
  EXPECT_EQ((Error{ErrorKind::NoSpace, ENOMEM, "x"}.to_errno()), ENOMEM);
}

TEST(Result, ErrnosBecomeKindsAndMessages) {
  const std::pair<int, ErrorKind> expected[] = {{ENOSPC, ErrorKind::NoSpace},
                                                {EDQUOT, ErrorKind::NoSpace},
                                                {ENOENT, ErrorKind::NotFound},
                                                {EIO, ErrorKind::Io},
                                                {EACCES, ErrorKind::Io}};
  for (const auto& [number, kind] : expected) {
    const Error error = fail_errno(number, "/some/file", "cannot read").error();
    EXPECT_EQ(error.kind, kind);
    EXPECT_EQ(error.sys_errno, number);
  }
  EXPECT_EQ(fail_errno(EACCES, "/some/file", "cannot read").error().message,
            "/some/file: cannot read: Permission denied");
}

Result<int> half(int number) {
  if (number % 2 != 0) return fail(ErrorKind::Invalid, "odd");
  return number / 2;
}

Result<int> quarter(int number) {
  SHARDFS_TRY(const int once, half(number));
  SHARDFS_TRY(const int twice, half(once));
  return twice;
}

Result<void> check_even(int number) {
  SHARDFS_CHECK(half(number));
  return {};
}

TEST(Result, TryHandsErrorsOn) {
  EXPECT_EQ(quarter(12).value(), 3);
  EXPECT_EQ(quarter(6).error().message, "odd");
  EXPECT_EQ(quarter(5).error().kind, ErrorKind::Invalid);
  EXPECT_TRUE(check_even(4).has_value());
  EXPECT_FALSE(check_even(3).has_value());
}

}  // namespace
}  // namespace shardfs

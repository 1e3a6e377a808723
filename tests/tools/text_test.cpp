#include "tools/common/text.h"

#include <gtest/gtest.h>

namespace shardfs {
namespace {

TEST(Printable, LeavesTextAlone) {
  EXPECT_EQ(printable(""), "");
  EXPECT_EQ(printable("a b\\c/äöü 日本 😀"), "a b\\c/äöü 日本 😀");
}

TEST(Printable, EscapesWhatDrivesATerminal) {
  EXPECT_EQ(printable("a\nb\tc"), "a\\nb\\tc");
  EXPECT_EQ(printable("\x1b[2J\x7f"), "\\033[2J\\177");
  EXPECT_EQ(printable("\xc2\x9b"), "\\302\\233");  // CSI in one character.
}

TEST(Printable, EscapesWhatIsNotUtf8) {
  EXPECT_EQ(printable("\xff\xfe"), "\\377\\376");
  EXPECT_EQ(printable("\xe6\x97"), "\\346\\227");  // Cut short.
  EXPECT_EQ(printable("\xc0\xaf"), "\\300\\257");  // Overlong.
}

TEST(Printable, TwiceIsOnce) {
  const std::string once = printable("a\n\xff\\");
  EXPECT_EQ(printable(once), once);
}

}  // namespace
}  // namespace shardfs

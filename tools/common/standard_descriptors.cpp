#include "tools/common/standard_descriptors.h"

#include <fcntl.h>
#include <unistd.h>

namespace shardfs {

void fill_standard_descriptors() {
  int lowest;
  do {
    lowest = ::open("/dev/null", O_RDWR);
  } while (lowest >= 0 && lowest <= STDERR_FILENO);
  if (lowest > STDERR_FILENO) ::close(lowest);
}

}  // namespace shardfs

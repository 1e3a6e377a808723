#include <iostream>
#include <string>
#include <vector>

#include <signal.h>
#include <unistd.h>

#include "fs/mount/log.h"
#include "tools/common/standard_descriptors.h"
#include "tools/shardfs/shardfs_main.h"

int main(int argc, char** argv) {
  shardfs::fill_standard_descriptors();
  ::signal(SIGXFSZ, SIG_IGN);  // A mirror larger than ulimit -f allows is an error of write().
  (void)shardfs::start_log("stderr", shardfs::LogLevel::Normal);  // until `mount` knows better
  shardfs::Io io{std::cout, std::cerr, isatty(STDERR_FILENO) == 1};
  return shardfs::shardfs_main(std::vector<std::string>(argv + 1, argv + argc), io);
}

#include <iostream>
#include <string>
#include <vector>

#include <signal.h>
#include <unistd.h>

#include "tools/common/standard_descriptors.h"
#include "tools/mkshard/mkshard_main.h"

int main(int argc, char** argv) {
  shardfs::fill_standard_descriptors();
  // Errors of write() are handled where it is called, so that the temporary file goes: a closed
  // pipe, and a file larger than ulimit -f allows.
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
  shardfs::Io io{std::cout, std::cerr, ::isatty(STDERR_FILENO) == 1};
  return shardfs::mkshard_main(std::vector<std::string>(argv + 1, argv + argc), io);
}

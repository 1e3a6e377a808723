// What the tests of routes run on: an archive of files of known bytes, and a device, real or not.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda/batches.h"
#include "tests/archive/packed.h"
#include "tests/cuda/checked_device.h"

namespace shardfs::testing {

/// How a test moves bytes itself.
class Rig {
 public:
  virtual ~Rig() = default;
  [[nodiscard]] virtual std::shared_ptr<Device> device() = 0;
  /// Null for a real device, whose own cuFile is loaded then.
  [[nodiscard]] virtual std::shared_ptr<CheckedCuFile> cufile() = 0;
  /// What lies in device memory now. Invalid: something is still to be written there.
  [[nodiscard]] virtual Result<Bytes> read_back(DeviceAddress address, std::size_t bytes) = 0;
  /// Has `stream` set memory, late.
  virtual void fill_in(Stream stream, DeviceAddress address, std::byte value,
                       std::size_t bytes) = 0;
  /// What is against the rules, and what was left behind. Empty, if all is well.
  [[nodiscard]] virtual std::vector<std::string> complaints() = 0;
  /// Bytes of the largest file that is worth a test here.
  [[nodiscard]] virtual std::size_t large() const = 0;
};

[[nodiscard]] std::unique_ptr<Rig> checked_rig(unsigned seed);
/// Null where there is no GPU.
[[nodiscard]] std::unique_ptr<Rig> cuda_rig();

}  // namespace shardfs::testing

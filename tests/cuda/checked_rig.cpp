#include "tests/cuda/rig.h"

namespace shardfs::testing {
namespace {

class CheckedRig final : public Rig {
 public:
  explicit CheckedRig(unsigned seed)
      : device_(std::make_shared<CheckedDevice>(seed)),
        cufile_(std::make_shared<CheckedCuFile>(device_)) {}

  [[nodiscard]] std::shared_ptr<Device> device() override { return device_; }
  [[nodiscard]] std::shared_ptr<CheckedCuFile> cufile() override { return cufile_; }
  [[nodiscard]] Result<Bytes> read_back(DeviceAddress address, std::size_t bytes) override {
    return device_->read_back(address, bytes);
  }
  void fill_in(Stream stream, DeviceAddress address, std::byte value, std::size_t bytes) override {
    device_->fill_in(stream, address, value, bytes);
  }
  [[nodiscard]] std::vector<std::string> complaints() override {
    std::vector<std::string> all = device_->violations();
    for (std::string& one : cufile_->violations()) all.push_back(std::move(one));
    if (device_->left() != 0) all.emplace_back("memory, streams or events of the device are left");
    if (cufile_->left() != 0) all.emplace_back("files or buffers of cuFile are left");
    return all;
  }
  [[nodiscard]] std::size_t large() const override { return 5'000'001; }

 private:
  std::shared_ptr<CheckedDevice> device_;
  std::shared_ptr<CheckedCuFile> cufile_;
};

}  // namespace

std::unique_ptr<Rig> checked_rig(unsigned seed) { return std::make_unique<CheckedRig>(seed); }

}  // namespace shardfs::testing

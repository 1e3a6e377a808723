// Libraries that a program loads when it needs them, and can do without.
#pragma once

#include <string>

#include "fs/base/result.h"

namespace shardfs {

/// A library that dlopen(3) has loaded; it stays loaded, as its own threads may run in it. Any
/// thread.
class SharedLibrary {
 public:
  /// By name or path, as the loader finds it. Unsupported, with the loader's reason, where it does
  /// not.
  static Result<SharedLibrary> open(const std::string& name);

  /// Sets `function` to its function of that name. Unsupported where there is none. The caller
  /// knows its type: nothing here can check it.
  template <typename Function>
  [[nodiscard]] Result<void> find(const char* name, Function*& function) const {
    SHARDFS_TRY(void* const address, find(name));
    function = reinterpret_cast<Function*>(address);
    return {};
  }

 private:
  SharedLibrary(void* handle, std::string name) : handle_(handle), name_(std::move(name)) {}
  [[nodiscard]] Result<void*> find(const char* name) const;

  void* handle_;
  std::string name_;
};

}  // namespace shardfs

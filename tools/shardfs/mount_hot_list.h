// --hot-list: what one job had in its cache, the next one fetches first.
#pragma once

#include <string>

#include "fs/dataset/dataset.h"

namespace shardfs {

// `path` is the list's, "" for none: then, and without a cache, nothing happens. A list is a
// convenience: what goes wrong is logged, and goes no further.

/// Has what the list names fetched first: a hint is sent even if it names nothing, for staging
/// waits for it a while. REQUIRES: the archive is open.
void use_hot_list(const Dataset& dataset, const std::string& path);

/// Saves what is cached now, if anything is. REQUIRES: the archive is open.
void keep_hot_list(const Dataset& dataset, const std::string& path);

}  // namespace shardfs

// What a mount does with an archive, all of it, on bytes from memory.
#pragma once

#include <string>

#include "fs/base/bytes.h"

namespace shardfs {

/// Opens `archive` as a shard and, where that succeeds, asks for everything about every entry,
/// reads every file and verifies the whole. Ends the process where an answer breaks a promise of
/// the headers.
void serve(ByteSpan archive);

/// The same for a shard that was just written: it must open and be found undamaged.
void serve_sound(ByteSpan archive);

/// The same for an archive of whatever format. It may claim to hold any number of bytes, so only
/// the first MiBs of them are read.
void serve_any(ByteSpan archive);

/// The same, by an index that is kept in the file `path`, and may tell anything of the archive.
void serve_by_index(ByteSpan archive, const std::string& path);

}  // namespace shardfs

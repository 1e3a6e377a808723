#include "fs/mount/counters.h"

namespace shardfs {

std::string_view name(Op op) {
  switch (op) {
    case Op::Lookup:
      return "lookup";
    case Op::Forget:
      return "forget";
    case Op::Getattr:
      return "getattr";
    case Op::Readlink:
      return "readlink";
    case Op::Open:
      return "open";
    case Op::Read:
      return "read";
    case Op::Flush:
      return "flush";
    case Op::Release:
      return "release";
    case Op::Fsync:
      return "fsync";
    case Op::Opendir:
      return "opendir";
    case Op::Readdir:
      return "readdir";
    case Op::Readdirplus:
      return "readdirplus";
    case Op::Releasedir:
      return "releasedir";
    case Op::Fsyncdir:
      return "fsyncdir";
    case Op::Statfs:
      return "statfs";
    case Op::Getxattr:
      return "getxattr";
    case Op::Listxattr:
      return "listxattr";
    case Op::Access:
      return "access";
    case Op::Lseek:
      return "lseek";
    case Op::Ioctl:
      return "ioctl";
    case Op::Refused:
      return "refused";
    case Op::NotifyStore:
      return "notify_store";
  }
  return "unknown";
}

}  // namespace shardfs

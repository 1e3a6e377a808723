#include "tests/support/slowstore_control.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <utility>

#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fs/base/unique_fd.h"

namespace slowstore {
namespace {

using nlohmann::json;
using shardfs::UniqueFd;

// -------------------------------------------------------------------------------- counters

json to_json(const Counts& counts) {
  return {{"opens", counts.opens},
          {"requests", counts.requests},
          {"bytes", counts.bytes},
          {"distinct_bytes", counts.distinct_bytes},
          {"again_bytes", counts.bytes - counts.distinct_bytes}};
}

json to_json(const Statistics& statistics, std::size_t stalled) {
  json told = to_json(statistics.all);
  told["in_flight"] = statistics.in_flight;
  told["max_in_flight"] = statistics.max_in_flight;
  told["stalled"] = stalled;
  told["failed"] = statistics.failed;
  told["shortened"] = statistics.shortened;
  told["flipped"] = statistics.flipped;
  told["sizes"] = json::object();
  for (std::size_t power = 0; power < statistics.sizes.size(); ++power) {
    const std::uint64_t count = statistics.sizes[power];
    if (count != 0) told["sizes"][std::to_string(std::uint64_t{1} << power)] = count;
  }
  told["files"] = json::object();
  for (const auto& [name, counts] : statistics.files) told["files"][name] = to_json(counts);
  return told;
}

// -------------------------------------------------------------------------------- commands

int to_errno(const json& value) {
  if (value.is_number_integer()) return value.get<int>();
  const auto wanted = value.get<std::string>();
  constexpr int kNumbers = 134;
  for (int number = 1; number < kNumbers; ++number) {
    const char* name = ::strerrorname_np(number);
    if (name != nullptr && wanted == name) return number;
  }
  throw std::invalid_argument("no such errno: " + wanted);
}

Fault to_fault(Fault::Kind kind, const json& command) {
  Fault fault{.kind = kind, .error = 0, .bytes = {}, .name = {}, .range = {}, .count = {}};
  if (kind == Fault::Kind::Fail) fault.error = to_errno(command.at("errno"));
  if (command.contains("bytes")) fault.bytes = command["bytes"].get<std::size_t>();
  if (command.contains("name")) fault.name = command["name"].get<std::string>();
  if (command.contains("count")) fault.count = command["count"].get<std::uint64_t>();
  fault.range.begin = command.value("offset", std::uint64_t{0});
  if (command.contains("length")) {
    fault.range.end = fault.range.begin + command["length"].get<std::uint64_t>();
  }
  return fault;
}

struct Target {
  Reads& reads;
  Counters& counters;
};

struct Command {
  std::set<std::string> keys;  ///< that it may have
  std::function<json(const json&, Target)> run;
};

Command fault_command(Fault::Kind kind, const std::string& own_key = "") {
  return {{"name", "offset", "length", "count", own_key}, [kind](const json& command, Target to) {
            to.reads.add(to_fault(kind, command));
            return json::object();
          }};
}

Command plain_command(std::set<std::string> keys, std::function<void(const json&, Target)> run) {
  return {std::move(keys), [run = std::move(run)](const json& command, Target to) {
            run(command, to);
            return json::object();
          }};
}

std::map<std::string, Command> make_commands() {
  return {
      {"stats",
       {{},
        [](const json&, Target to) { return to_json(to.counters.read(), to.reads.stalled()); }}},
      {"reset", plain_command({}, [](const json&, Target to) { to.counters.reset(); })},
      {"clear", plain_command({}, [](const json&, Target to) { to.reads.clear(); })},
      {"fail", fault_command(Fault::Kind::Fail, "errno")},
      {"stall", fault_command(Fault::Kind::Stall)},
      {"short", fault_command(Fault::Kind::Short, "bytes")},
      {"flip", fault_command(Fault::Kind::Flip)},
      {"release", plain_command({"errno"},
                                [](const json& command, Target to) {
                                  to.reads.release(to_errno(command.value("errno", json(0))));
                                })},
      {"latency", plain_command({"ms"},
                                [](const json& command, Target to) {
                                  const std::chrono::duration<double, std::milli> latency(
                                      command.at("ms").get<double>());
                                  to.reads.set_latency(latency);
                                })},
      {"bandwidth", plain_command({"bytes"},
                                  [](const json& command, Target to) {
                                    to.reads.set_bandwidth(command.at("bytes").get<double>());
                                  })},
  };
}

json run(const json& command, Target to) {
  static const std::map<std::string, Command> commands = make_commands();
  const auto found = commands.find(command.at("do").get<std::string>());
  if (found == commands.end()) throw std::invalid_argument("no such command");
  for (const auto& [key, value] : command.items()) {
    if (key != "do" && !found->second.keys.contains(key)) {
      throw std::invalid_argument("does not take " + key);
    }
  }
  return found->second.run(command, to);
}

// -------------------------------------------------------------------------------- the socket

bool send_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

void converse(UniqueFd connection, Target to) {
  const int fd = connection.get();
  std::FILE* input = ::fdopen(connection.release(), "r");
  char* line = nullptr;
  std::size_t room = 0;
  while (::getline(&line, &room, input) >= 0) {
    if (!send_all(fd, answer_command(line, to.reads, to.counters) + "\n")) break;
  }
  std::free(line);
  std::fclose(input);
}

void accept_all(const UniqueFd& listener, Target to) {
  for (;;) {
    UniqueFd connection(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection) continue;
    std::thread([connection = std::move(connection), to]() mutable {
      converse(std::move(connection), to);
    }).detach();
  }
}

}  // namespace

std::string answer_command(const std::string& line, Reads& reads, Counters& counters) {
  try {
    return run(json::parse(line), {reads, counters}).dump();
  } catch (const std::exception& problem) {
    return json{{"error", problem.what()}}.dump();
  }
}

shardfs::Result<void> serve_control(const std::string& path, Reads& reads, Counters& counters) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return shardfs::fail_errno(ENAMETOOLONG, path, "cannot listen");
  }
  std::ranges::copy(path, address.sun_path);
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener ||
      ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.get(), SOMAXCONN) != 0) {
    return shardfs::fail_errno(errno, path, "cannot listen");
  }
  std::thread([listener = std::move(listener), to = Target{reads, counters}] {
    accept_all(listener, to);
  }).detach();
  return {};
}

}  // namespace slowstore

#include "ringtrain/train/trace_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "ringtrain/checkpoint/agreement.h"
#include "ringtrain/checkpoint/file.h"
#include "ringtrain/comm/clock_offset.h"
#include "ringtrain/comm/packed_double.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 4> kStreams{"compute", "ring", "params", "beside"};

double seconds(StreamTrace::Clock::time_point time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

/// Collective: which ranks have another clock than rank 0.
std::vector<bool> on_other_hosts(World& world) {
  const std::vector<std::string> hosts = world.all_gather(world.host_name());
  std::vector<bool> others;
  for (const std::string& host : hosts) others.push_back(host != hosts[0]);
  return others;
}

Json metadata(const char* name, int rank, std::size_t stream, Json arguments) {
  return {{"name", name}, {"ph", "M"}, {"pid", rank}, {"tid", stream}, {"args", arguments}};
}

/// The events of this rank, each with a comma and a new line before it.
std::string events_of(int rank, const std::string& place, StreamTrace& trace, double start_s,
                      double error_s) {
  std::vector<Json> head{
      metadata("process_name", rank, 0, {{"name", fmt::format("rank {}, {}", rank, place)}}),
      metadata("process_sort_index", rank, 0, {{"sort_index", rank}}),
      metadata("process_labels", rank, 0,
               {{"labels", fmt::format("times within {:.1f} us", error_s * 1e6)}})};
  for (std::size_t stream = 0; stream < kStreams.size(); ++stream) {
    head.push_back(metadata("thread_name", rank, stream, {{"name", kStreams[stream]}}));
    head.push_back(metadata("thread_sort_index", rank, stream, {{"sort_index", stream}}));
  }
  std::string events;
  for (const Json& each : head) events += ",\n" + each.dump();
  // Whole nanoseconds, so that a region ends inside of the one around it also when read back.
  const auto nanoseconds = [&](double time_s) { return std::llround((start_s + time_s) * 1e9); };
  for (const StreamTrace::Timed& region : trace.regions()) {
    const auto begin = nanoseconds(region.begin_s);
    const auto duration = std::max(nanoseconds(region.end_s) - begin, 0LL);
    std::string arguments;
    if (!region.group.empty()) {
      arguments = fmt::format(R"("group":{},"bytes":{})", Json(region.group).dump(), region.bytes);
    }
    events += fmt::format(
        ",\n"
        R"({{"name":{},"cat":"{}","ph":"X","ts":{}.{:03},"dur":{}.{:03},"pid":{},"tid":{},"args":{{{}}}}})",
        Json(region.name).dump(), region.group.empty() ? "computation" : "communication",
        begin / 1000, begin % 1000, duration / 1000, duration % 1000, rank, region.stream,
        arguments);
  }
  return events;
}

/// A Chrome trace of the events of all ranks, without the comma before the first.
std::string document_of(const std::string& events) {
  return fmt::format("{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[{}\n]}}\n", events.substr(1));
}

}  // namespace

void check_trace_file(World& world, const fs::path& file) {
  agree(world, [&] {
    const fs::path directory = file.has_parent_path() ? file.parent_path() : fs::path(".");
    if (world.rank() == 0 && ::access(directory.c_str(), W_OK | X_OK) != 0) {
      throw IoError(
          fmt::format("trace {}: cannot write there: {}", file.string(), std::strerror(errno)));
    }
  });
}

void write_trace(World& world, const fs::path& file, StreamTrace& trace, const std::string& place) {
  const ClockOffset clock = find_clock_offset(world, on_other_hosts(world),
                                              [] { return seconds(StreamTrace::Clock::now()); });
  const double start = seconds(trace.started_at()) - clock.offset_s;
  double first = start;
  for (const std::string& each : world.all_gather(packed(start))) {
    first = std::min(first, unpacked(each));
  }
  const std::string own =
      events_of(world.rank(), place, trace, start - first, clock.error_s + trace.start_error_s());
  agree(world, [&] {
    if (world.rank() != 0) return world.send(own, 0);
    std::string events = own;
    for (int rank = 1; rank < world.size(); ++rank) events += world.receive(rank);
    replace_text(file, document_of(events));
  });
}

void write_trace(const fs::path& file, StreamTrace& trace, int rank, const std::string& place) {
  replace_text(file, document_of(events_of(rank, place, trace, 0, trace.start_error_s())));
}

}  // namespace ringtrain

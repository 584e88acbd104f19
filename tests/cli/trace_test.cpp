// --trace and --print_comm and the exposed communication of log lines, from outside the program.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/small_run.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

using Json = nlohmann::json;

struct Event {
  std::string name;
  long long begin, end;  // nanoseconds
};
using Streams = std::map<std::pair<int, std::string>, std::vector<Event>>;  // by rank and stream

/// Every event of a trace file by rank and stream, in the order of their beginning.
Streams read_trace(const std::filesystem::path& file) {
  const Json trace = Json::parse(std::ifstream(file));
  std::map<std::pair<int, int>, std::string> names;
  for (const Json& each : trace.at("traceEvents")) {
    if (each.at("ph") == "M" && each.at("name") == "thread_name") {
      names[{each.at("pid"), each.at("tid")}] = each.at("args").at("name");
    }
  }
  const auto nanoseconds = [](const Json& microseconds) {
    return std::llround(microseconds.get<double>() * 1000);
  };
  Streams streams;
  for (const Json& each : trace.at("traceEvents")) {
    const auto name = each.at("name").get<std::string>();
    const std::pair<int, int> thread{each.at("pid"), each.at("tid")};
    if (each.at("ph") == "M") continue;
    EXPECT_EQ(each.at("ph"), "X") << each;
    EXPECT_FALSE(name.empty());
    EXPECT_GE(each.at("ts").get<double>(), 0) << each;
    EXPECT_GE(each.at("dur").get<double>(), 0) << each;
    const bool is_communication = each.at("cat") == "communication";
    EXPECT_EQ(each.at("args").contains("group"), is_communication) << each;
    const long long begin = nanoseconds(each.at("ts"));
    streams[{thread.first, names.at(thread)}].push_back(
        {name, begin, begin + nanoseconds(each.at("dur"))});
  }
  return streams;
}

void expect_nested(const std::vector<Event>& events) {
  std::vector<Event> open;
  for (const Event& each : events) {
    while (!open.empty() && open.back().end <= each.begin) open.pop_back();
    if (!open.empty()) {
      EXPECT_GE(each.begin, open.back().begin) << each.name << " in " << open.back().name;
      EXPECT_LE(each.end, open.back().end) << each.name << " in " << open.back().name;
    }
    open.push_back(each);
  }
}

long count(const std::vector<Event>& events, const std::string& name) {
  return std::count_if(events.begin(), events.end(),
                       [&](const Event& each) { return each.name.starts_with(name); });
}

TEST(Trace, HasEveryStreamOfEveryRank) {
  constexpr int kRanks = 4;
  const TemporaryDirectory output;
  const auto file = output / "trace.json";
  const ProgramResult result = train_on_mesh(
      "1,1,1,4", small_run(output.path(), {"--llama.attention_type=ring_blockwise",
                                           "--trace=" + file.string(), "--trace_step=2"}));
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  Streams streams = read_trace(file);
  EXPECT_EQ(streams.size(), 4u * kRanks);
  constexpr long kLayers = 2;  // of the debug preset
  for (int rank = 0; rank < kRanks; ++rank) {
    SCOPED_TRACE("rank " + std::to_string(rank));
    const auto& compute = streams[{rank, "compute"}];
    const auto& ring = streams[{rank, "ring"}];
    const auto& params = streams[{rank, "params"}];
    const auto& beside = streams[{rank, "beside"}];
    for (const auto* stream : {&compute, &ring, &params, &beside}) expect_nested(*stream);
    EXPECT_EQ(count(compute, "forward layer "), kLayers);
    EXPECT_EQ(count(compute, "backward layer "), kLayers);
    EXPECT_EQ(count(compute, "feed-forward backward"), kLayers);
    // A message of gradients each.
    EXPECT_EQ(count(compute, "attention backward"), kLayers * kRanks);
    EXPECT_EQ(count(beside, "attention backward"), kLayers * kRanks);
    EXPECT_EQ(count(compute, "head"), 1);
    EXPECT_EQ(count(compute, "update"), 1);
    EXPECT_EQ(count(ring, "hop "), 2 * kLayers * (kRanks - 1));
    EXPECT_EQ(count(ring, "gradient hop "), kLayers * (2 * kRanks - 1));
    EXPECT_EQ(count(compute, "hop ") + count(params, "hop "), 0);
    EXPECT_EQ(count(params, "gather layer "), kLayers);
    EXPECT_EQ(count(params, "reduce layer "), kLayers);

    // One clock: nothing has arrived before it was sent.
    const auto& previous = streams[{(rank + kRanks - 1) % kRanks, "ring"}];
    ASSERT_EQ(previous.size(), ring.size());
    for (std::size_t i = 0; i < ring.size(); ++i) EXPECT_GE(ring[i].end, previous[i].begin) << i;
  }
}

TEST(Trace, OneRankHasNoCommunication) {
  const TemporaryDirectory output;
  const auto file = output / "trace.json";
  const ProgramResult result = train_on_mesh(
      "1,1,1,1", small_run(output.path(), {"--total_steps=4", "--trace=" + file.string()}));
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const Streams streams = read_trace(file);
  ASSERT_EQ(streams.size(), 1u);
  expect_nested(streams.begin()->second);
  EXPECT_EQ(result.output.find("exposed comm"), std::string::npos);
}

TEST(Trace, IsRefusedWhereItCannotBeWritten) {
  const TemporaryDirectory output;
  const ProgramResult late =
      train_on_mesh("1,1,1,1", small_run(output.path(), {"--trace=t.json", "--trace_step=10"}));
  EXPECT_EQ(late.exit_code, 2);
  EXPECT_NE(late.errors.find("trace_step 10 is never reached: total_steps is 10"),
            std::string::npos)
      << late.errors;
  const ProgramResult nowhere = train_on_mesh(
      "1,1,1,2", small_run(output.path(), {"--trace=" + (output / "no/trace.json").string()}));
  EXPECT_EQ(nowhere.exit_code, 3);
  EXPECT_NE(nowhere.errors.find("no/trace.json: cannot write there: No such file"),
            std::string::npos)
      << nowhere.errors;
}

TEST(ExposedCommunication, IsInEveryLogLine) {
  const TemporaryDirectory output;
  const ProgramResult result =
      train_on_mesh("1,2,2,1", small_run(output.path(), {"--total_steps=4", "--print_comm"}));
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const auto metrics = read_metrics(output / "metrics.jsonl");
  ASSERT_EQ(metrics.size(), 4u);
  for (const StepMetrics& line : metrics) {
    EXPECT_GT(line.at("exposed_comm"), 0);  // tp hides nothing
    EXPECT_LT(line.at("exposed_comm"), 1);
  }
  EXPECT_NE(result.output.find("  exposed comm "), std::string::npos) << result.output;
  EXPECT_NE(result.output.find("sent by rank 0, 1, 2, 3 in a step "), std::string::npos)
      << result.output;
  EXPECT_NE(result.output.find("  tp      all_reduce "), std::string::npos) << result.output;
}

}  // namespace
}  // namespace ringtrain

// ringtrain bench membound.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench_options.h"
#include "ringtrain/bench/membound_bench.h"

namespace ringtrain {
namespace {

struct Request {
  MemboundSizes sizes;
  std::optional<std::string> operation;
  BenchOptions options;
};

void add_options(ArgumentParser& parser, Request& request) {
  const std::string group = "Sizes";
  const auto size = [&](const std::string& name, const std::string& help,
                        std::int64_t MemboundSizes::*field) {
    parser.add_option(name, help, {group, "INT", std::to_string(request.sizes.*field)},
                      [&request, name, field](const std::string& text) {
                        request.sizes.*field = bench_integer(name, text);
                      });
  };
  size("tokens", "rows of activations", &MemboundSizes::tokens);
  size("hidden", "width of the residual stream", &MemboundSizes::hidden);
  size("heads", "query heads", &MemboundSizes::heads);
  size("kv_heads", "key/value heads; divides heads", &MemboundSizes::kv_heads);
  size("head_dim", "width of a head", &MemboundSizes::head_dim);
  size("vocabulary", "columns of logits, rows of the embedding", &MemboundSizes::vocabulary);
  size("parameters", "elements that an optimizer update works on", &MemboundSizes::parameters);
  parser.add_option("operation", "one of the table; unset: each", {group, "TEXT", ""},
                    [&](const std::string& text) { request.operation = text; });
  add_bench_options(parser, request.options);
}

void print(const Request& request, const MemboundResult& result, const MemboundResult& copy) {
  const double share = result.bytes_per_s() / copy.bytes_per_s();
  if (request.options.json) {
    const nlohmann::ordered_json row{{"operation", result.operation},
                                     {"bytes", result.bytes},
                                     {"median_ms", result.ms},
                                     {"gb_per_s", result.bytes_per_s() * 1e-9},
                                     {"share_of_copy", share}};
    fmt::print("{}\n", row.dump());
  } else {
    fmt::print("{:<22}{:>10.1f}{:>11.3f}{:>9.0f}{:>9.3f}\n", result.operation, result.bytes * 1e-6,
               result.ms, result.bytes_per_s() * 1e-9, share);
  }
  std::fflush(stdout);
}

void run_membound(const Request& request) {
  const BenchOptions& options = request.options;
  const BenchDevice on(options);
  const auto time = [&](std::string_view operation) {
    return time_membound(*on.device, *on.ops, on.compute, request.sizes, operation,
                         static_cast<int>(options.warmups), static_cast<int>(options.runs));
  };
  const std::vector<std::string_view> operations = membound_operations();
  const MemboundResult copy = time(operations.front());
  if (!options.json) {
    fmt::print("{}, {}\nmedian of {} calls after {}; bytes that must move, each tensor once\n",
               on.device->name(), options.dtype, options.runs, options.warmups);
    fmt::print("{:<22}{:>10}{:>11}{:>9}{:>9}\n", "operation", "MB", "ms", "GB/s", "of copy");
  }
  print(request, copy, copy);
  if (request.operation) {
    print(request, time(*request.operation), copy);
    return;
  }
  for (std::size_t i = 1; i < operations.size(); ++i) print(request, time(operations[i]), copy);
}

}  // namespace

void bench_membound(const std::vector<std::string>& arguments) {
  Request request;
  ArgumentParser parser(
      "ringtrain bench membound",
      "Times the operations of a step that memory bounds, beside a copy on the device.");
  add_options(parser, request);
  if (!parser.parse(arguments)) {
    fmt::print("{}", parser.help());
    return;
  }
  run_membound(request);
}

}  // namespace ringtrain

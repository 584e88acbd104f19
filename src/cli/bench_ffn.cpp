// ringtrain bench ffn.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "bench_options.h"
#include "ringtrain/bench/ffn_bench.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

struct Request {
  std::optional<FfnBenchCase> single;
  std::optional<FfnPass> direction;
  std::optional<std::string> shapes;
  BenchOptions options;
};

void add_options(ArgumentParser& parser, Request& request) {
  const std::string shape = "Shape (none: a standard table)";
  const auto size = [&](const std::string& name, const std::string& help,
                        std::int64_t FfnBenchCase::*field, std::int64_t least) {
    const FfnBenchCase defaults;
    parser.add_option(name, help, {shape, "INT", std::to_string(defaults.*field)},
                      [&request, name, field, least](const std::string& text) {
                        if (!request.single) request.single.emplace();
                        (*request.single).*field = bench_integer(name, text, least);
                      });
  };
  size("tokens", "rows of x", &FfnBenchCase::tokens, 1);
  size("hidden", "width of x", &FfnBenchCase::hidden, 1);
  size("ffn", "width of gate and of up", &FfnBenchCase::ffn, 1);
  size("chunk", "tokens at a time; 0: all", &FfnBenchCase::chunk, 0);
  parser.add_option("direction", fmt::format("{}; unset: each", fmt::join(ffn_pass_names(), ", ")),
                    {shape, "TEXT", ""},
                    [&](const std::string& text) { request.direction = parse_ffn_pass(text); });
  parser.add_option("shapes",
                    "file with a case a line: tokens hidden ffn chunk direction; - for standard "
                    "input, answered line by line",
                    {shape, "FILE", ""}, [&](const std::string& text) { request.shapes = text; });
  add_bench_options(parser, request.options);
}

FfnBenchCase parse_case(const std::string& line) {
  std::istringstream words(line);
  FfnBenchCase what;
  std::string direction;
  std::string rest;
  words >> what.tokens >> what.hidden >> what.ffn >> what.chunk >> direction;
  if (words.fail() || words >> rest) {
    throw InvalidArgument(
        fmt::format("a case is \"tokens hidden ffn chunk direction\", got \"{}\"", line));
  }
  what.pass = parse_ffn_pass(direction);
  return what;
}

void print_header(const BenchOptions& options, const BenchDevice& on) {
  fmt::print(
      "{}\n{}\nmedian of {} calls after {}; TFLOP/s does not count what is repeated\n"
      "{:>8}{:>8}{:>8}{:>8} {:<20}{:>10}{:>9}{:>9}\n",
      on.device->name(), on.ops->description(), options.runs, options.warmups, "tokens", "hidden",
      "ffn", "chunk", "direction", "ms", "TFLOP/s", "of peak");
}

void time_and_print(const BenchOptions& options, const BenchDevice& on, const FfnBenchCase& what) {
  const double ms = time_ffn(*on.device, *on.ops, on.compute, what,
                             static_cast<int>(options.warmups), static_cast<int>(options.runs));
  const double tflops = what.flops() / ms * 1e-9;
  const double peak = on.device->peak_flops();
  const double share = peak > 0 ? tflops * 1e12 / peak : 0;
  if (options.json) {
    const nlohmann::ordered_json row{
        {"tokens", what.tokens}, {"hidden", what.hidden},           {"ffn", what.ffn},
        {"chunk", what.chunk},   {"direction", name_of(what.pass)}, {"median_ms", ms},
        {"tflops", tflops},      {"share_of_peak", share}};
    fmt::print("{}\n", row.dump());
  } else {
    fmt::print("{:>8}{:>8}{:>8}{:>8} {:<20}{:>10.3f}{:>9.1f}{:>9}\n", what.tokens, what.hidden,
               what.ffn, what.chunk, name_of(what.pass), ms, tflops,
               share > 0 ? fmt::format("{:.1f}%", 100 * share) : "");
  }
  std::fflush(stdout);  // a reader may be waiting for this line
}

std::vector<FfnBenchCase> requested_cases(const Request& request) {
  std::vector<FfnBenchCase> cases = standard_ffn_cases();
  if (request.single) {
    cases.clear();
    for (const std::string_view name : ffn_pass_names()) {
      cases.push_back(*request.single);
      cases.back().pass = parse_ffn_pass(name);
    }
  }
  if (request.direction) {
    std::erase_if(cases, [&](const FfnBenchCase& c) { return c.pass != *request.direction; });
  }
  return cases;
}

void run_ffn(const Request& request) {
  if (request.shapes && (request.single || request.direction)) {
    throw InvalidArgument("--shapes says all of a case; leave the other shape options out");
  }
  const BenchDevice on(request.options);
  if (!on.has_gpu() && !request.shapes && !request.single) {
    throw InvalidArgument("the standard table is for a GPU; name a shape, such as --tokens=256");
  }
  if (!request.options.json) print_header(request.options, on);
  if (request.shapes) {
    return for_each_case(*request.shapes, [&](const std::string& line) {
      time_and_print(request.options, on, parse_case(line));
    });
  }
  for (const FfnBenchCase& what : requested_cases(request)) {
    time_and_print(request.options, on, what);
  }
}

}  // namespace

void bench_ffn(const std::vector<std::string>& arguments) {
  Request request;
  ArgumentParser parser("ringtrain bench ffn",
                        "Times a SwiGLU feed-forward block, forward and backward, alone on one "
                        "device.");
  add_options(parser, request);
  if (!parser.parse(arguments)) {
    fmt::print("{}", parser.help());
    return;
  }
  run_ffn(request);
}

}  // namespace ringtrain

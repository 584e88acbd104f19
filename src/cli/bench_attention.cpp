// ringtrain bench attention.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "bench_options.h"
#include "ringtrain/bench/attention_bench.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

struct Request {
  std::optional<AttentionBenchCase> single;
  std::optional<std::string> direction;
  std::optional<std::string> shapes;
  BenchOptions options;
};

void add_options(ArgumentParser& parser, Request& request) {
  const std::string shape = "Shape (none: a standard table)";
  const auto size = [&](const std::string& name, const std::string& help,
                        std::int64_t AttentionBenchCase::*field) {
    const AttentionBenchCase defaults;
    parser.add_option(name, help, {shape, "INT", std::to_string(defaults.*field)},
                      [&request, name, field](const std::string& text) {
                        if (!request.single) request.single.emplace();
                        (*request.single).*field = bench_integer(name, text);
                      });
  };
  size("head_dim", "width of a head", &AttentionBenchCase::head_dim);
  size("heads", "query heads", &AttentionBenchCase::heads);
  size("kv_heads", "key/value heads; divides heads", &AttentionBenchCase::kv_heads);
  size("seq_length", "tokens", &AttentionBenchCase::seq_length);
  size("batch", "sequences", &AttentionBenchCase::batch);
  parser.add_flag("causal", "causal mask, or none", {shape, "BOOL", "True"}, [&](bool value) {
    if (!request.single) request.single.emplace();
    request.single->causal = value;
  });
  parser.add_option("direction", "forward, backward or backward_step; unset: each",
                    {shape, "TEXT", ""}, [&](const std::string& text) {
                      parse_attention_pass(text);
                      request.direction = text;
                    });
  parser.add_option(
      "shapes",
      "file with a case a line: head_dim heads kv_heads seq_length batch causal (1 or "
      "0) direction; - for standard input, answered line by line",
      {shape, "FILE", ""}, [&](const std::string& text) { request.shapes = text; });
  add_bench_options(parser, request.options);
}

/// One device for the whole run.
class Bench {
 public:
  explicit Bench(const BenchOptions& options) : options_(options), on_(options) {}

  bool has_gpu() const { return on_.has_gpu(); }

  void run(const AttentionBenchCase& what) {
    const double ms =
        time_attention(*on_.device, *on_.ops, on_.compute, what, static_cast<int>(options_.warmups),
                       static_cast<int>(options_.runs));
    const double tflops = what.flops() / ms * 1e-9;
    const double share =
        on_.device->peak_flops() > 0 ? tflops * 1e12 / on_.device->peak_flops() : 0;
    if (options_.json) {
      const nlohmann::ordered_json row{
          {"head_dim", what.head_dim},       {"heads", what.heads}, {"kv_heads", what.kv_heads},
          {"seq_length", what.seq_length},   {"batch", what.batch}, {"causal", what.causal},
          {"direction", name_of(what.pass)}, {"median_ms", ms},     {"tflops", tflops},
          {"share_of_peak", share}};
      fmt::print("{}\n", row.dump());
    } else {
      if (!has_header_) print_header();
      fmt::print("{:>8} {:>5} {:>8} {:>10} {:>5} {:>6} {:>13} {:>10.3f} {:>7.1f} {:>8}\n",
                 what.head_dim, what.heads, what.kv_heads, what.seq_length, what.batch,
                 what.causal ? "yes" : "no", name_of(what.pass), ms, tflops,
                 share > 0 ? fmt::format("{:.1f}%", 100 * share) : "");
    }
    std::fflush(stdout);  // a reader may be waiting for this line
  }

 private:
  void print_header() {
    has_header_ = true;
    fmt::print(
        "{}\n{}\nmedian of {} calls after {}; TFLOP/s counts half under a causal mask\n"
        "{:>8} {:>5} {:>8} {:>10} {:>5} {:>6} {:>13} {:>10} {:>7} {:>8}\n",
        on_.device->name(), on_.ops->description(), options_.runs, options_.warmups, "head_dim",
        "heads", "kv_heads", "seq_length", "batch", "causal", "direction", "ms", "TFLOP/s",
        "of peak");
  }

  const BenchOptions& options_;
  BenchDevice on_;
  bool has_header_ = false;
};

AttentionBenchCase parse_case(const std::string& line) {
  std::istringstream words(line);
  AttentionBenchCase what;
  std::string direction;
  std::string rest;
  words >> what.head_dim >> what.heads >> what.kv_heads >> what.seq_length >> what.batch >>
      what.causal >> direction;
  if (words.fail() || words >> rest) {
    throw InvalidArgument(fmt::format(
        "a case is \"head_dim heads kv_heads seq_length batch causal direction\", got \"{}\"",
        line));
  }
  what.pass = parse_attention_pass(direction);
  return what;
}

void run_attention(const Request& request) {
  if (request.shapes && (request.single || request.direction)) {
    throw InvalidArgument("--shapes says all of a case; leave the other shape options out");
  }
  Bench bench(request.options);
  if (!bench.has_gpu() && !request.shapes && !request.single) {
    throw InvalidArgument(
        "the standard table is for a GPU; name a shape, such as --seq_length=256");
  }
  if (request.shapes) {
    return for_each_case(*request.shapes,
                         [&](const std::string& line) { bench.run(parse_case(line)); });
  }
  std::vector<AttentionBenchCase> cases = standard_attention_cases();
  if (request.single) {
    cases.assign(3, *request.single);
    cases[1].pass = AttentionPass::kBackward;
    cases[2].pass = AttentionPass::kBackwardStep;
  }
  for (const AttentionBenchCase& what : cases) {
    if (!request.direction || name_of(what.pass) == *request.direction) bench.run(what);
  }
}

}  // namespace

void bench_attention(const std::vector<std::string>& arguments) {
  Request request;
  ArgumentParser parser("ringtrain bench attention",
                        "Times attention, forward and backward, alone on one device.");
  add_options(parser, request);
  if (!parser.parse(arguments)) {
    fmt::print("{}", parser.help());
    return;
  }
  run_attention(request);
}

}  // namespace ringtrain

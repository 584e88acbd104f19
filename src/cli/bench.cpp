// ringtrain bench: timings of parts of a step, alone on one device.
#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "ringtrain/bench/attention_bench.h"
#include "ringtrain/cli/argument_parser.h"
#include "ringtrain/core/error.h"
#include "subcommands.h"

namespace ringtrain {
namespace {

struct Request {
  std::optional<AttentionBenchCase> single;
  std::optional<std::string> direction;
  std::optional<std::string> shapes;
  std::string device = "auto";
  std::string dtype = "bf16";
  std::int64_t warmups = 100;
  std::int64_t runs = 300;
  bool deterministic = false;
  bool json = false;
};

std::int64_t positive(const std::string& option, const std::string& text, std::int64_t least = 1) {
  std::int64_t value = 0;
  const auto* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end || value < least || value > INT32_MAX) {
    throw InvalidArgument(
        fmt::format("--{} takes an integer of at least {}, got \"{}\"", option, least, text));
  }
  return value;
}

void add_options(ArgumentParser& parser, Request& request) {
  const std::string shape = "Shape (none: a standard table)";
  const auto size = [&](const std::string& name, const std::string& help,
                        std::int64_t AttentionBenchCase::*field) {
    const AttentionBenchCase defaults;
    parser.add_option(name, help, {shape, "INT", std::to_string(defaults.*field)},
                      [&request, name, field](const std::string& text) {
                        if (!request.single) request.single.emplace();
                        (*request.single).*field = positive(name, text);
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
  const std::string how = "Measurement";
  parser.add_option("device", "auto, cuda or cpu", {how, "TEXT", request.device},
                    [&](const std::string& text) { request.device = text; });
  parser.add_option("dtype", "bf16 or fp32", {how, "TEXT", request.dtype},
                    [&](const std::string& text) { request.dtype = text; });
  parser.add_flag("deterministic", "as of ringtrain train", {how, "BOOL", "False"},
                  [&](bool value) { request.deterministic = value; });
  parser.add_option(
      "warmups", "calls before the timed ones", {how, "INT", "100"},
      [&](const std::string& text) { request.warmups = positive("warmups", text, 0); });
  parser.add_option("runs", "timed calls; the median counts", {how, "INT", "300"},
                    [&](const std::string& text) { request.runs = positive("runs", text); });
  parser.add_flag("json", "one JSON object a line", {how, "BOOL", "False"},
                  [&](bool value) { request.json = value; });
}

/// One device for the whole run.
class Bench {
 public:
  explicit Bench(const Request& request)
      : request_(request),
        device_(uses_gpu(request.device) ? make_cuda_device(0) : make_cpu_device()),
        ops_(device_->type() == DeviceType::kCuda
                 ? make_cuda_backend(*device_, request.deterministic)
                 : make_cpu_backend()),
        compute_(dtype_from_name(request.dtype)) {}

  bool has_gpu() const { return device_->type() == DeviceType::kCuda; }

  void run(const AttentionBenchCase& what) {
    const double ms =
        time_attention(*device_, *ops_, compute_, what, static_cast<int>(request_.warmups),
                       static_cast<int>(request_.runs));
    const double tflops = what.flops() / ms * 1e-9;
    const double share = device_->peak_flops() > 0 ? tflops * 1e12 / device_->peak_flops() : 0;
    if (request_.json) {
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
  static bool uses_gpu(const std::string& device) {
    if (device != "auto" && device != "cuda" && device != "cpu") {
      throw InvalidArgument(
          fmt::format("--device={} is unknown; expected auto, cuda or cpu", device));
    }
    return device == "cuda" || (device == "auto" && cuda_device_count() > 0);
  }

  void print_header() {
    has_header_ = true;
    fmt::print(
        "{}\n{}\nmedian of {} calls after {}; TFLOP/s counts half under a causal mask\n"
        "{:>8} {:>5} {:>8} {:>10} {:>5} {:>6} {:>13} {:>10} {:>7} {:>8}\n",
        device_->name(), ops_->description(), request_.runs, request_.warmups, "head_dim", "heads",
        "kv_heads", "seq_length", "batch", "causal", "direction", "ms", "TFLOP/s", "of peak");
  }

  const Request& request_;
  bool has_header_ = false;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Backend> ops_;
  DType compute_;
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

void run_lines(Bench& bench, std::istream& lines) {
  for (std::string line; std::getline(lines, line);) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) bench.run(parse_case(line));
  }
}

void run_attention(const Request& request) {
  if (request.shapes && (request.single || request.direction)) {
    throw InvalidArgument("--shapes says all of a case; leave the other shape options out");
  }
  std::ifstream file;
  if (request.shapes && *request.shapes != "-") {
    file.open(*request.shapes);
    if (!file) throw IoError(fmt::format("cannot read {}", *request.shapes));
  }
  Bench bench(request);
  if (!bench.has_gpu() && !request.shapes && !request.single) {
    throw InvalidArgument(
        "the standard table is for a GPU; name a shape, such as --seq_length=256");
  }
  if (request.shapes) return run_lines(bench, file.is_open() ? file : std::cin);
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

int bench_command(const Invocation& invocation) {
  std::vector<std::string> arguments = invocation.arguments;
  const bool asks_for_help =
      !arguments.empty() && (arguments.front() == "--help" || arguments.front() == "-h");
  if (arguments.empty() || (arguments.front() != "attention" && !asks_for_help)) {
    throw InvalidArgument("`ringtrain bench` times one of: attention");
  }
  if (!asks_for_help) arguments.erase(arguments.begin());
  Request request;
  ArgumentParser parser("ringtrain bench attention",
                        "Times attention, forward and backward, alone on one device.");
  add_options(parser, request);
  if (!parser.parse(arguments)) {
    fmt::print("{}", parser.help());
    return 0;
  }
  run_attention(request);
  return 0;
}

}  // namespace ringtrain

// ringtrain bench ring.
#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "bench_options.h"
#include "ringtrain/bench/ring_bench.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

constexpr double kGiga = 1e9;
constexpr double kMicro = 1e-6;
constexpr double kMilli = 1e-3;

struct Request {
  RingBenchCase what;
  bool check = false;
  BenchOptions options;
};

double number(const std::string& option, const std::string& text) {
  double value = 0;
  const auto* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end) {
    throw InvalidArgument(fmt::format("--{} takes a number, got \"{}\"", option, text));
  }
  return value;
}

void add_shape_options(ArgumentParser& parser, RingBenchCase& what) {
  const std::string shape = "Shape";
  const auto size = [&](const std::string& name, const std::string& help, auto& field,
                        std::int64_t least = 1) {
    parser.add_option(name, help, {shape, "INT", std::to_string(field)},
                      [&field, name, least](const std::string& text) {
                        using Field = std::remove_reference_t<decltype(field)>;
                        field = static_cast<Field>(bench_integer(name, text, least));
                      });
  };
  size("sp", "ranks of the ring", what.num_ranks);
  size("rank", "which of them is timed", what.rank, 0);
  size("seq_length", "tokens of a rank", what.seq_length);
  size("batch", "sequences", what.batch);
  size("heads", "query heads", what.heads);
  size("kv_heads", "key/value heads; divides heads", what.kv_heads);
  size("head_dim", "width of a head", what.head_dim);
  parser.add_option("sp_layout", "zigzag, striped or contiguous",
                    {shape, "TEXT", std::string(name_of(what.layout))},
                    [&](const std::string& text) { what.layout = SequenceLayout::parse(text); });
}

void add_link_options(ArgumentParser& parser, RingBenchCase& what) {
  const std::string group = "Link";
  parser.add_option(
      "link_gbps", "GB/s, one direction",
      {group, "NUMBER", fmt::format("{:g}", what.link.bytes_per_s / kGiga)},
      [&](const std::string& text) { what.link.bytes_per_s = kGiga * number("link_gbps", text); });
  parser.add_option(
      "link_us", "latency of a message in microseconds",
      {group, "NUMBER", fmt::format("{:g}", what.link.latency_s / kMicro)},
      [&](const std::string& text) { what.link.latency_s = kMicro * number("link_us", text); });
  parser.add_option("ring_transport",
                    "copy: the driver's copies carry messages; sm: a kernel on --ring_sms SMs",
                    {group, "TEXT", "copy"}, [&](const std::string& text) {
                      if (text != "copy" && text != "sm") {
                        throw InvalidArgument(fmt::format(
                            "--ring_transport={} is unknown; expected copy or sm", text));
                      }
                      what.link.transport = text == "copy" ? LinkTransport::kDeviceCopies
                                                           : LinkTransport::kProcessors;
                    });
  parser.add_option("ring_sms", "SMs that sm sets aside for messages",
                    {group, "INT", std::to_string(what.link.processors)},
                    [&](const std::string& text) {
                      what.link.processors = static_cast<int>(bench_integer("ring_sms", text, 1));
                    });
  parser.add_option("ring_gradient_dtype", "as of ringtrain train: fp32 or bf16",
                    {group, "TEXT", "fp32"}, [&](const std::string& text) {
                      if (text != "fp32" && text != "bf16") {
                        throw InvalidArgument(fmt::format(
                            "--ring_gradient_dtype={} is unknown; expected fp32 or bf16", text));
                      }
                      what.gradient_dtype = dtype_from_name(text);
                    });
}

struct Row {
  const char* direction;
  RingPass pass;
  const HiddenHop* hop;  // null for both directions together and where steps are uneven
};

nlohmann::ordered_json setting_json(const Request& request, const BenchDevice& on) {
  const RingBenchCase& what = request.what;
  return {
      {"device", on.device->name()},
      {"dtype", request.options.dtype},
      {"sp", what.num_ranks},
      {"rank", what.rank},
      {"seq_length", what.seq_length},
      {"batch", what.batch},
      {"heads", what.heads},
      {"kv_heads", what.kv_heads},
      {"head_dim", what.head_dim},
      {"sp_layout", name_of(what.layout)},
      {"link_gbps", what.link.bytes_per_s / kGiga},
      {"link_us", what.link.latency_s / kMicro},
      {"ring_transport", what.link.transport == LinkTransport::kDeviceCopies ? "copy" : "sm"},
      {"ring_sms", what.link.transport == LinkTransport::kProcessors ? what.link.processors : 0},
      {"ring_gradient_dtype", name_of(what.gradient_dtype)}};
}

nlohmann::ordered_json to_json(const Request& request, const BenchDevice& on, const Row& row) {
  nlohmann::ordered_json json = setting_json(request, on);
  json.update(nlohmann::ordered_json{{"direction", row.direction},
                                     {"ring_ms", row.pass.ring_s / kMilli},
                                     {"compute_ms", row.pass.compute_s / kMilli},
                                     {"whole_ms", row.pass.whole_s / kMilli},
                                     {"exposed_share", row.pass.exposed_share()},
                                     {"ratio", row.pass.ratio()}});
  if (row.hop != nullptr) {
    json.update(nlohmann::ordered_json{{"tflops", row.hop->flops_per_s * 1e-12},
                                       {"hop_bytes", row.hop->bytes},
                                       {"hop_ms", row.hop->hop_s / kMilli},
                                       {"step_ms", row.hop->step_s / kMilli},
                                       {"hidden_from", row.hop->least_tokens},
                                       {"paper_hidden_from", row.hop->paper_tokens}});
  }
  return json;
}

/// By what messages travel, where there is a choice.
std::string carrier_of(const LinkModel& link, const Device& device) {
  if (device.type() != DeviceType::kCuda) return {};
  return link.transport == LinkTransport::kDeviceCopies
             ? " by the driver's copies"
             : fmt::format(" by {} SMs set aside", link.processors);
}

void print_setting(const Request& request, const BenchDevice& on) {
  const RingBenchCase& what = request.what;
  fmt::print(
      "{}\n{}\n"
      "ring of {}, {}: {} tokens a rank, batch {}, {} heads, {} key/value heads, head_dim {}, {}\n"
      "link {:g} GB/s and {:g} us{}, gradients travel in {}\n",
      on.device->name(), on.ops->description(), what.num_ranks, name_of(what.layout),
      what.seq_length, what.batch, what.heads, what.kv_heads, what.head_dim, request.options.dtype,
      what.link.bytes_per_s / kGiga, what.link.latency_s / kMicro,
      carrier_of(what.link, *on.device), name_of(what.gradient_dtype));
}

void print_header(const Request& request, const BenchDevice& on) {
  print_setting(request, on);
  fmt::print("rank {}, median of {} rounds after {}\n", request.what.rank, request.options.runs,
             request.options.warmups);
  fmt::print("{:<9} {:>9} {:>11} {:>8} {:>12} {:>6} {:>8} {:>8} {:>8} {:>12} {:>9}\n", "direction",
             "ring ms", "compute ms", "exposed", fmt::format("1 rank / {}", request.what.num_ranks),
             "ratio", "TFLOP/s", "step ms", "hop ms", "hidden from", "c >= F/B");
}

void print_row(const Row& row) {
  fmt::print("{:<9} {:>9.3f} {:>11.3f} {:>7.1f}% {:>12.3f} {:>6.3f}", row.direction,
             row.pass.ring_s / kMilli, row.pass.compute_s / kMilli, 100 * row.pass.exposed_share(),
             row.pass.whole_s / kMilli, row.pass.ratio());
  if (row.hop != nullptr) {
    fmt::print(" {:>8.1f} {:>8.3f} {:>8.3f} {:>12} {:>9}", row.hop->flops_per_s * 1e-12,
               row.hop->step_s / kMilli, row.hop->hop_s / kMilli, row.hop->least_tokens,
               row.hop->paper_tokens);
  }
  fmt::print("\n");
}

void time(const Request& request, BenchDevice& on) {
  const RingBenchResult result =
      time_ring(*on.device, *on.ops, on.compute, request.what,
                static_cast<int>(request.options.warmups), static_cast<int>(request.options.runs));
  if (!request.options.json) print_header(request, on);
  const bool is_even = request.what.layout != LayoutKind::kContiguous;
  for (const Row& row : {Row{"forward", result.forward, is_even ? &result.forward_hop : nullptr},
                         Row{"backward", result.backward, is_even ? &result.backward_hop : nullptr},
                         Row{"both", result.both(), nullptr}}) {
    if (request.options.json) {
      fmt::print("{}\n", to_json(request, on, row).dump());
    } else {
      print_row(row);
    }
  }
}

/// Errors: exit code 1 where the ring is more wrong than it may be.
void check(const Request& request, BenchDevice& on) {
  const RingCheck found = check_ring(*on.device, *on.ops, on.compute, request.what);
  if (!request.options.json) {
    print_setting(request, on);
    fmt::print("relative L2 error against unsplit attention in fp32\n{:<17} {:>10} {:>10} {:>10}\n",
               "", "ring", "unsplit", "tolerance");
  }
  const auto row = [&](const char* name, double AttentionErrors::*error) {
    const double ring = found.ring.*error;
    const double unsplit = found.unsplit.*error;
    const double tolerance = found.tolerance.*error;
    if (request.options.json) {
      nlohmann::ordered_json json = setting_json(request, on);
      json.update(nlohmann::ordered_json{
          {"quantity", name}, {"ring", ring}, {"unsplit", unsplit}, {"tolerance", tolerance}});
      fmt::print("{}\n", json.dump());
    } else {
      fmt::print("{:<17} {:>10.2e} {:>10.2e} {:>10.2e}\n", name, ring, unsplit, tolerance);
    }
  };
  row("out", &AttentionErrors::out);
  row("dquery", &AttentionErrors::dquery);
  row("dkey and dvalue", &AttentionErrors::dkey_value);
  if (!found.passes()) {
    throw Error(ExitCode::kCheckFailed, "the ring is wrong by more than the tolerance");
  }
}

}  // namespace

void bench_ring(const std::vector<std::string>& arguments) {
  Request request;
  request.options.warmups = 3;
  request.options.runs = 10;
  ArgumentParser parser(
      "ringtrain bench ring",
      "Times ring attention of one rank against an emulated link, on one device.");
  add_shape_options(parser, request.what);
  add_link_options(parser, request.what);
  parser.add_flag("check", "compare the results of all ranks with unsplit attention instead",
                  {"Measurement", "BOOL", "False"}, [&](bool value) { request.check = value; });
  parser.add_option("trace", "file for a Chrome trace of one forward and backward pass",
                    {"Measurement", "FILE", ""},
                    [&](const std::string& text) { request.what.trace = text; });
  add_bench_options(parser, request.options);
  if (!parser.parse(arguments)) {
    fmt::print("{}", parser.help());
    return;
  }
  BenchDevice on(request.options);
  if (request.check) return check(request, on);
  time(request, on);
}

}  // namespace ringtrain

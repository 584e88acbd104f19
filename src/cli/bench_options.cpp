#include "bench_options.h"

#include <fmt/format.h>

#include <charconv>
#include <fstream>
#include <iostream>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

bool uses_gpu(const std::string& device) {
  if (device != "auto" && device != "cuda" && device != "cpu") {
    throw InvalidArgument(
        fmt::format("--device={} is unknown; expected auto, cuda or cpu", device));
  }
  return device == "cuda" || (device == "auto" && cuda_device_count() > 0);
}

}  // namespace

std::int64_t bench_integer(const std::string& option, const std::string& text, std::int64_t least) {
  std::int64_t value = 0;
  const auto* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end || value < least || value > INT32_MAX) {
    throw InvalidArgument(
        fmt::format("--{} takes an integer of at least {}, got \"{}\"", option, least, text));
  }
  return value;
}

void add_bench_options(ArgumentParser& parser, BenchOptions& options) {
  const std::string group = "Measurement";
  parser.add_option("device", "auto, cuda or cpu", {group, "TEXT", options.device},
                    [&](const std::string& text) { options.device = text; });
  parser.add_option("dtype", "bf16 or fp32", {group, "TEXT", options.dtype},
                    [&](const std::string& text) { options.dtype = text; });
  parser.add_flag("deterministic", "as of ringtrain train", {group, "BOOL", "False"},
                  [&](bool value) { options.deterministic = value; });
  parser.add_option(
      "warmups", "calls before the timed ones", {group, "INT", std::to_string(options.warmups)},
      [&](const std::string& text) { options.warmups = bench_integer("warmups", text, 0); });
  parser.add_option("runs", "timed calls; the median counts",
                    {group, "INT", std::to_string(options.runs)},
                    [&](const std::string& text) { options.runs = bench_integer("runs", text); });
  parser.add_flag("json", "one JSON object a line", {group, "BOOL", "False"},
                  [&](bool value) { options.json = value; });
}

void for_each_case(const std::string& file, const std::function<void(const std::string&)>& body) {
  std::ifstream opened;
  if (file != "-") {
    opened.open(file);
    if (!opened) throw IoError(fmt::format("cannot read {}", file));
  }
  std::istream& lines = file == "-" ? std::cin : opened;
  for (std::string line; std::getline(lines, line);) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) body(line);
  }
}

BenchDevice::BenchDevice(const BenchOptions& options)
    : device(uses_gpu(options.device) ? make_cuda_device(0) : make_cpu_device()),
      ops(device->type() == DeviceType::kCuda ? make_cuda_backend(*device, options.deterministic)
                                              : make_cpu_backend()),
      compute(dtype_from_name(options.dtype)) {}

}  // namespace ringtrain

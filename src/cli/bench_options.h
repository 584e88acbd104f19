#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "ringtrain/cli/argument_parser.h"
#include "ringtrain/cli/commands.h"
#include "ringtrain/core/device.h"
#include "ringtrain/core/dtype.h"
#include "ringtrain/ops/backend.h"

namespace ringtrain {

/// How a part of a step is timed; the same options for every `ringtrain bench`.
struct BenchOptions {
  std::string device = "auto";
  std::string dtype = "bf16";
  std::int64_t warmups = 100;
  std::int64_t runs = 300;
  bool deterministic = false;
  bool json = false;
};

void add_bench_options(ArgumentParser& parser, BenchOptions& options);

/// `text` as an integer. Errors: InvalidArgument naming `option` below `least` or beyond 2^31 - 1.
std::int64_t bench_integer(const std::string& option, const std::string& text,
                           std::int64_t least = 1);

/// Calls body(line) for the lines of `file` that are not blank, each when it is there: "-" is
/// standard input, from which a partner may ask case by case. Errors: IoError.
void for_each_case(const std::string& file, const std::function<void(const std::string&)>& body);

/// The one device that a bench runs on.
struct BenchDevice {
  /// Errors: InvalidArgument for an unknown device or dtype.
  explicit BenchDevice(const BenchOptions& options);

  bool has_gpu() const { return device->type() == DeviceType::kCuda; }

  std::unique_ptr<Device> device;
  std::unique_ptr<Backend> ops;
  DType compute;
};

/// One table each: `ringtrain bench attention`, ... without these two words.
void bench_attention(const std::vector<std::string>& arguments);
void bench_ffn(const std::vector<std::string>& arguments);
void bench_membound(const std::vector<std::string>& arguments);
void bench_ring(const std::vector<std::string>& arguments);
/// These take all of train's options and run on as many ranks as there are: training steps, their
/// layers, their attention.
int bench_step(const Invocation& invocation);
int bench_layer(const Invocation& invocation);
int bench_sp(const Invocation& invocation);

}  // namespace ringtrain

// ringtrain bench: timings of parts of a step.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "bench_options.h"
#include "ringtrain/core/error.h"
#include "subcommands.h"

namespace ringtrain {
namespace {

struct Part {
  std::string_view name;
  std::string_view summary;
  int (*run)(const Invocation& invocation);  // of the part: without its name
};

/// A part that runs alone on one device, without MPI.
template <void (*bench)(const std::vector<std::string>& arguments)>
int run_alone(const Invocation& invocation) {
  bench(invocation.arguments);
  return 0;
}

constexpr std::array kParts{
    Part{"attention", "attention, forward and backward", run_alone<bench_attention>},
    Part{"ffn", "a SwiGLU feed-forward block, forward and backward", run_alone<bench_ffn>},
    Part{"membound", "the operations that memory bounds, beside a copy", run_alone<bench_membound>},
    Part{"step", "training steps on random tokens, by phase", bench_step},
    Part{"layer", "the layers of such steps, by part", bench_layer},
    Part{"ring", "ring attention of one rank against an emulated link", run_alone<bench_ring>},
    Part{"sp", "attention over the sp axis, on all ranks, beside one kernel", bench_sp},
};

}  // namespace

int bench_command(const Invocation& invocation) {
  const std::vector<std::string>& arguments = invocation.arguments;
  if (!arguments.empty() && (arguments.front() == "--help" || arguments.front() == "-h")) {
    fmt::print("ringtrain bench PART times a part of a step:\n");
    for (const Part& part : kParts) fmt::print("  {:<12} {}\n", part.name, part.summary);
    fmt::print("`ringtrain bench PART --help` lists its options.\n");
    return 0;
  }
  const auto* const part =
      std::ranges::find(kParts, arguments.empty() ? "" : arguments.front(), &Part::name);
  if (part == kParts.end()) {
    std::string names;
    for (const Part& known : kParts) names += fmt::format(" {}", known.name);
    throw InvalidArgument("`ringtrain bench` times one of:" + names);
  }
  return part->run({invocation.argc, invocation.argv, {arguments.begin() + 1, arguments.end()}});
}

}  // namespace ringtrain

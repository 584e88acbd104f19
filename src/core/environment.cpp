#include "ringtrain/core/environment.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

/// The choice that the variable names; the first where it is unset or empty.
template <typename Choice, std::size_t kCount>
Choice choice_of(const char* variable,
                 const std::array<std::pair<std::string_view, Choice>, kCount>& choices) {
  const char* const value = std::getenv(variable);
  const std::string_view chosen = value == nullptr ? "" : value;
  if (chosen.empty()) return choices.front().second;
  std::array<std::string_view, kCount> names;
  for (std::size_t i = 0; i < kCount; ++i) {
    names[i] = choices[i].first;
    if (chosen == names[i]) return choices[i].second;
  }
  throw InvalidArgument(fmt::format("the environment variable {} is '{}', not {} or {}", variable,
                                    chosen, fmt::join(names.begin(), names.end() - 1, ", "),
                                    names.back()));
}

}  // namespace

LogLevel environment_log_level() {
  return choice_of("RINGTRAIN_LOG_LEVEL", std::to_array<std::pair<std::string_view, LogLevel>>(
                                              {{"info", LogLevel::kInfo},
                                               {"warning", LogLevel::kWarning},
                                               {"quiet", LogLevel::kQuiet}}));
}

AttentionKernels environment_attention_kernels() {
  return choice_of("RINGTRAIN_ATTENTION",
                   std::to_array<std::pair<std::string_view, AttentionKernels>>(
                       {{"auto", AttentionKernels::kAuto},
                        {"portable", AttentionKernels::kPortable},
                        {"sm90", AttentionKernels::kSm90}}));
}

MatmulKernels environment_matmul_kernels() {
  return choice_of("RINGTRAIN_MATMUL", std::to_array<std::pair<std::string_view, MatmulKernels>>(
                                           {{"auto", MatmulKernels::kAuto},
                                            {"cublaslt", MatmulKernels::kCublasLt},
                                            {"sm90", MatmulKernels::kSm90}}));
}

}  // namespace ringtrain

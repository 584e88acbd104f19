#include "ringtrain/config/model_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "ringtrain/config/suggestion.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

RematPolicy policy_of(const std::string& valid_name) {
  if (valid_name == "dots_saveable") return RematPolicy::kDotsSaveable;
  if (valid_name == "save_attention") return RematPolicy::kSaveAttention;
  if (valid_name == "offload") return RematPolicy::kOffload;
  if (valid_name == "nothing_saveable") return RematPolicy::kNothingSaveable;
  if (valid_name == "offload_input") return RematPolicy::kOffloadInput;
  return RematPolicy::kEverythingSaveable;
}

}  // namespace

const std::vector<std::string>& attention_type_names() {
  static const std::vector<std::string> names{"standard", "ring_standard", "blockwise",
                                              "ring_blockwise"};
  return names;
}

const std::vector<std::string>& remat_names() {
  static const std::vector<std::string> names{"everything_saveable", "dots_saveable",
                                              "save_attention", "nothing_saveable"};
  return names;
}

const std::vector<std::string>& remat_block_names() {
  static const std::vector<std::string> names{"everything_saveable", "dots_saveable",
                                              "save_attention",      "offload",
                                              "nothing_saveable",    "offload_input"};
  return names;
}

AttentionType ModelConfig::resolved_attention_type() const {
  if (attention_type.empty()) {
    return scan_attention ? AttentionType::kBlockwise : AttentionType::kStandard;
  }
  check_choice("llama.attention_type", attention_type, attention_type_names());
  if (attention_type == "standard") return AttentionType::kStandard;
  if (attention_type == "ring_standard") return AttentionType::kRingStandard;
  if (attention_type == "blockwise") return AttentionType::kBlockwise;
  return AttentionType::kRingBlockwise;
}

bool ModelConfig::rotates_keys() const {
  const AttentionType type = resolved_attention_type();
  return type == AttentionType::kRingStandard || type == AttentionType::kRingBlockwise;
}

RematPolicy parse_remat(const std::string& name, const std::string& flag) {
  if (!name.empty()) check_choice(flag, name, remat_names());
  return policy_of(name);
}

std::vector<RematPolicy> parse_remat_block(const std::string& text, std::int64_t layers) {
  const std::string flag = "llama.remat_block";
  if (text.find(':') == text.npos) {
    const std::vector<std::string>& names = remat_block_names();
    if (!text.empty() && std::find(names.begin(), names.end(), text) == names.end()) {
      throw InvalidArgument(
          fmt::format("{} '{}' is not one of {}, '{}', nor a mix by layer such as "
                      "'offload:12,save_attention:20'",
                      flag, text, quoted_list(names), kRematAuto));
    }
    return std::vector<RematPolicy>(static_cast<std::size_t>(layers), policy_of(text));
  }
  std::vector<RematPolicy> policies;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const std::size_t colon = std::min(part.find(':'), part.size());
    check_choice(flag, part.substr(0, colon), remat_block_names());
    const char* last = part.data() + part.size();
    std::int64_t count = 0;
    const auto read = std::from_chars(std::min(part.data() + colon + 1, last), last, count);
    if (read.ec != std::errc() || read.ptr != last || count < 0 || count > layers) {
      throw InvalidArgument(fmt::format(
          "{} '{}': a mix is POLICY:LAYERS,POLICY:LAYERS,... of {} layers", flag, text, layers));
    }
    policies.insert(policies.end(), static_cast<std::size_t>(count),
                    policy_of(part.substr(0, colon)));
    begin = end + 1;
  }
  if (static_cast<std::int64_t>(policies.size()) != layers) {
    throw InvalidArgument(fmt::format("{} '{}' names {} layers, the model has {}", flag, text,
                                      policies.size(), layers));
  }
  return policies;
}

}  // namespace ringtrain

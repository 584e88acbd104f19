#include "ringtrain/config/model_config.h"

#include "ringtrain/config/suggestion.h"

namespace ringtrain {

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

RematPolicy parse_remat(const std::string& name, const std::string& flag) {
  if (name.empty()) return RematPolicy::kEverythingSaveable;
  check_choice(flag, name, remat_names());
  if (name == "everything_saveable") return RematPolicy::kEverythingSaveable;
  if (name == "dots_saveable") return RematPolicy::kDotsSaveable;
  if (name == "save_attention") return RematPolicy::kSaveAttention;
  return RematPolicy::kNothingSaveable;
}

}  // namespace ringtrain

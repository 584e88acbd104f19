#include "option_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "ringtrain/config/literal.h"
#include "ringtrain/config/suggestion.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

using Json = nlohmann::ordered_json;

[[noreturn]] void refuse(std::string_view name, std::string_view expected, const Json& received) {
  throw InvalidArgument(fmt::format("{} takes {}, got {}", name, expected, received.dump()));
}

/// Sets one field; the overload is chosen by the field's type.
struct Setter {
  const Option& option;
  const std::string& name;
  const Json& value;

  void operator()(bool* field) const {
    if (!value.is_boolean()) refuse(name, "true or false", value);
    *field = value.get<bool>();
  }
  void operator()(std::int64_t* field) const {
    if (value.is_null() && option.none_is_zero) {
      *field = 0;
    } else if (value.is_number_integer()) {
      *field = value.get<std::int64_t>();
    } else {
      refuse(name, "a whole number", value);
    }
  }
  void operator()(double* field) const {
    if (!value.is_number()) refuse(name, "a number", value);
    *field = value.get<double>();
  }
  void operator()(std::string* field) const {
    if (!value.is_null() && !value.is_string()) refuse(name, "a text", value);
    const std::string text = value.is_null() ? "" : value.get<std::string>();
    if (!option.choices.empty()) check_choice(name, text, option.choices);
    *field = text;
  }
  void operator()(RopeScaling* field) const { *field = rope_scaling_from_json(name, value); }
};

Json rope_scaling_to_json(const RopeScaling& scaling) {
  Json value{{"rope_type", scaling.type}};
  if (scaling.type == "default") return value;
  value["factor"] = scaling.factor;
  if (scaling.type == "linear") return value;
  value["low_freq_factor"] = scaling.low_freq_factor;
  value["high_freq_factor"] = scaling.high_freq_factor;
  value["original_max_position_embeddings"] = scaling.original_max_position_embeddings;
  return value;
}

struct Getter {
  Json operator()(const bool* field) const { return *field; }
  Json operator()(const std::int64_t* field) const { return *field; }
  Json operator()(const double* field) const { return *field; }
  Json operator()(const std::string* field) const { return *field; }
  Json operator()(const RopeScaling* field) const { return rope_scaling_to_json(*field); }
};

/// The whole of `text` as a number, or false.
template <typename Number>
bool parse_number(const std::string& text, Number& number) {
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(begin, end, number);
  return result.ec == std::errc{} && result.ptr == end;
}

/// Reads a command line's text; a text that does not fit stays one, and set_value refuses it.
struct TextReader {
  const std::string& text;

  Json operator()(const bool*) const {
    if (text == "True" || text == "true" || text == "1") return true;
    if (text == "False" || text == "false" || text == "0") return false;
    return text;
  }
  Json operator()(const std::int64_t*) const {
    if (text == "None") return nullptr;
    std::int64_t number = 0;
    return parse_number(text, number) ? Json(number) : Json(text);
  }
  Json operator()(const double*) const {
    double number = 0;
    return parse_number(text, number) && std::isfinite(number) ? Json(number) : Json(text);
  }
  Json operator()(const std::string*) const { return text; }
  Json operator()(const RopeScaling*) const {
    return text.empty() ? Json(nullptr) : parse_literal(text);
  }
};

double required_number(const std::string& name, const Json& value, const char* key) {
  if (!value.contains(key)) {
    throw InvalidArgument(fmt::format("{} lacks the key '{}': {}", name, key, value.dump()));
  }
  if (!value[key].is_number()) refuse(name + "." + key, "a number", value[key]);
  return value[key].get<double>();
}

}  // namespace

Json value_of(const Option& option, const TrainConfig& config) {
  TrainConfig copy = config;
  return std::visit(Getter{}, option.field(copy));
}

void set_value(const Option& option, const std::string& name, const Json& value,
               TrainConfig& config) {
  std::visit(Setter{option, name, value}, option.field(config));
}

Json value_from_text(const Option& option, const std::string& text) {
  TrainConfig config;
  return with_context(fmt::format("reading --{}", option.name),
                      [&] { return std::visit(TextReader{text}, option.field(config)); });
}

RopeScaling rope_scaling_from_json(const std::string& name, const Json& value) {
  RopeScaling scaling;
  if (value.is_null()) return scaling;
  if (!value.is_object()) {
    refuse(name, "dict(rope_type='llama3', factor=...) or a JSON object", value);
  }
  static const std::vector<std::string> kKeys{
      "rope_type",        "type",
      "factor",           "low_freq_factor",
      "high_freq_factor", "original_max_position_embeddings"};
  for (const auto& [key, unused] : value.items()) {
    if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end()) {
      throw InvalidArgument(
          fmt::format("unknown key '{}' in {}{}", key, name, did_you_mean(key, kKeys)));
    }
  }
  // Older files say "type", newer ones "rope_type".
  const Json type = value.value("rope_type", value.value("type", Json("default")));
  if (!type.is_string()) refuse(name + ".rope_type", "a text", type);
  static const std::vector<std::string> kTypes{"default", "linear", "llama3"};
  check_choice(name + ".rope_type", type.get<std::string>(), kTypes);
  scaling.type = type.get<std::string>();
  if (scaling.type == "default") return scaling;
  scaling.factor = required_number(name, value, "factor");
  if (scaling.type == "linear") return scaling;
  scaling.low_freq_factor = required_number(name, value, "low_freq_factor");
  scaling.high_freq_factor = required_number(name, value, "high_freq_factor");
  scaling.original_max_position_embeddings =
      static_cast<std::int64_t>(required_number(name, value, "original_max_position_embeddings"));
  return scaling;
}

}  // namespace ringtrain

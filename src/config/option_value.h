#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "ringtrain/config/options.h"

/// Between an option's field and what is written on a command line or in a file.
namespace ringtrain {

/// The value of `option` in `config`.
nlohmann::ordered_json value_of(const Option& option, const TrainConfig& config);

/// Sets the option's field. `name` is how the user called it, for messages.
/// Errors: InvalidArgument naming the option, the value received and the kind expected, or the
/// valid values of a choice.
void set_value(const Option& option, const std::string& name, const nlohmann::ordered_json& value,
               TrainConfig& config);

/// The value that a command line's text stands for: texts as they are, True|False|true|false|1|0,
/// numbers, dict(...) or a JSON object. Errors: InvalidArgument as set_value's.
nlohmann::ordered_json value_from_text(const Option& option, const std::string& text);

/// Reads Hugging Face's rope_scaling or rope_parameters; null is no scaling. rope_theta is not one
/// of its keys here: whoever reads rope_parameters takes it out first. Errors: InvalidArgument
/// naming the key, or the types supported.
RopeScaling rope_scaling_from_json(const std::string& name, const nlohmann::ordered_json& value);

}  // namespace ringtrain

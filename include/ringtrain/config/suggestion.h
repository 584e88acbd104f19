#pragma once

#include <span>
#include <string>
#include <string_view>

/// Help for names that were mistyped.
namespace ringtrain {

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
int edit_distance(std::string_view a, std::string_view b);

/// "; did you mean 'x'?", or with several equally good names "; did you mean 'x' or 'y'?", or ""
/// where nothing is near. A last part after a dot that fits exactly ("lr" for "optimizer.lr")
/// counts as near; '-' counts as '_'.
std::string did_you_mean(std::string_view unknown, std::span<const std::string> valid);

/// "'a', 'b', 'c'" for messages that list every valid value.
std::string quoted_list(std::span<const std::string> names);

/// Errors: InvalidArgument unless `value` is one of `valid`, listing them.
void check_choice(std::string_view option, std::string_view value,
                  std::span<const std::string> valid);

}  // namespace ringtrain

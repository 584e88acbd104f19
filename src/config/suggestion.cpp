#include "ringtrain/config/suggestion.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

/// More suggestions than this help nobody.
constexpr std::size_t kMostSuggestions = 3;

std::string canonical(std::string_view name) {
  std::string text(name.substr(std::min(name.find_first_not_of('-'), name.size())));
  std::replace(text.begin(), text.end(), '-', '_');
  return text;
}

bool ends_with_part(std::string_view name, std::string_view part) {
  return name.size() > part.size() && name.ends_with(part) &&
         name[name.size() - part.size() - 1] == '.';
}

std::string_view last_part(std::string_view name) {
  return name.substr(name.rfind('.') + 1);
}

/// How far apart two names are: as they are, or by their last parts where only one is dotted.
int distance(std::string_view unknown, std::string_view valid) {
  const int whole = edit_distance(unknown, valid);
  const bool undotted = unknown.find('.') == std::string_view::npos;
  if (!undotted || valid.find('.') == std::string_view::npos) return whole;
  return std::min(whole, edit_distance(unknown, last_part(valid)) + 1);
}

}  // namespace

int edit_distance(std::string_view a, std::string_view b) {
  std::vector<int> before(b.size() + 1), previous(b.size() + 1), current(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) previous[j] = static_cast<int>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    current[0] = static_cast<int>(i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int substitution = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, substitution});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        current[j] = std::min(current[j], before[j - 2] + 1);
      }
    }
    std::swap(before, previous);
    std::swap(previous, current);
  }
  return previous[b.size()];
}

std::string did_you_mean(std::string_view unknown, std::span<const std::string> valid) {
  const std::string wanted = canonical(unknown);
  if (wanted.empty()) return "";
  std::vector<std::string> nearest;
  for (const std::string& name : valid) {
    if (ends_with_part(name, wanted)) nearest.push_back(name);
  }
  if (nearest.empty()) {
    int best = std::max(1, static_cast<int>(last_part(wanted).size()) / 3);
    for (const std::string& name : valid) {
      const int found = distance(wanted, name);
      if (found > best) continue;
      if (found < best) nearest.clear();
      best = found;
      nearest.push_back(name);
    }
  }
  if (nearest.empty()) return "";
  nearest.resize(std::min(nearest.size(), kMostSuggestions));
  return fmt::format("; did you mean '{}'?", fmt::join(nearest, "' or '"));
}

std::string quoted_list(std::span<const std::string> names) {
  return fmt::format("'{}'", fmt::join(names, "', '"));
}

void check_choice(std::string_view option, std::string_view value,
                  std::span<const std::string> valid) {
  if (std::find(valid.begin(), valid.end(), value) != valid.end()) return;
  throw InvalidArgument(fmt::format("{} '{}' is not one of {}", option, value, quoted_list(valid)));
}

}  // namespace ringtrain

#include "ringtrain/core/step_observer.h"

#include <fmt/format.h>

namespace ringtrain {

std::string Label::to_string() const {
  std::string text = what;
  if (object != nullptr) text += fmt::format(" {}", object);
  if (index >= 0) text += fmt::format(" {}", index);
  if (group != nullptr) text += fmt::format(" on group {}", group);
  return text;
}

}  // namespace ringtrain

#include "subcommands.h"

namespace ringtrain {

std::span<const Subcommand> subcommands() {
  static const std::vector<Subcommand> table{};
  return table;
}

}  // namespace ringtrain

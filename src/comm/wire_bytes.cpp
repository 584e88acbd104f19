#include "ringtrain/comm/wire_bytes.h"

#include <fmt/format.h>

namespace ringtrain {
std::size_t sent_bytes(std::string_view operation, std::size_t bytes, int num_ranks) {
  const auto ranks = static_cast<std::size_t>(num_ranks);
  const std::size_t passes = operation == "all_reduce" ? 2 : 1;
  return (passes * (ranks - 1) * bytes + ranks - 1) / ranks;
}

void WireBytes::begin(Stream&, const Label& label) {
  if (label.group == nullptr || label.bytes == 0) return;
  Count& count = counts_[{label.group, label.what}];
  ++count.calls;
  count.bytes += label.bytes;
}

std::size_t WireBytes::total() const {
  std::size_t sum = 0;
  for (const auto& [key, count] : counts_) sum += count.bytes;
  return sum;
}

std::string WireBytes::to_table() const {
  std::string table;
  for (const auto& [key, count] : counts_) {
    const auto& [group, operation] = key;
    table += fmt::format("  {:<7} {:<15}{:>7} calls {:>18} bytes\n", group, operation, count.calls,
                         count.bytes);
  }
  return table + fmt::format("  {:<37}{:>18} bytes\n", "sum", total());
}

}  // namespace ringtrain

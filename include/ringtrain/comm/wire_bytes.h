#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "ringtrain/core/step_observer.h"

namespace ringtrain {

/// Bytes that a rank of a group of P sends, rounded up, by ring algorithms; other algorithms of
/// the same cost at large sizes send as much.
///
///     all_gather, reduce_scatter, all_to_all   (P - 1) / P of the whole
///     all_reduce                               2 (P - 1) / P of the tensor
///     broadcast                                the tensor, but for the rank before the root
///     exchange (a ring hop, heads)             the messages to others, counted by their sender
///
/// `operation` is one of the first four; `bytes` those of the whole tensor.
std::size_t sent_bytes(std::string_view operation, std::size_t bytes, int num_ranks);

/// Counts what a rank sends, from the collectives of observed communicators
/// (make_observed_communicator). On the meta device nothing is sent, and the count is exact.
class WireBytes final : public StepObserver {
 public:
  struct Count {
    std::int64_t calls = 0;
    std::size_t bytes = 0;
  };
  using Key = std::pair<std::string, std::string>;  ///< group and operation

  void begin(Stream& stream, const Label& label) override;
  void end(Stream&) override {}

  const std::map<Key, Count>& counts() const { return counts_; }
  std::size_t total() const;
  /// One row a group and operation, then the sum: "  sp      exchange     12 calls   1572864
  /// bytes".
  std::string to_table() const;

 private:
  std::map<Key, Count> counts_;
};

}  // namespace ringtrain

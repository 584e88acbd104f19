#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ringtrain/comm/world.h"
#include "ringtrain/ops/backend.h"
#include "ringtrain/parallel/mesh.h"
#include "ringtrain/parallel/sequence_layout.h"

namespace ringtrain {

/// One layer's attention block of one ring step, as a rank computes it.
struct AttentionBlock {
  SequenceLayout layout;
  std::int64_t batch, heads, kv_heads, head_dim;  ///< of this rank; its tokens are the layout's
  DType dtype;
  std::int64_t query_chunk_size, key_chunk_size;  ///< on the CPU; 0 for all
  std::int64_t head_groups = 1;  ///< one of so many groups of heads is timed, counting for all
};

struct SelftestOptions {
  std::int64_t num_elements;              ///< fp32, of the tensors that collectives move
  int repeats;                            ///< of each timing; the best counts
  bool rotates;                           ///< keys and values travel by hops, not by gathers
  std::optional<AttentionBlock> block{};  ///< set against a hop, where they rotate
};

/// Checks and measures the communication of a run before it begins: each group of the mesh carries
/// out the collectives that a step asks of it, on integers, whose sums are exact in any order, and
/// every element of the result is compared. A rank's own findings, then those of all.
class Selftest {
 public:
  /// What it runs on. Everything outlives it.
  struct Rank {
    Device& device;
    Backend& ops;
    Mesh& mesh;
    Stream& compute;
    Stream& ring;
  };
  /// Collective; waits for the device. Memory is the device's own and free again afterwards.
  Selftest(const Rank& rank, const SelftestOptions& options);

  struct Finding {
    std::string group;
    std::string operation;
    int num_ranks;
    bool is_right;
    double bytes_per_s;   ///< that this rank sent (comm/wire_bytes.h)
    std::string carrier;  ///< of messages, as in Communicator; empty for other operations
  };
  /// Collective over `world`: right where it is on all ranks, the slowest rank's speeds.
  void combine(World& world);

  bool passes() const;
  /// One row a collective, with what carries messages, then "ring: hop 1.900 ms, attention
  /// block 4.200 ms: hidden".
  std::string to_table() const;
  const std::vector<Finding>& findings() const { return findings_; }

  /// Bytes of memory that the attention block and its hop take.
  static std::size_t bytes_of(const AttentionBlock& block);

 private:
  void check_all_reduce(Communicator& group);
  void check_all_gather(Communicator& group);
  void check_reduce_scatter(Communicator& group);
  void check_all_to_all(Communicator& group);
  void check_exchange(Communicator& group);
  void time_attention(const AttentionBlock& block);
  /// Contents undefined; until `clear`.
  Tensor allocate(Shape shape, DType dtype);
  void clear();
  template <typename Element>
  Tensor upload(const std::vector<Element>& values);
  Tensor upload_values(int rank);
  Tensor make_room(std::int64_t num_elements);
  template <typename Expected>
  bool holds(Tensor tensor, Expected&& expected);
  template <typename Work>
  double fastest(Stream& stream, Work&& work);
  void found(const Communicator& group, const char* operation, bool is_right, double seconds,
             std::size_t sent, std::string carrier = {});

  Rank rank_;
  SelftestOptions options_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
  std::vector<Finding> findings_;
  double hop_s_ = 0;
  double block_s_ = 0;  // 0: not measured
};

}  // namespace ringtrain

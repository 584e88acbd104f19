// Heads exchanged and attended group by group: no bit differs from all heads at once, however late
// operations and messages are; and what is under way when attention runs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "ringtrain/parallel/sequence_attention.h"
#include "support/host_tensor.h"
#include "support/late_operations.h"
#include "support/test_context.h"
#include "support/test_world.h"

namespace ringtrain {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{8} << 20;
constexpr std::int64_t kHeadDim = 8, kTokens = 12;  // of a rank

struct GroupsCase {
  std::string name;
  std::int64_t kv_heads;     // of a rank, when heads are exchanged
  std::int64_t copies = 1;   // ranks that share a key/value head
  std::int64_t queries = 1;  // query heads of a key/value head, where it is not shared
  std::int64_t batch = 1;
  DType dtype = DType::kFloat32;
  bool documents = false;
  LayoutKind layout = LayoutKind::kZigzag;
  SequenceAttentionOptions options = {};
};

const std::vector<GroupsCase> kCases{
    {"two_heads", 2},
    {"grouped_queries", 4, 1, 3, 2},
    {"one_head", 1, 1, 2, 2},
    {"shared_head", 1, 2, 2, 2},
    {"bf16_documents", 2, 1, 2, 2, DType::kBFloat16, true, LayoutKind::kStriped},
    {"shared_bf16_documents", 1, 2, 1, 1, DType::kBFloat16, true},
    {"contiguous_chunks",
     2,
     1,
     1,
     1,
     DType::kFloat32,
     true,
     LayoutKind::kContiguous,
     {.query_chunk_size = 5, .key_chunk_size = 7}},
    {"gathered",
     2,
     1,
     2,
     2,
     DType::kFloat32,
     false,
     LayoutKind::kZigzag,
     {.transport = KeyValueTransport::kGather}},
    {"bf16_gradients",
     2,
     1,
     1,
     2,
     DType::kBFloat16,
     false,
     LayoutKind::kZigzag,
     {.gradient_dtype = DType::kBFloat16}},
};

/// What one rank computes, as the bytes of each token's row.
struct Results {
  std::vector<std::byte> out, dquery, dkey_value;
  bool operator==(const Results&) const = default;
};

/// The attention of a case on the mesh of a context.
class Attention {
 public:
  Attention(Context& context, const GroupsCase& c, int num_ranks, int ulysses_of_case)
      : context_(context), case_(c), num_ranks_(num_ranks) {
    kv_heads_ = std::max<std::int64_t>(c.kv_heads * ulysses_of_case / c.copies, 1);
    heads_ = c.copies > 1 ? ulysses_of_case * c.queries : kv_heads_ * c.queries;
  }

  /// Forward and backward of this rank's tokens in `layout`.
  Results run(const SequenceLayout& layout, int head_groups) {
    Arena& arena = context_.arena;
    const Arena::Scope scope(arena);
    poison();
    SequenceAttentionOptions options = case_.options;
    options.head_groups = head_groups;
    SequenceAttention attention(context_, {layout}, options);
    const std::vector<std::int32_t> positions = layout.positions(context_.mesh.coordinates.sp);
    const Tensor query = part("query", 1, heads_, positions);
    const Tensor key_value = part("key_value", 2, kv_heads_, positions);
    const Tensor dout = part("dout", 1, heads_, positions);
    const auto allocate = [&](Shape shape, DType dtype) {
      return arena.allocate(shape, dtype, MemoryKind::kActivations);
    };
    const Tensor lowest = case_.documents ? lowest_visible(layout) : Tensor();
    const Shape queries{case_.batch, query.size(2), heads_, kHeadDim};
    const Tensor out = allocate(queries, case_.dtype);
    const Tensor lse = allocate({case_.batch, heads_, query.size(2)}, DType::kFloat32);
    const Tensor dquery = allocate(queries, DType::kFloat32);
    const Tensor dkey_value = allocate(key_value.shape(), DType::kFloat32);
    attention.forward({query.reshape(queries), key_value, lowest, out, lse});
    attention.backward({query.reshape(queries), key_value, lowest, out, lse, dout.reshape(queries),
                        dquery, dkey_value});
    return {bytes(out), bytes(dquery), bytes(dkey_value)};
  }

  std::int64_t row_bytes(std::int64_t heads, DType dtype) const {
    return heads * kHeadDim * static_cast<std::int64_t>(size_of(dtype));
  }
  std::int64_t heads() const { return heads_; }
  std::int64_t kv_heads() const { return kv_heads_; }

 private:
  void poison() {
    const Arena::Scope scope(context_.arena);
    const auto floats = static_cast<std::int64_t>(kArenaBytes / 8);
    context_.ops.fill(context_.arena.allocate({floats}, DType::kFloat32, MemoryKind::kActivations),
                      std::numeric_limits<double>::quiet_NaN(), context_.compute);
    context_.compute.synchronise();
  }
  template <typename Element>
  Tensor upload(const std::vector<Element>& values, Shape shape) {
    const Tensor tensor =
        context_.arena.allocate(shape, dtype_of<Element>, MemoryKind::kActivations);
    context_.device.copy_to_device(tensor.raw(), values.data(), tensor.bytes(), context_.compute);
    context_.compute.synchronise();
    return tensor;
  }
  /// [count, B, positions, heads, H] of normal numbers that every rank draws alike.
  Tensor part(const std::string& name, std::int64_t count, std::int64_t heads,
              const std::vector<std::int32_t>& positions) {
    const std::int64_t length = kTokens * num_ranks_, row = heads * kHeadDim;
    const HostTensor all =
        random_normal({count * case_.batch, length, row}, name.size(), DType::kBFloat16);
    std::vector<float> values;
    for (std::int64_t b = 0; b < count * case_.batch; ++b) {
      for (const std::int32_t position : positions) {
        for (std::int64_t i = 0; i < row; ++i) {
          values.push_back(static_cast<float>(all[(b * length + position) * row + i]));
        }
      }
    }
    const Shape shape{count, case_.batch, std::ssize(positions), heads, kHeadDim};
    const Tensor floats = upload(values, shape);
    const Tensor tensor = context_.arena.allocate(shape, case_.dtype, MemoryKind::kActivations);
    context_.ops.cast(floats, tensor, context_.compute);
    return tensor;
  }
  Tensor lowest_visible(const SequenceLayout& layout) {
    std::vector<std::int32_t> lowest;
    const auto positions = layout.group_positions(context_.mesh.ring->rank());
    for (std::int64_t b = 0; b < case_.batch; ++b) {
      for (const std::int32_t position : positions) {
        lowest.push_back(position - position % static_cast<std::int32_t>(7 + b));
      }
    }
    return upload(lowest, {case_.batch, std::ssize(positions)});
  }
  std::vector<std::byte> bytes(Tensor tensor) {
    const Tensor floats =
        context_.arena.allocate(tensor.shape(), DType::kFloat32, MemoryKind::kActivations);
    context_.ops.cast(tensor, floats, context_.compute);
    context_.compute.synchronise();
    const auto* values = floats.data<float>();
    EXPECT_TRUE(std::all_of(values, values + floats.num_elements(),
                            [](float value) { return std::isfinite(value); }));
    const auto* begin = static_cast<const std::byte*>(tensor.raw());
    return {begin, begin + tensor.bytes()};
  }

  Context& context_;
  const GroupsCase& case_;
  int num_ranks_;
  std::int64_t heads_, kv_heads_;
};

/// A context of all ranks whose operations and messages are late.
struct LateContext {
  explicit LateContext(TestContext& test, int free_processors = 0)
      : context{test->device,        ops,        test->arena,   test->mesh,
                test->compute,       test->ring, test->params,  test->beside,
                test->compute_dtype, test->host, test->to_host, test->to_device} {
    for (auto* group : {&test->mesh.ring, &test->mesh.ulysses}) {
      *group = make_late_group(std::move(*group), free_processors);
    }
  }

  struct Operations final : LateBackend {
    void attention_forward(const AttentionForwardArgs& args, Stream& stream) override {
      free_processors.push_back(args.free_processors);
      LateBackend::attention_forward(args, stream);
    }
    std::vector<int> free_processors;
  };
  Operations ops;
  Context context;
};

SequenceLayout layout_of(const GroupsCase& c, const MeshShape& mesh) {
  return {c.layout, kTokens * mesh.sp, mesh.sp, mesh.ulysses};
}

TEST(HeadGroups, ChangeNoBitHoweverLate) {
  World& world = test_world();
  for (int ulysses = 2; ulysses <= world.size(); ulysses *= 2) {
    for (const GroupsCase& c : kCases) {
      SCOPED_TRACE(c.name + " ulysses " + std::to_string(ulysses));
      TestContext test(world, "1,1,1,-1", DeviceType::kCpu, c.dtype, kArenaBytes, ulysses);
      const SequenceLayout layout = layout_of(c, test->mesh.shape);
      const Results expected = Attention(*test, c, world.size(), ulysses).run(layout, 1);
      EXPECT_EQ(Attention(*test, c, world.size(), ulysses).run(layout, 2), expected);
      LateContext late(test);
      Attention attention(late.context, c, world.size(), ulysses);
      for (const int groups : {1, 2, 4}) {
        EXPECT_EQ(attention.run(layout, groups), expected) << groups << " groups";
      }
    }
  }
}

/// Rows of one rank of [count, length] rows.
std::vector<std::byte> rows_of(const std::vector<std::byte>& all, std::int64_t length,
                               std::int64_t row_bytes, const std::vector<std::int32_t>& positions) {
  std::vector<std::byte> rows;
  for (auto at = all.begin(); at != all.end(); at += length * row_bytes) {
    for (const std::int32_t position : positions) {
      rows.insert(rows.end(), at + position * row_bytes, at + (position + 1) * row_bytes);
    }
  }
  return rows;
}

TEST(HeadGroups, OfOneUlyssesGroupGiveTheBitsOfOneRank) {
  World& world = test_world();
  for (const GroupsCase& c : kCases) {
    SCOPED_TRACE(c.name);
    TestContext alone(c.dtype, kArenaBytes);
    const std::int64_t length = kTokens * world.size();
    const SequenceLayout whole(c.layout, length, 1);
    Attention one(*alone, c, world.size(), world.size());
    const Results expected = one.run(whole, 1);

    TestContext test(world, "1,1,1,-1", DeviceType::kCpu, c.dtype, kArenaBytes, world.size());
    const SequenceLayout layout = layout_of(c, test->mesh.shape);
    const Results actual = Attention(*test, c, world.size(), world.size()).run(layout, 2);
    const auto positions = layout.positions(world.rank());
    EXPECT_EQ(actual.out,
              rows_of(expected.out, length, one.row_bytes(one.heads(), c.dtype), positions));
    const DType fp32 = DType::kFloat32;
    EXPECT_EQ(actual.dquery,
              rows_of(expected.dquery, length, one.row_bytes(one.heads(), fp32), positions));
    if (c.copies > 1) continue;  // their gradient is summed in another order
    EXPECT_EQ(actual.dkey_value,
              rows_of(expected.dkey_value, length, one.row_bytes(one.kv_heads(), fp32), positions));
  }
}

/// What is posted, waited for and computed, in order.
class Listener final : public StepObserver {
 public:
  void begin(Stream&, const Label& label) override {
    const std::string text = label.to_string();
    for (const char* what : {"to heads", "to tokens", "hop", "attention"}) {
      if (text.find(what) == std::string::npos) continue;
      heard.push_back(text);
      return;
    }
  }
  void end(Stream&) override {}
  std::vector<std::string> heard;
};

TEST(HeadGroups, AreUnderWayWhileOthersAreAttended) {
  World& world = test_world();
  TestContext test(world, "1,1,1,-1", DeviceType::kCpu, DType::kFloat32, kArenaBytes, world.size());
  LateContext late(test, 8);
  Listener listener;
  late.context.observer = &listener;
  const GroupsCase c{"two_heads", 2};
  const SequenceLayout layout = layout_of(c, test->mesh.shape);
  Attention(late.context, c, world.size(), world.size()).run(layout, 2);
  const std::vector<std::string> schedule{
      "tokens to heads 0", "tokens to heads 1", "waiting for tokens to heads 0 on group ulysses",
      "attention forward", "heads to tokens 0", "waiting for tokens to heads 1 on group ulysses",
      "attention forward", "heads to tokens 1", "waiting for heads to tokens 1 on group ulysses"};
  std::vector<std::string> both = schedule;
  for (std::string text : schedule) {
    if (text == "attention forward") text = "attention backward";
    both.push_back(text);
  }
  EXPECT_EQ(listener.heard, both);
  EXPECT_EQ(late.ops.free_processors, (std::vector<int>{8, 8}));

  late.ops.free_processors.clear();
  Attention(late.context, c, world.size(), world.size()).run(layout, 1);
  EXPECT_EQ(late.ops.free_processors, std::vector<int>{0}) << "nothing is under way";
}

TEST(HeadGroups, LeaveNoProcessorsFreeBehindTheLastHop) {
  World& world = test_world();
  if (world.size() < 4) GTEST_SKIP() << "no ring of ulysses groups";
  TestContext test(world, "1,1,1,-1", DeviceType::kCpu, DType::kFloat32, kArenaBytes,
                   world.size() / 2);
  LateContext late(test, 8);
  GroupsCase c{"two_heads", 2};
  Attention attention(late.context, c, world.size(), world.size() / 2);
  attention.run(layout_of(c, test->mesh.shape), 2);
  EXPECT_EQ(late.ops.free_processors, (std::vector<int>{8, 0, 8, 0}));
  late.ops.free_processors.clear();
  c.options.transport = KeyValueTransport::kGather;
  attention.run(layout_of(c, test->mesh.shape), 2);
  EXPECT_EQ(late.ops.free_processors, (std::vector<int>{8, 8, 8, 8}));
}

}  // namespace
}  // namespace ringtrain

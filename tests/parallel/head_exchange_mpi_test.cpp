// Heads for tokens and back, on numbers that say where they belong.
#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "ringtrain/core/error.h"
#include "ringtrain/parallel/head_exchange.h"
#include "support/gpu.h"
#include "support/test_context.h"
#include "support/test_world.h"

namespace ringtrain {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{64} << 20;  // a GPU wants 32 MiB of workspace
constexpr std::int64_t kHeadDim = 8;

struct ExchangeCase {
  std::string name;
  std::int64_t batch, tokens;       // of a rank
  std::int64_t heads_per_rank;      // of U ranks together
  std::int64_t ranks_per_head = 1;  // where heads_per_rank is 1
  int groups = 1;
};

/// Exact in fp32: below 2^24.
float value_of(std::int64_t b, std::int64_t token, std::int64_t head, std::int64_t i) {
  return static_cast<float>(((b * 64 + token) * 64 + head) * kHeadDim + i);
}

class HeadExchangeTest : public ::testing::TestWithParam<DeviceType> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceType::kCuda) {
      RT_SKIP_WITHOUT_GPU();
      if (size() > 4 * cuda_device_count()) GTEST_SKIP() << "too few GPUs";
    }
    context_.emplace(test_world(), "1,1,1,-1", GetParam(), DType::kFloat32, kArenaBytes, size());
  }
  static int size() { return test_world().size(); }
  static int rank() { return test_world().rank(); }

  Tensor upload(const std::vector<float>& values, Shape shape) {
    Context& context = **context_;
    const Tensor tensor = context.arena.allocate(shape, DType::kFloat32, MemoryKind::kActivations);
    EXPECT_EQ(tensor.num_elements(), static_cast<std::int64_t>(values.size()));
    context.device.copy_to_device(tensor.raw(), values.data(), tensor.bytes(), context.compute);
    context.compute.synchronise();
    return tensor;
  }
  std::vector<float> download(Tensor tensor) {
    Context& context = **context_;
    std::vector<float> values(static_cast<std::size_t>(tensor.num_elements()));
    context.device.copy_to_host(values.data(), tensor.raw(), tensor.bytes(), context.compute);
    context.compute.synchronise();
    return values;
  }
  /// Tokens [first, first + tokens) of every sequence, with heads [first_head, ...).
  static std::vector<float> values(std::int64_t batch, std::int64_t first, std::int64_t tokens,
                                   std::int64_t first_head, std::int64_t heads) {
    std::vector<float> values;
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t t = first; t < first + tokens; ++t) {
        for (std::int64_t h = first_head; h < first_head + heads; ++h) {
          for (std::int64_t i = 0; i < kHeadDim; ++i) values.push_back(value_of(b, t, h, i));
        }
      }
    }
    return values;
  }

  std::optional<TestContext> context_;
};

TEST_P(HeadExchangeTest, GivesARankItsHeadsOfAllTokensAndBack) {
  for (const ExchangeCase& c : {ExchangeCase{"one_sequence", 1, 5, 1},
                                {"heads", 3, 4, 2},
                                {"two_groups", 3, 4, 4, 1, 2},
                                {"three_groups", 2, 5, 3, 1, 3},
                                {"one_token", 2, 1, 3},
                                {"shared", 2, 3, 1, 2}}) {
    SCOPED_TRACE(c.name);
    Arena& arena = (*context_)->arena;
    const Arena::Scope scope(arena);
    HeadExchange exchange(**context_, c.groups);
    const std::int64_t heads = size() * c.heads_per_rank / c.ranks_per_head;
    const std::int64_t heads_per_group = c.heads_per_rank / c.groups;
    const std::vector<float> own = values(c.batch, rank() * c.tokens, c.tokens, 0, heads);
    const Tensor tokens = upload(own, {c.batch, c.tokens, heads, kHeadDim});
    EXPECT_EQ(exchange.groups_of(heads), c.groups);

    const std::size_t before = arena.used();
    const Tensor packed = exchange.pack(tokens, c.groups, arena);
    EXPECT_EQ(arena.used() - before, exchange.pack_bytes(tokens));
    const HeadExchange::Sides sent{exchange.make_heads(tokens, c.groups), packed};
    EXPECT_EQ(sent.heads.shape(),
              (Shape{c.groups, c.batch, size() * c.tokens, heads_per_group, kHeadDim}));
    for (int g = 0; g < c.groups; ++g) exchange.to_heads(g, std::array{sent});
    for (int g = 0; g < c.groups; ++g) {
      exchange.wait_for_heads(g);
      const std::int64_t first = rank() * c.heads_per_rank / c.ranks_per_head + g * heads_per_group;
      EXPECT_EQ(download(sent.heads[g]),
                values(c.batch, 0, size() * c.tokens, first, heads_per_group));
    }

    const Tensor back = upload(std::vector<float>(own.size(), -1), tokens.shape());
    const std::size_t without = arena.used();
    const HeadExchange::Sides returned{sent.heads, exchange.make_room(back, c.groups, arena)};
    EXPECT_EQ(arena.used() - without, exchange.room_bytes(back));
    for (int g = 0; g < c.groups; ++g) exchange.to_tokens(g, std::array{returned});
    exchange.wait_for_tokens(c.groups - 1);
    exchange.unpack(returned.messages, back);
    std::vector<float> expected = own;  // the sum over the ranks that have a head
    for (float& value : expected) value *= static_cast<float>(c.ranks_per_head);
    EXPECT_EQ(download(back), expected);
  }
}

TEST_P(HeadExchangeTest, TakesKeyAndValueTogether) {
  Arena& arena = (*context_)->arena;
  const Arena::Scope scope(arena);
  HeadExchange exchange(**context_, 2);
  const std::int64_t heads = 2 * size();
  const std::vector<float> own = values(2 * 3, rank() * 4, 4, 0, heads);
  const Tensor tokens = upload(own, {2, 3, 4, heads, kHeadDim});
  const HeadExchange::Sides sent{exchange.make_heads(tokens, 2), exchange.pack(tokens, 2, arena)};
  EXPECT_EQ(sent.heads.shape(), (Shape{2, 2, 3, size() * 4, 1, kHeadDim}));
  for (int g = 0; g < 2; ++g) exchange.to_heads(g, std::array{sent});
  for (int g = 0; g < 2; ++g) {
    exchange.wait_for_heads(g);
    EXPECT_EQ(download(sent.heads[g]), values(2 * 3, 0, size() * 4, 2 * rank() + g, 1));
  }
}

TEST_P(HeadExchangeTest, ExchangesRowsOfAttention) {
  const Arena::Scope scope((*context_)->arena);
  constexpr std::int64_t kBatch = 2, kTokens = 3, kHeads = 2;  // heads: of one rank's group
  constexpr int kGroups = 2;
  HeadExchange exchange(**context_, kGroups);
  const auto rows = [](std::int64_t first, std::int64_t tokens, std::int64_t first_head,
                       std::int64_t heads) {
    std::vector<float> values;
    for (std::int64_t b = 0; b < kBatch; ++b) {
      for (std::int64_t h = first_head; h < first_head + heads; ++h) {
        for (std::int64_t t = first; t < first + tokens; ++t)
          values.push_back(value_of(b, t, h, 0));
      }
    }
    return values;
  };
  const std::int64_t heads = size() * kGroups * kHeads;
  const Tensor own = upload(rows(rank() * kTokens, kTokens, 0, heads), {kBatch, heads, kTokens});
  const HeadExchange::Rows exchanged = exchange.make_rows(own, kGroups);
  EXPECT_EQ(exchanged.heads.shape(), (Shape{kGroups, kBatch, kHeads, size() * kTokens}));
  for (int g = 0; g < kGroups; ++g) exchange.to_heads(g, {}, exchanged);
  for (int g = 0; g < kGroups; ++g) {
    exchange.wait_for_heads(g, exchanged);
    EXPECT_EQ(download(exchanged.heads[g]),
              rows(0, size() * kTokens, (rank() * kGroups + g) * kHeads, kHeads));
  }
}

TEST_P(HeadExchangeTest, HasOneGroupWhereHeadsCannotBeDivided) {
  const HeadExchange exchange(**context_, 2);
  EXPECT_EQ(exchange.groups_of(4 * size()), 2);
  EXPECT_EQ(exchange.groups_of(3 * size()), 1);
  EXPECT_EQ(exchange.groups_of(size()), 1);
  EXPECT_EQ(exchange.groups_of(1), 1);
}

TEST_P(HeadExchangeTest, RefusesHeadsThatDoNotDivide) {
  const Arena::Scope scope((*context_)->arena);
  HeadExchange exchange(**context_, 1);
  const std::int64_t heads = size() + 1;
  const Tensor tokens = upload(values(1, 0, 2, 0, heads), {1, 2, heads, kHeadDim});
  EXPECT_THROW(exchange.make_heads(tokens, 1), InvalidArgument);
}

std::string device_name(const ::testing::TestParamInfo<DeviceType>& device) {
  return device.param == DeviceType::kCuda ? "cuda" : "cpu";
}
INSTANTIATE_TEST_SUITE_P(Devices, HeadExchangeTest,
                         ::testing::Values(DeviceType::kCpu, DeviceType::kCuda), device_name);

}  // namespace
}  // namespace ringtrain

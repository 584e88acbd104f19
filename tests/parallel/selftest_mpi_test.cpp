// The self-test finds the groups of real meshes right, and groups that move nothing wrong.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ringtrain/parallel/selftest.h"
#include "support/rank_context.h"
#include "support/test_context.h"
#include "support/test_world.h"

namespace ringtrain {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{1} << 20;

SelftestOptions options_of(const MeshShape& mesh, LayoutKind layout) {
  const std::int64_t tokens = std::int64_t{32} * mesh.sp;
  return {.num_elements = 10007,
          .repeats = 2,
          .rotates = true,
          .block = AttentionBlock{.layout = {layout, tokens, mesh.sp, mesh.ulysses},
                                  .batch = 1,
                                  .heads = 4,
                                  .kv_heads = 2,
                                  .head_dim = 16,
                                  .dtype = DType::kFloat32,
                                  .query_chunk_size = 0,
                                  .key_chunk_size = 0,
                                  .head_groups = layout == LayoutKind::kZigzag ? 1 : 2}};
}

Selftest::Rank rank_of(Context& context) {
  return {context.device, context.ops, context.mesh, context.compute, context.ring};
}

std::vector<std::string> names_of(const Selftest& test) {
  std::vector<std::string> names;
  for (const auto& each : test.findings()) {
    names.push_back(each.group + " " + each.operation + " " + std::to_string(each.num_ranks));
  }
  return names;
}

struct SelftestCase {
  int ranks;  // that it is for
  std::string mesh;
  int ulysses;
  bool rotates;
  std::vector<std::string> names;
};

const std::vector<SelftestCase> kCases{
    {2, "1,1,1,2", 1, true, {"param all_gather 2", "param reduce_scatter 2", "sp exchange 2"}},
    {2,
     "1,1,1,2",
     1,
     false,
     {"param all_gather 2", "param reduce_scatter 2", "sp all_gather 2", "sp reduce_scatter 2"}},
    {2,
     "1,1,1,2",
     2,
     true,
     {"param all_gather 2", "param reduce_scatter 2", "ulysses all_to_all 2"}},
    {4, "2,1,2,1", 1, true, {"tp all_reduce 2", "dp all_reduce 2"}},
    {4,
     "1,1,1,4",
     2,
     true,
     {"param all_gather 4", "param reduce_scatter 4", "ulysses all_to_all 2", "sp exchange 2"}},
    {8,
     "1,2,2,2",
     1,
     true,
     {"tp all_reduce 2", "param all_gather 4", "param reduce_scatter 4", "sp exchange 2"}},
};

TEST(SelftestOnMeshes, FindsEveryGroupRight) {
  for (const SelftestCase& c : kCases) {
    if (c.ranks != test_world().size()) continue;
    SCOPED_TRACE(c.mesh + " in ulysses groups of " + std::to_string(c.ulysses));
    TestContext context(test_world(), c.mesh, DeviceType::kCpu, DType::kFloat32, kArenaBytes,
                        c.ulysses);
    for (const LayoutKind layout : {LayoutKind::kZigzag, LayoutKind::kContiguous}) {
      SelftestOptions options = options_of(context->mesh.shape, layout);
      options.rotates = c.rotates;
      Selftest test(rank_of(*context), options);
      test.combine(test_world());
      EXPECT_TRUE(test.passes()) << test.to_table();
      EXPECT_EQ(names_of(test), c.names);
      for (const auto& each : test.findings()) {
        EXPECT_GT(each.bytes_per_s, 0);
        const bool is_message = each.operation == "exchange" || each.operation == "all_to_all";
        EXPECT_EQ(each.carrier, is_message ? "MPI" : "");
      }
      EXPECT_EQ(test.to_table().find("GB/s a rank by MPI\n") != std::string::npos,
                test.findings().back().carrier == "MPI");
      EXPECT_EQ(test.to_table().find("attention block") != std::string::npos,
                c.rotates && context->mesh.ring->size() > 1)
          << test.to_table();
    }
  }
}

TEST(SelftestOnMeshes, WrongOnOneRankIsWrongOnAll) {
  const auto device = make_cpu_device();
  RankContext alone(*device, make_meta_mesh({1, 1, 2, 1}, {}));  // sums nothing
  TestContext whole(test_world(), "1,1,-1,1", DeviceType::kCpu, DType::kFloat32, kArenaBytes);
  const SelftestOptions options = options_of({}, LayoutKind::kZigzag);
  Selftest right(rank_of(*whole), options);
  EXPECT_TRUE(right.passes());
  Selftest wrong(rank_of(*alone), options);
  EXPECT_FALSE(wrong.passes());
  Selftest& own = test_world().rank() == 0 ? wrong : right;
  own.combine(test_world());
  EXPECT_FALSE(own.passes());
  EXPECT_NE(own.to_table().find("WRONG"), std::string::npos) << own.to_table();
}

TEST(SelftestOnMeshes, GroupsThatMoveNothingAreWrong) {
  const auto device = make_cpu_device();
  MeshShape shape{2, 1, 2, 4};
  shape.ulysses = 2;
  RankContext context(*device, make_meta_mesh(shape, {1, 0, 1, 3}));
  SelftestOptions options = options_of(shape, LayoutKind::kZigzag);
  for (const bool rotates : {true, false}) {
    options.rotates = rotates;
    const Selftest test(rank_of(*context), options);
    EXPECT_EQ(test.findings().size(), rotates ? 6u : 7u);
    for (const auto& each : test.findings()) {
      EXPECT_FALSE(each.is_right) << each.group << " " << each.operation;
    }
  }
}

}  // namespace
}  // namespace ringtrain

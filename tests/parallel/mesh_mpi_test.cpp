#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <tuple>
#include <vector>

#include "ringtrain/core/error.h"
#include "ringtrain/parallel/mesh.h"
#include "support/test_group.h"

namespace ringtrain {
namespace {

/// The ranks of `group`, found by gathering.
std::vector<double> members(TestGroup& test, Communicator& group) {
  const Tensor own = test.upload({static_cast<double>(test_world().rank())}, DType::kInt32);
  const Tensor all = test.results(group.size(), DType::kInt32);
  group.all_gather(own, all, test.stream());
  return test.download(all);
}

/// Every shape whose product is `size`.
std::vector<MeshShape> shapes_of(int size) {
  std::vector<MeshShape> shapes;
  for (int dp = 1; dp <= size; ++dp) {
    for (int fsdp = 1; dp * fsdp <= size; ++fsdp) {
      for (int tp = 1; dp * fsdp * tp <= size; ++tp) {
        if (size % (dp * fsdp * tp) == 0) {
          shapes.push_back({dp, fsdp, tp, size / (dp * fsdp * tp)});
        }
      }
    }
  }
  return shapes;
}

class MakeMeshTest : public ::testing::TestWithParam<std::tuple<DeviceType, std::string>> {
 protected:
  void SetUp() override { RT_SKIP_WITHOUT_DEVICE(std::get<0>(GetParam())); }
  void TearDown() override {
    if (!IsSkipped()) group().release();
  }
  TestGroup& group() { return TestGroup::shared(std::get<0>(GetParam())); }
};

TEST_P(MakeMeshTest, GroupsHoldTheRanksThatDifferInTheirAxisAlone) {
  const std::string& order = std::get<1>(GetParam());
  for (const MeshShape& shape : shapes_of(test_world().size())) {
    SCOPED_TRACE(shape.to_string());
    const Mesh mesh = make_mesh(group().world(), group().device(), shape, order);
    const MeshCoordinates at = mesh.coordinates;
    std::vector<double> ring(static_cast<std::size_t>(shape.sp));
    std::vector<double> tp(static_cast<std::size_t>(shape.tp));
    std::vector<double> param(static_cast<std::size_t>(shape.num_param_shards()));
    std::vector<double> dp(static_cast<std::size_t>(shape.dp));
    for (int rank = 0; rank < shape.size(); ++rank) {
      const auto other = mesh_coordinates(rank, shape, order);
      const bool same_dp = other.dp == at.dp, same_fsdp = other.fsdp == at.fsdp;
      const bool same_tp = other.tp == at.tp, same_sp = other.sp == at.sp;
      if (same_dp && same_fsdp && same_tp) ring[static_cast<std::size_t>(other.sp)] = rank;
      if (same_dp && same_fsdp && same_sp) tp[static_cast<std::size_t>(other.tp)] = rank;
      if (same_dp && same_tp) {
        param[static_cast<std::size_t>(other.fsdp * shape.sp + other.sp)] = rank;
      }
      if (same_fsdp && same_tp && same_sp) dp[static_cast<std::size_t>(other.dp)] = rank;
    }
    EXPECT_EQ(members(group(), *mesh.ring), ring);
    EXPECT_EQ(members(group(), *mesh.tp), tp);
    EXPECT_EQ(members(group(), *mesh.param), param);
    EXPECT_EQ(members(group(), *mesh.dp), dp);
    EXPECT_EQ(mesh.ring->rank(), at.sp);
    EXPECT_EQ(mesh.tp->rank(), at.tp);
    EXPECT_EQ(mesh.param->rank(), at.fsdp * shape.sp + at.sp);
    EXPECT_EQ(mesh.dp->rank(), at.dp);
    EXPECT_EQ(mesh.ring->name() + mesh.tp->name() + mesh.param->name() + mesh.dp->name(),
              "sptpparamdp");
  }
}

std::string name_of_case(
    const ::testing::TestParamInfo<std::tuple<DeviceType, std::string>>& info) {
  const auto& [device, order] = info.param;
  return (device == DeviceType::kCuda ? "cuda_" : "cpu_") + order.substr(0, order.find(',')) +
         "_first";
}
INSTANTIATE_TEST_SUITE_P(Orders, MakeMeshTest,
                         ::testing::Combine(::testing::Values(DeviceType::kCpu, DeviceType::kCuda),
                                            ::testing::Values("tp,sp,fsdp,dp", "dp,fsdp,sp,tp")),
                         name_of_case);

TEST_P(MakeMeshTest, UlyssesGroupsAreNeighboursOnTheSpAxis) {
  const std::string& order = std::get<1>(GetParam());
  for (MeshShape shape : shapes_of(test_world().size())) {
    for (shape.ulysses = 1; shape.ulysses <= shape.sp; ++shape.ulysses) {
      if (shape.sp % shape.ulysses != 0) continue;
      SCOPED_TRACE(shape.to_string());
      const Mesh mesh = make_mesh(group().world(), group().device(), shape, order);
      const MeshCoordinates at = mesh.coordinates;
      std::vector<double> ring(static_cast<std::size_t>(shape.ring_size()));
      std::vector<double> ulysses(static_cast<std::size_t>(shape.ulysses));
      for (int rank = 0; rank < shape.size(); ++rank) {
        const auto other = mesh_coordinates(rank, shape, order);
        if (other.dp != at.dp || other.fsdp != at.fsdp || other.tp != at.tp) continue;
        const int outer = other.sp / shape.ulysses, inner = other.sp % shape.ulysses;
        if (inner == at.sp % shape.ulysses) ring[static_cast<std::size_t>(outer)] = rank;
        if (outer == at.sp / shape.ulysses) ulysses[static_cast<std::size_t>(inner)] = rank;
      }
      EXPECT_EQ(members(group(), *mesh.ring), ring);
      EXPECT_EQ(members(group(), *mesh.ulysses), ulysses);
      EXPECT_EQ(mesh.ulysses->name(), "ulysses");
    }
  }
}

TEST(MakeMesh, RefusesAShapeOfAnotherSize) {
  TestGroup& group = TestGroup::shared(DeviceType::kCpu);
  const MeshShape shape{1, 1, 1, test_world().size() + 1};
  EXPECT_THROW(make_mesh(group.world(), group.device(), shape, "tp,sp,fsdp,dp"), InvalidArgument);
}

}  // namespace
}  // namespace ringtrain

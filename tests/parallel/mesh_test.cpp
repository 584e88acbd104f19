#include "ringtrain/parallel/mesh.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

std::string parse_error(std::string_view text, int world_size) {
  try {
    return "parsed as " + parse_mesh(text, world_size).to_string();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
}

TEST(ParseMesh, ReadsSizesAndNames) {
  EXPECT_EQ(parse_mesh("1,2,3,4", 24).to_string(), "dp=1,fsdp=2,tp=3,sp=4");
  EXPECT_EQ(parse_mesh("1, 2, 3, 4", 24).to_string(), "dp=1,fsdp=2,tp=3,sp=4");
  EXPECT_EQ(parse_mesh("!1,2,3,4", 24).to_string(), "dp=1,fsdp=2,tp=3,sp=4");
  EXPECT_EQ(parse_mesh("sp:4,dp:1,tp:3,fsdp:2", 24).to_string(), "dp=1,fsdp=2,tp=3,sp=4");
  EXPECT_EQ(parse_mesh("!dp:1,fsdp:-1,tp:1,sp:2", 8).to_string(), "dp=1,fsdp=4,tp=1,sp=2");
}

TEST(ParseMesh, OneSizeTakesTheRest) {
  EXPECT_EQ(parse_mesh("1,-1,1,1", 8).to_string(), "dp=1,fsdp=8,tp=1,sp=1");
  EXPECT_EQ(parse_mesh("-1,1,2,2", 8).to_string(), "dp=2,fsdp=1,tp=2,sp=2");
  EXPECT_EQ(parse_mesh("1,2,2,-1", 4).to_string(), "dp=1,fsdp=2,tp=2,sp=1");
}

TEST(ParseMesh, ErrorsHaveTheArithmetic) {
  EXPECT_EQ(parse_error("1,1,4,64", 8), "mesh_dim 1,1,4,64 needs 256 ranks, the world has 8");
  EXPECT_EQ(parse_error("1,1,1,1", 8), "mesh_dim 1,1,1,1 needs 1 rank, the world has 8");
  EXPECT_EQ(parse_error("1,-1,3,1", 8),
            "mesh_dim 1,-1,3,1 needs a multiple of 3 ranks, the world has 8");
  EXPECT_EQ(parse_error("-1,-1,1,1", 8), "mesh_dim -1,-1,1,1: only one size may be -1");
}

TEST(ParseMesh, RefusesWhatIsNoMesh) {
  for (const char* text :
       {"", "8", "1,1,8", "1,1,1,1,8", "1,1,1,x", "1,1,1,8x", "0,1,1,8", "1,1,-2,8", "1,,1,8",
        "dp:1,fsdp:1,tp:1,pp:8", "dp:1,fsdp:1,tp:1,tp:8", "dp:1,1,1,8", "1,1,1,sp:8",
        "65536,65536,65536,65536", "99999999999,1,1,1"}) {
    EXPECT_THROW(parse_mesh(text, 8), InvalidArgument) << text;
  }
}

TEST(ParseUlysses, RingUlyssesAndHybrid) {
  EXPECT_EQ(parse_ulysses("ring", 0, 8), 1);
  EXPECT_EQ(parse_ulysses("ring", 1, 8), 1);
  EXPECT_EQ(parse_ulysses("ulysses", 0, 8), 8);
  EXPECT_EQ(parse_ulysses("ulysses", 8, 8), 8);
  EXPECT_EQ(parse_ulysses("hybrid", 2, 8), 2);
  EXPECT_EQ(parse_ulysses("hybrid", 1, 1), 1);
}

TEST(ParseUlysses, ContradictionsNameTheLegalSizes) {
  const auto error = [](std::string_view sp_type, std::int64_t size, int sp) -> std::string {
    try {
      return "parsed as " + std::to_string(parse_ulysses(sp_type, size, sp));
    } catch (const InvalidArgument& refusal) {
      return refusal.what();
    }
  };
  EXPECT_EQ(error("hybrid", 0, 12),
            "--sp_type=hybrid needs --ulysses_size, a divisor of sp 12: one of 1, 2, 3, 4, 6, 12; "
            "got 0");
  EXPECT_EQ(error("hybrid", 5, 8),
            "--sp_type=hybrid needs --ulysses_size, a divisor of sp 8: one of 1, 2, 4, 8; got 5");
  EXPECT_EQ(error("ring", 2, 8),
            "--ulysses_size=2 contradicts --sp_type=ring, which means 1 on an sp axis of 8; give "
            "--sp_type=hybrid");
  EXPECT_EQ(error("ulysses", 2, 8),
            "--ulysses_size=2 contradicts --sp_type=ulysses, which means 8 on an sp axis of 8; "
            "give --sp_type=hybrid");
  EXPECT_EQ(error("star", 0, 8), "--sp_type=star is unknown; expected ring, ulysses or hybrid");
  EXPECT_EQ(error("hybrid", -2, 8).substr(0, 10), "--sp_type=");
}

TEST(MeshCoordinates, TheFirstAxisOfTheOrderHasAdjacentRanks) {
  const MeshShape shape{2, 3, 2, 4};
  const auto place = mesh_coordinates(29, shape, "tp,sp,fsdp,dp");
  // 29 = 1 + 2 (2 + 4 (0 + 3 * 1))
  EXPECT_EQ(place.tp, 1);
  EXPECT_EQ(place.sp, 2);
  EXPECT_EQ(place.fsdp, 0);
  EXPECT_EQ(place.dp, 1);
}

TEST(MeshCoordinates, EveryOrderIsABijection) {
  const MeshShape shape{2, 3, 2, 4};
  std::array<std::string, 4> axes{"dp", "fsdp", "sp", "tp"};
  int orders = 0;
  do {
    const std::string order = axes[0] + "," + axes[1] + "," + axes[2] + "," + axes[3];
    std::set<std::tuple<int, int, int, int>> places;
    for (int rank = 0; rank < shape.size(); ++rank) {
      const auto at = mesh_coordinates(rank, shape, order);
      ASSERT_TRUE(at.dp >= 0 && at.dp < 2 && at.fsdp >= 0 && at.fsdp < 3) << order;
      ASSERT_TRUE(at.tp >= 0 && at.tp < 2 && at.sp >= 0 && at.sp < 4) << order;
      places.emplace(at.dp, at.fsdp, at.tp, at.sp);
    }
    EXPECT_EQ(places.size(), static_cast<std::size_t>(shape.size())) << order;
    const auto next = mesh_coordinates(1, shape, order);
    const int moved = axes[0] == "dp"     ? next.dp
                      : axes[0] == "fsdp" ? next.fsdp
                      : axes[0] == "tp"   ? next.tp
                                          : next.sp;
    EXPECT_EQ(moved, 1) << "rank 1 is the neighbour on " << axes[0] << " in " << order;
    ++orders;
  } while (std::next_permutation(axes.begin(), axes.end()));
  EXPECT_EQ(orders, 24);
}

TEST(MeshCoordinates, RefusesWhatIsNoOrder) {
  const MeshShape shape{1, 1, 1, 1};
  for (const char* order :
       {"", "tp", "tp,sp,fsdp", "tp,sp,fsdp,fsdp", "tp,sp,fsdp,pp", "tp,sp,fsdp,dp,dp"}) {
    EXPECT_THROW(mesh_coordinates(0, shape, order), InvalidArgument) << order;
  }
  EXPECT_THROW(mesh_coordinates(1, shape, "tp,sp,fsdp,dp"), InvalidArgument);
}

TEST(MakeMesh, MetaDeviceNeedsNoRanks) {
  const auto device = make_meta_device();
  const MeshShape shape{2, 3, 2, 4};
  const auto world = make_meta_communicator("world", 29, shape.size());
  const Mesh mesh = make_mesh(*world, *device, shape, "tp,sp,fsdp,dp");
  EXPECT_EQ(mesh.ring->size(), 4);
  EXPECT_EQ(mesh.ring->rank(), 2);
  EXPECT_EQ(mesh.tp->size(), 2);
  EXPECT_EQ(mesh.tp->rank(), 1);
  EXPECT_EQ(mesh.param->size(), 12);
  EXPECT_EQ(mesh.param->rank(), 2);
  EXPECT_EQ(mesh.dp->size(), 2);
  EXPECT_EQ(mesh.dp->rank(), 1);
  EXPECT_EQ(mesh.ring->name(), "sp");
  EXPECT_EQ(mesh.batch_shard(), 3);
  EXPECT_THROW(make_mesh(*world, *device, {1, 1, 1, 1}, "tp,sp,fsdp,dp"), InvalidArgument);
}

}  // namespace
}  // namespace ringtrain

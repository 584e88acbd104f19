#include "ringtrain/parallel/banner.h"

#include <gtest/gtest.h>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

TEST(MeshBanner, ListsEveryRank) {
  EXPECT_EQ(mesh_banner({{"a", "cpu"}, {"a", "cpu"}, {"b", "cpu"}, {"b", "cpu"}}, {1, 1, 2, 2},
                        "tp,sp,fsdp,dp"),
            "mesh dp=1,fsdp=1,tp=2,sp=2 (order tp,sp,fsdp,dp)\n"
            "  rank 0  dp 0 fsdp 0 tp 0 sp 0  a: cpu\n"
            "  rank 1  dp 0 fsdp 0 tp 1 sp 0  a: cpu\n"
            "  rank 2  dp 0 fsdp 0 tp 0 sp 1  b: cpu\n"
            "  rank 3  dp 0 fsdp 0 tp 1 sp 1  b: cpu\n");
}

TEST(MeshBanner, WarnsWhereTpCrossesHosts) {
  const std::string text = mesh_banner({{"a", "cpu"}, {"a", "cpu"}, {"b", "cpu"}, {"b", "cpu"}},
                                       {1, 1, 2, 2}, "sp,tp,fsdp,dp");
  EXPECT_NE(text.find("warning: the tp group of ranks 0, 2 crosses hosts a, b"), std::string::npos);
  EXPECT_NE(text.find("warning: the tp group of ranks 1, 3 crosses hosts a, b"), std::string::npos);
}

TEST(MeshBanner, WarnsWhereAUlyssesGroupCrossesHosts) {
  const std::vector<RankPlace> places{{"a", "cpu"}, {"a", "cpu"}, {"b", "cpu"}, {"b", "cpu"}};
  MeshShape shape{1, 1, 1, 4};
  shape.ulysses = 2;
  const std::string inside = mesh_banner(places, shape, "tp,sp,fsdp,dp");
  EXPECT_NE(inside.find("sp=4,ulysses=2"), std::string::npos) << inside;
  EXPECT_EQ(inside.find("warning"), std::string::npos) << inside;
  shape.ulysses = 4;
  const std::string across = mesh_banner(places, shape, "tp,sp,fsdp,dp");
  EXPECT_NE(across.find("warning: the ulysses group of ranks 0, 1, 2, 3 crosses hosts a, b"),
            std::string::npos)
      << across;
}

TEST(MeshBanner, WarnsOfMixedDevices) {
  const std::string same =
      mesh_banner({{"a", "H100 (cuda:0)"}, {"a", "H100 (cuda:1)"}}, {1, 1, 1, 2}, "tp,sp,fsdp,dp");
  EXPECT_EQ(same.find("warning"), std::string::npos) << same;
  const std::string mixed =
      mesh_banner({{"a", "H100 (cuda:0)"}, {"a", "A100 (cuda:1)"}, {"b", "H100 (cuda:0)"}},
                  {1, 1, 1, 3}, "tp,sp,fsdp,dp");
  EXPECT_NE(mixed.find("warning: ranks run on different devices"), std::string::npos) << mixed;
  EXPECT_NE(mixed.find("warning:   A100: rank 1\n"), std::string::npos) << mixed;
  EXPECT_NE(mixed.find("warning:   H100: rank 0, 2\n"), std::string::npos) << mixed;
}

TEST(MeshBanner, NeedsAPlaceForEveryRank) {
  EXPECT_THROW(mesh_banner({{"a", "cpu"}}, {1, 1, 1, 2}, "tp,sp,fsdp,dp"), InvalidArgument);
}

}  // namespace
}  // namespace ringtrain

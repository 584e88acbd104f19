#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "ringtrain/core/error.h"
#include "support/temporary_directory.h"
#include "support/test_world.h"

namespace ringtrain {
namespace {

std::string bytes_of_rank(int rank, std::size_t length) {
  std::string bytes(length, '\0');
  for (std::size_t i = 0; i < length; ++i) {
    bytes[i] = static_cast<char>((i * 31 + static_cast<std::size_t>(rank) * 7) & 0xff);
  }
  return bytes;
}

TEST(World, KnowsItsRanks) {
  World& world = test_world();
  EXPECT_GE(world.rank(), 0);
  EXPECT_LT(world.rank(), world.size());
  EXPECT_GE(world.local_rank(), 0);
  EXPECT_LT(world.local_rank(), world.local_size());
  EXPECT_FALSE(world.host_name().empty());
}

TEST(World, BroadcastsBytesOfAnyRoot) {
  World& world = test_world();
  for (int root = 0; root < world.size(); ++root) {
    for (const std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{100003}}) {
      const std::string expected = bytes_of_rank(root, length);
      const std::string own = world.rank() == root ? expected : std::string("not the root's");
      EXPECT_EQ(world.broadcast(own, root), expected);
    }
  }
  EXPECT_THROW(world.broadcast("", world.size()), InvalidArgument);
}

TEST(World, GathersBytesOfEveryLength) {
  World& world = test_world();
  const auto length = [](int rank) { return static_cast<std::size_t>(rank) * 4099; };
  const auto gathered = world.all_gather(bytes_of_rank(world.rank(), length(world.rank())));
  ASSERT_EQ(gathered.size(), static_cast<std::size_t>(world.size()));
  for (int rank = 0; rank < world.size(); ++rank) {
    EXPECT_EQ(gathered[static_cast<std::size_t>(rank)], bytes_of_rank(rank, length(rank)));
  }
}

TEST(World, SendsLongMessagesInOrder) {
  World& world = test_world();
  const int partner = world.rank() ^ 1;
  if (partner >= world.size()) return;
  const std::string small = bytes_of_rank(world.rank(), 5);
  const std::string large = bytes_of_rank(world.rank(), 3 << 20);
  // All the sends of one side first: the other side must be able to take them meanwhile.
  if (world.rank() < partner) {
    world.send(small, partner);
    world.send("", partner);
    world.send(large, partner);
  }
  EXPECT_EQ(world.receive(partner), bytes_of_rank(partner, 5));
  EXPECT_EQ(world.receive(partner), "");
  EXPECT_EQ(world.receive(partner), bytes_of_rank(partner, 3 << 20));
  if (world.rank() > partner) {
    world.send(small, partner);
    world.send("", partner);
    world.send(large, partner);
  }
}

TEST(World, BuffersSendsOfBothSides) {
  World& world = test_world();
  const int partner = world.rank() ^ 1;
  if (partner >= world.size()) return;
  for (int i = 0; i < 3; ++i) world.send(bytes_of_rank(world.rank(), 300000), partner);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(world.receive(partner), bytes_of_rank(partner, 300000));
}

// The first rank of a pair leaves MPI alone until the second has its message.
TEST(World, FinishedSendsNeedTheirSenderNoLonger) {
  World& world = test_world();
  const int partner = world.rank() ^ 1;
  std::optional<TemporaryDirectory> directory;
  if (world.rank() % 2 == 0) directory.emplace();
  const auto directories = world.all_gather(directory ? directory->path().string() : "");
  if (partner < world.size()) {
    const auto first = static_cast<std::size_t>(std::min(world.rank(), partner));
    const std::filesystem::path received = std::filesystem::path(directories[first]) / "received";
    if (world.rank() < partner) {
      world.send(bytes_of_rank(world.rank(), 300000), partner);
      world.finish_sends();
      for (int i = 0; i < 1000 && !std::filesystem::exists(received); ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      EXPECT_TRUE(std::filesystem::exists(received));
    } else {
      EXPECT_EQ(world.receive(partner), bytes_of_rank(partner, 300000));
      std::ofstream(received) << "yes";
    }
  }
  world.barrier();
}

TEST(World, AnyIsTrueEverywhereOrNowhere) {
  World& world = test_world();
  EXPECT_FALSE(world.any(false));
  EXPECT_TRUE(world.any(world.rank() == world.size() - 1));
}

TEST(World, PostsNeverBlockAndReachEveryRank) {
  World& world = test_world();
  for (int to = 0; to < world.size(); ++to) {
    if (to == world.rank()) continue;
    EXPECT_TRUE(world.post(bytes_of_rank(world.rank(), 100000), to));
  }
  std::vector<int> heard(static_cast<std::size_t>(world.size()), 0);
  heard[static_cast<std::size_t>(world.rank())] = 1;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (std::accumulate(heard.begin(), heard.end(), 0) < world.size() &&
         std::chrono::steady_clock::now() < deadline) {
    if (const auto posted = world.poll()) {
      EXPECT_EQ(posted->bytes, bytes_of_rank(posted->from, 100000));
      ++heard[static_cast<std::size_t>(posted->from)];
    }
    std::this_thread::yield();
  }
  EXPECT_EQ(heard, std::vector<int>(static_cast<std::size_t>(world.size()), 1));
  world.barrier();
  EXPECT_FALSE(world.poll());
}

TEST(World, PostIsRefusedWhileTheLastIsNotTaken) {
  World& world = test_world();
  if (world.rank() == 0) {
    // Too long to be buffered, and rank 1 does not poll before the barrier.
    EXPECT_TRUE(world.post(std::string(8 << 20, 'a'), 1));
    EXPECT_FALSE(world.post("b", 1));
  }
  world.barrier();
  if (world.rank() == 1) {
    std::optional<World::Posted> posted;
    while (!posted) posted = world.poll();
    EXPECT_EQ(posted->bytes.size(), std::size_t{8} << 20);
  }
  world.barrier();
}

TEST(World, DuplicateServesAnotherThread) {
  World& world = test_world();
  const auto plane = world.duplicate();
  EXPECT_EQ(plane->rank(), world.rank());
  EXPECT_EQ(plane->size(), world.size());
  std::vector<std::string> from_thread;
  std::thread thread([&] {
    for (int round = 0; round < 20; ++round) {
      from_thread.push_back(plane->broadcast("thread " + std::to_string(round), 0));
    }
  });
  for (int round = 0; round < 20; ++round) {
    EXPECT_EQ(world.broadcast("main " + std::to_string(round), 0), "main " + std::to_string(round));
  }
  thread.join();
  for (int round = 0; round < 20; ++round) {
    EXPECT_EQ(from_thread[static_cast<std::size_t>(round)], "thread " + std::to_string(round));
  }
}

}  // namespace
}  // namespace ringtrain

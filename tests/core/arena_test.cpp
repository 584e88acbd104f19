#include "ringtrain/core/arena.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "ringtrain/core/device.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

class ArenaTest : public ::testing::Test {
 protected:
  static constexpr std::size_t kBytes = 4 * Arena::kAlignment;
  std::unique_ptr<Device> device_ = make_cpu_device();
  DeviceMemory memory_{*device_, kBytes};
  Arena arena_{memory_.data(), kBytes};
};

TEST_F(ArenaTest, HandsOutAlignedTensorsOneAfterTheOther) {
  const Tensor first = arena_.allocate({3, 5}, DType::kFloat32, MemoryKind::kBatch);
  const Tensor empty = arena_.allocate({0, 7}, DType::kFloat32, MemoryKind::kBatch);
  const Tensor second = arena_.allocate({257}, DType::kFloat32, MemoryKind::kBatch);
  EXPECT_EQ(first.raw(), memory_.data());
  EXPECT_TRUE(empty);  // present, though it has no elements
  EXPECT_EQ(second.data<float>() - first.data<float>(), 256);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(second.raw()) % Arena::kAlignment, 0u);
  EXPECT_EQ(arena_.used(), 3 * Arena::kAlignment);  // 257 floats take two units
}

TEST_F(ArenaTest, ScopeFreesWhatWasAllocatedInIt) {
  arena_.allocate({1}, DType::kInt32, MemoryKind::kParameters);
  void* inner = nullptr;
  {
    const Arena::Scope outer(arena_);
    arena_.allocate({1}, DType::kInt32, MemoryKind::kActivations);
    {
      const Arena::Scope nested(arena_);
      inner = arena_.allocate({1}, DType::kInt32, MemoryKind::kWorkspace).raw();
    }
    EXPECT_EQ(arena_.used(), 2 * Arena::kAlignment);
    EXPECT_EQ(arena_.allocate({1}, DType::kInt32, MemoryKind::kRing).raw(), inner);
  }
  EXPECT_EQ(arena_.used(), Arena::kAlignment);
}

TEST_F(ArenaTest, PeakRemembersWhatItWasMadeOf) {
  arena_.allocate({1}, DType::kInt32, MemoryKind::kParameters);
  {
    const Arena::Scope scope(arena_);
    arena_.allocate({300}, DType::kInt32, MemoryKind::kActivations);
  }
  {
    const Arena::Scope scope(arena_);
    arena_.allocate({1}, DType::kInt32, MemoryKind::kWorkspace);
  }
  const auto by_kind = [&](MemoryKind kind) {
    return arena_.peak_by_kind()[static_cast<std::size_t>(kind)];
  };
  EXPECT_EQ(arena_.peak(), 3 * Arena::kAlignment);
  EXPECT_EQ(by_kind(MemoryKind::kParameters), Arena::kAlignment);
  EXPECT_EQ(by_kind(MemoryKind::kActivations), 2 * Arena::kAlignment);
  EXPECT_EQ(by_kind(MemoryKind::kWorkspace), 0u);
}

TEST_F(ArenaTest, OutOfMemoryNamesWhatWasWantedAndWhatThereIs) {
  arena_.allocate({1}, DType::kInt32, MemoryKind::kParameters);
  try {
    arena_.allocate({4, 256}, DType::kFloat32, MemoryKind::kActivations);
    FAIL() << "4096 bytes do not fit into 3072";
  } catch (const DeviceError& error) {
    const std::string text = error.what();
    for (const char* part : {"activations", "[4, 256]", "fp32", "4096", "1024 of 4096"}) {
      EXPECT_NE(text.find(part), std::string::npos) << "no " << part << " in: " << text;
    }
  }
  EXPECT_EQ(arena_.used(), Arena::kAlignment);
  EXPECT_NO_THROW(arena_.allocate({768}, DType::kFloat32, MemoryKind::kActivations));
}

TEST_F(ArenaTest, RefusesUnalignedMemory) {
  EXPECT_THROW(Arena(static_cast<std::byte*>(memory_.data()) + 512, 1024), DeviceError);
}

TEST(MeasuringArenaTest, HasNoBoundAndMeasures) {
  Arena arena = Arena::measuring();
  constexpr std::int64_t kTebi = std::int64_t{1} << 40;
  const Tensor tensor = arena.allocate({kTebi}, DType::kFloat32, MemoryKind::kActivations);
  EXPECT_TRUE(tensor);
  EXPECT_EQ(arena.peak(), std::size_t{4} << 40);
}

}  // namespace
}  // namespace ringtrain

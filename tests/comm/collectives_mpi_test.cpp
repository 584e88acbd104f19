// Every collective on every device and dtype, on integers small enough for bf16, so that any order
// of summation gives the same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "ringtrain/comm/mpi_communicator.h"
#include "ringtrain/core/error.h"
#include "support/test_group.h"

namespace ringtrain {
namespace {

constexpr std::int64_t kLengths[] = {1, 3, 1000, 70001};

/// What rank `rank` has at element i: 0 to 6, so sums over 8 ranks are exact in bf16.
double value_of(int rank, std::int64_t i) {
  return static_cast<double>((i * 3 + rank * 5 + 1) % 7);
}
std::vector<double> values_of(int rank, std::int64_t length, std::int64_t first = 0) {
  std::vector<double> values(static_cast<std::size_t>(length));
  for (std::int64_t i = 0; i < length; ++i) {
    values[static_cast<std::size_t>(i)] = value_of(rank, first + i);
  }
  return values;
}
double reduced(ReduceOp op, int size, std::int64_t i) {
  double result = value_of(0, i);
  for (int rank = 1; rank < size; ++rank) {
    const double value = value_of(rank, i);
    result = op == ReduceOp::kSum   ? result + value
             : op == ReduceOp::kMax ? std::max(result, value)
                                    : std::min(result, value);
  }
  return result;
}
std::vector<double> reduced(ReduceOp op, int size, std::int64_t first, std::int64_t length) {
  std::vector<double> values(static_cast<std::size_t>(length));
  for (std::int64_t i = 0; i < length; ++i) {
    values[static_cast<std::size_t>(i)] = reduced(op, size, first + i);
  }
  return values;
}

/// Device, dtype, whether MPI has to cut every tensor into short pieces, and whether copy engines
/// carry messages.
struct CollectiveCase {
  DeviceType device;
  DType dtype;
  bool in_pieces = false;
  bool copied = false;
};

class CollectivesTest : public ::testing::TestWithParam<CollectiveCase> {
 protected:
  void SetUp() override {
    RT_SKIP_WITHOUT_DEVICE(GetParam().device);
    if (GetParam().in_pieces) {
      variant_ = make_mpi_communicator(test_world(), group().device(), 1001);
    }
    if (GetParam().copied) {
      variant_ = group().world().split("copied", 0, group().world().rank(),
                                       {.transport = Transport::kCopyEngines});
    }
  }
  void TearDown() override {
    variant_.reset();
    if (!IsSkipped()) group().release();
  }
  TestGroup& group() { return TestGroup::shared(GetParam().device); }
  Communicator& world() { return variant_ ? *variant_ : group().world(); }
  Stream& stream() { return group().stream(); }
  DType dtype() const { return GetParam().dtype; }
  int rank() { return world().rank(); }
  int size() { return world().size(); }

 private:
  std::unique_ptr<Communicator> variant_;  // of the world
};

TEST_P(CollectivesTest, SaysWhatCarriesMessages) {
  const std::string expected = GetParam().copied                        ? "copy engines"
                               : GetParam().device == DeviceType::kCuda ? "NCCL"
                                                                        : "MPI";
  EXPECT_EQ(world().carrier(), size() == 1 ? "" : expected);
}

TEST_P(CollectivesTest, AllReduce) {
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
    for (const std::int64_t length : kLengths) {
      const Tensor inout = group().upload(values_of(rank(), length), dtype());
      world().all_reduce(inout, op, stream());
      EXPECT_EQ(group().download(inout), reduced(op, size(), 0, length));
    }
  }
}

TEST_P(CollectivesTest, AllGather) {
  for (const std::int64_t length : kLengths) {
    std::vector<double> expected;
    for (int from = 0; from < size(); ++from) {
      const auto part = values_of(from, length);
      expected.insert(expected.end(), part.begin(), part.end());
    }
    const Tensor shard = group().upload(values_of(rank(), length), dtype());
    const Tensor whole = group().results(length * size(), dtype());
    world().all_gather(shard, whole, stream());
    EXPECT_EQ(group().download(whole), expected);

    std::vector<double> own(expected.size(), -7);
    std::copy_n(values_of(rank(), length).begin(), length, own.begin() + rank() * length);
    const Tensor in_place = group().upload(own, dtype());
    world().all_gather(in_place.slice(rank() * length, length), in_place, stream());
    EXPECT_EQ(group().download(in_place), expected) << "in place";
  }
}

TEST_P(CollectivesTest, ReduceScatter) {
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
    for (const std::int64_t length : kLengths) {
      const auto expected = reduced(op, size(), rank() * length, length);
      const Tensor whole = group().upload(values_of(rank(), length * size()), dtype());
      const Tensor shard = group().results(length, dtype());
      world().reduce_scatter(whole, shard, op, stream());
      EXPECT_EQ(group().download(shard), expected);

      const Tensor place = whole.slice(rank() * length, length);
      world().reduce_scatter(whole, place, op, stream());
      EXPECT_EQ(group().download(place), expected) << "in place";
    }
  }
}

TEST_P(CollectivesTest, AllToAll) {
  for (const std::int64_t length : kLengths) {
    const Tensor sent = group().upload(values_of(rank(), length * size()), dtype());
    const Tensor received = group().results(length * size(), dtype());
    world().all_to_all(sent, received, stream());
    std::vector<double> expected;
    for (int from = 0; from < size(); ++from) {
      const auto part = values_of(from, length, rank() * length);
      expected.insert(expected.end(), part.begin(), part.end());
    }
    EXPECT_EQ(group().download(received), expected);
  }
}

TEST_P(CollectivesTest, BroadcastFromEveryRoot) {
  for (int root = 0; root < size(); ++root) {
    for (const std::int64_t length : kLengths) {
      const Tensor inout = group().upload(values_of(rank(), length), dtype());
      world().broadcast(inout, root, stream());
      EXPECT_EQ(group().download(inout), values_of(root, length));
    }
  }
}

TEST_P(CollectivesTest, RingExchangeOfTwoTensorsAtOnce) {
  const int next = (rank() + 1) % size();
  const int previous = (rank() + size() - 1) % size();
  for (const std::int64_t length : kLengths) {
    const std::int64_t longer = 2 * length + 1;
    Tensor key = group().upload(values_of(rank(), length), dtype());
    Tensor value = group().upload(values_of(rank(), longer, 11), dtype());
    Tensor next_key = group().results(length, dtype());
    Tensor next_value = group().results(longer, dtype());
    for (int hop = 1; hop <= size(); ++hop) {
      const Transfer transfers[] = {{key, next, next_key, previous},
                                    {value, next, next_value, previous}};
      world().exchange(transfers, stream());
      std::swap(key, next_key);
      std::swap(value, next_value);
      const int origin = (rank() + size() - hop % size()) % size();
      ASSERT_EQ(group().download(key), values_of(origin, length)) << "hop " << hop;
      ASSERT_EQ(group().download(value), values_of(origin, longer, 11)) << "hop " << hop;
    }
  }
}

TEST_P(CollectivesTest, ExchangeOfManyTensorsWithEveryRank) {
  constexpr std::int64_t kTensors = 100, kLength = 3;
  const Tensor sent = group().upload(values_of(rank(), kTensors * kLength), dtype());
  std::vector<Tensor> received;
  std::vector<Transfer> transfers;
  for (int peer = 0; peer < size(); ++peer) {
    received.push_back(group().results(kTensors * kLength, dtype()));
    for (std::int64_t i = 0; i < kTensors; ++i) {
      transfers.push_back({sent.slice(i * kLength, kLength), peer,
                           received.back().slice(i * kLength, kLength), peer});
    }
  }
  world().exchange(transfers, stream());
  for (int peer = 0; peer < size(); ++peer) {
    EXPECT_EQ(group().download(received[static_cast<std::size_t>(peer)]),
              values_of(peer, kTensors * kLength));
  }
}

TEST_P(CollectivesTest, ExchangeAlongALineLeavesTheEndsOut) {
  const Tensor sent = group().upload(values_of(rank(), 100), dtype());
  const Tensor received = group().results(100, dtype());
  const bool is_first = rank() == 0;
  const bool is_last = rank() == size() - 1;
  const Transfer transfer{is_last ? Tensor() : sent, rank() + 1, is_first ? Tensor() : received,
                          rank() - 1};
  world().exchange({&transfer, 1}, stream());
  EXPECT_EQ(group().download(received),
            is_first ? std::vector<double>(100, -7) : values_of(rank() - 1, 100));
}

TEST_P(CollectivesTest, SplitGroupsAreIndependentAndOrderedByKey) {
  // Even and odd ranks, in descending order of their ranks in the world.
  const auto half = world().split("half", rank() % 2, -rank(), {.nccl_blocks = 2});
  EXPECT_EQ(half->name(), "half");
  ASSERT_EQ(half->size(), size() / 2);
  EXPECT_EQ(half->rank(), (size() - 1 - rank()) / 2);
  const Tensor shard = group().upload(values_of(rank(), 77), dtype());
  const Tensor whole = group().results(77 * half->size(), dtype());
  half->all_gather(shard, whole, stream());
  std::vector<double> expected;
  for (int from = size() - 2 + rank() % 2; from >= 0; from -= 2) {
    const auto part = values_of(from, 77);
    expected.insert(expected.end(), part.begin(), part.end());
  }
  EXPECT_EQ(group().download(whole), expected);

  const auto alone = half->split("alone", rank(), 0, {});
  EXPECT_EQ(alone->size(), 1);
  EXPECT_EQ(alone->name(), "alone");
  const Tensor copy = group().results(77, dtype());
  alone->all_gather(shard, copy, stream());
  EXPECT_EQ(group().download(copy), values_of(rank(), 77));
}

TEST_P(CollectivesTest, OperationsOfOneStreamAreOrdered) {
  const int next = (rank() + 1) % size();
  const int previous = (rank() + size() - 1) % size();
  const Tensor value = group().upload(values_of(rank(), 5000), dtype());
  const Tensor hop = group().results(5000, dtype());
  const Tensor whole = group().results(5000 * size(), dtype());
  const Transfer transfer{value, next, hop, previous};
  world().exchange({&transfer, 1}, stream());
  world().broadcast(value, 0, stream());  // must not overtake the exchange that reads `value`
  world().all_gather(hop, whole, stream());
  EXPECT_EQ(group().download(value), values_of(0, 5000));
  std::vector<double> expected;
  for (int from = 0; from < size(); ++from) {
    const auto part = values_of((from + size() - 1) % size(), 5000);
    expected.insert(expected.end(), part.begin(), part.end());
  }
  EXPECT_EQ(group().download(whole), expected);
}

TEST_P(CollectivesTest, AnExchangeDoesNotHoldUpTheHostOrAnotherStream) {
  const int next = (rank() + 1) % size();
  const int previous = (rank() + size() - 1) % size();
  const auto ring = group().device().make_stream(StreamPriority::kHigh);
  const auto arrived = group().device().make_event();
  const Tensor value = group().upload(values_of(rank(), 300000), dtype());
  const Tensor hop = group().results(300000, dtype());
  const Tensor other = group().results(300000, dtype());
  const Transfer transfer{value, next, hop, previous};
  world().exchange({&transfer, 1}, *ring);  // NCCL connects the peers at their first exchange
  ring->synchronise();
  // Rank 0 starts its part after every other rank has started theirs and worked beside it; if
  // exchange or the other stream waited for the peer, none would get there.
  World& control = test_world();
  const bool hosts_meet = GetParam().copied;  // and tell each other where copies go
  if (rank() == 0 && !hosts_meet) {
    for (int from = 1; from < size(); ++from) EXPECT_EQ(control.receive(from), "worked");
  }
  world().exchange({&transfer, 1}, *ring);
  ring->record(*arrived);
  group().device().copy_on_device(other.raw(), value.raw(), value.bytes(), stream());
  stream().synchronise();
  if (rank() != 0 && !hosts_meet) control.send("worked", 0);
  stream().wait(*arrived);
  EXPECT_EQ(group().download(hop), values_of(previous, 300000));
  EXPECT_EQ(group().download(other), values_of(rank(), 300000));
  ring->synchronise();
}

TEST_P(CollectivesTest, MisfitsAreRefusedBeforeAnythingIsSent) {
  const Tensor three = group().results(3, dtype());
  const Tensor many = group().results(3 * size() + 1, dtype());
  EXPECT_THROW(world().all_gather(three, many, stream()), InvalidArgument);
  EXPECT_THROW(world().reduce_scatter(many, three, ReduceOp::kSum, stream()), InvalidArgument);
  EXPECT_THROW(world().all_to_all(many, many, stream()), InvalidArgument);
  EXPECT_THROW(world().broadcast(three, size(), stream()), InvalidArgument);
  const Transfer transfer{three, -1, three, 0};
  EXPECT_THROW(world().exchange({&transfer, 1}, stream()), InvalidArgument);
  const Tensor half(three.raw(), DType::kFloat16, {1});
  EXPECT_THROW(world().all_reduce(half, ReduceOp::kSum, stream()), InvalidArgument);
  EXPECT_NO_THROW(world().check());
}

std::vector<CollectiveCase> all_cases() {
  std::vector<CollectiveCase> cases;
  for (const DType dtype :
       {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kInt32, DType::kInt64}) {
    cases.push_back({DeviceType::kCpu, dtype});
    cases.push_back({DeviceType::kCuda, dtype});
  }
  cases.push_back({DeviceType::kCpu, DType::kFloat32, /*in_pieces=*/true});
  cases.push_back({DeviceType::kCpu, DType::kBFloat16, /*in_pieces=*/true});
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    cases.push_back({.device = DeviceType::kCuda, .dtype = dtype, .copied = true});
  }
  return cases;
}

std::string name_of_case(const ::testing::TestParamInfo<CollectiveCase>& info) {
  const CollectiveCase& c = info.param;
  return (c.device == DeviceType::kCuda ? "cuda_" : "cpu_") + std::string(name_of(c.dtype)) +
         (c.in_pieces ? "_in_pieces" : "") + (c.copied ? "_copied" : "");
}
INSTANTIATE_TEST_SUITE_P(Groups, CollectivesTest, ::testing::ValuesIn(all_cases()), name_of_case);

TEST(MpiCommunicator, CarriesBigTensors) {
  TestGroup& group = TestGroup::shared(DeviceType::kCpu);
  const std::int64_t length = (std::int64_t{16} << 20) + 3;
  std::vector<float> values(static_cast<std::size_t>(length));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(i % 1024) + static_cast<float>(group.world().rank());
  }
  group.world().all_reduce(Tensor(values.data(), DType::kFloat32, {length}), ReduceOp::kSum,
                           group.stream());
  group.stream().synchronise();
  const auto size = static_cast<std::size_t>(group.world().size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(values[i], static_cast<float>(size * (i % 1024) + size * (size - 1) / 2)) << i;
  }
}

}  // namespace
}  // namespace ringtrain

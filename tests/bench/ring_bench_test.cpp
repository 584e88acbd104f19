// The emulated ring gives the answers of unsplit attention, and its link is as slow as asked.
#include "ringtrain/bench/ring_bench.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

#include "ringtrain/bench/emulated_link.h"
#include "ringtrain/core/error.h"
#include "support/gpu.h"

namespace ringtrain {
namespace {

struct RingCase {
  std::string name;
  DeviceType device = DeviceType::kCpu;
  DType compute = DType::kFloat32;
  RingBenchCase what{};
  bool deterministic = false;  // else steps overlap on a GPU
};

std::ostream& operator<<(std::ostream& out, const RingCase& c) {
  return out << c.name;
}

RingBenchCase small(int num_ranks, LayoutKind layout, std::int64_t batch = 1) {
  return {.num_ranks = num_ranks,
          .seq_length = 26,
          .batch = batch,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 16,
          .layout = layout,
          .link = {.bytes_per_s = 1e9, .latency_s = 1e-5}};
}

std::vector<RingCase> ring_cases() {
  std::vector<RingCase> cases;
  for (const LayoutKind layout :
       {LayoutKind::kContiguous, LayoutKind::kStriped, LayoutKind::kZigzag}) {
    for (const int ranks : {1, 2, 3, 4, 8}) {
      for (const std::int64_t batch : {1, 3}) {
        cases.push_back({.name = std::string(name_of(layout)) + std::to_string(ranks) + "batch" +
                                 std::to_string(batch),
                         .what = small(ranks, layout, batch)});
      }
    }
  }
  RingBenchCase tiny = small(2, LayoutKind::kZigzag);
  tiny.seq_length = 2;
  cases.push_back({.name = "two_tokens", .what = tiny});
  tiny = small(3, LayoutKind::kStriped);
  tiny.seq_length = 1;
  cases.push_back({.name = "one_token", .what = tiny});
  RingBenchCase rounded = small(8, LayoutKind::kZigzag);
  rounded.gradient_dtype = DType::kBFloat16;
  cases.push_back({.name = "gradients_in_bf16", .what = rounded});
  // On a GPU, sizes that its kernels cut into several tiles, and both transports.
  RingBenchCase gpu = small(4, LayoutKind::kZigzag);
  gpu.seq_length = 1024;
  gpu.head_dim = 128;
  gpu.link.bytes_per_s = 100e9;
  for (const LayoutKind layout : {LayoutKind::kStriped, LayoutKind::kZigzag}) {
    gpu.layout = layout;
    const auto add = [&](const std::string& name) {
      RingCase each{"gpu_" + std::string(name_of(layout)) + name, DeviceType::kCuda,
                    DType::kBFloat16, gpu};
      cases.push_back(each);
      each.name += "_deterministic";
      each.deterministic = true;
      cases.push_back(each);
    };
    gpu.link.transport = LinkTransport::kDeviceCopies;
    add("_copy");
    gpu.link.transport = LinkTransport::kProcessors;
    add("_sm");
  }
  gpu = tiny;
  gpu.link.transport = LinkTransport::kProcessors;
  gpu.head_dim = 64;
  cases.push_back({"gpu_one_token_sm", DeviceType::kCuda, DType::kBFloat16, gpu});
  return cases;
}

class Ring : public ::testing::TestWithParam<RingCase> {
  void SetUp() override {
    if (GetParam().device == DeviceType::kCuda) RT_SKIP_WITHOUT_GPU();
  }
};

TEST_P(Ring, EqualsUnsplitAttention) {
  const RingCase& c = GetParam();
  const bool on_gpu = c.device == DeviceType::kCuda;
  const auto device = on_gpu ? make_cuda_device(0) : make_cpu_device();
  const auto ops = on_gpu ? make_cuda_backend(*device, c.deterministic) : make_cpu_backend();
  const RingCheck check = check_ring(*device, *ops, c.compute, c.what);
  EXPECT_TRUE(check.passes()) << check.ring.out << " " << check.ring.dquery << " "
                              << check.ring.dkey_value;
}

INSTANTIATE_TEST_SUITE_P(Cases, Ring, ::testing::ValuesIn(ring_cases()),
                         [](const auto& each) { return each.param.name; });

RingCheck check_on_cpu(int num_ranks, DType compute, DType gradient_dtype) {
  RingBenchCase what = small(num_ranks, LayoutKind::kZigzag);
  what.seq_length = 512 / num_ranks;
  what.head_dim = 64;
  what.gradient_dtype = gradient_dtype;
  const auto device = make_cpu_device();
  const auto ops = make_cpu_backend();
  return check_ring(*device, *ops, compute, what);
}

TEST(RingGradients, DoNotGetWorseWithTheRing) {
  for (const DType compute : {DType::kFloat32, DType::kBFloat16}) {
    for (const int ranks : {1, 2, 3, 4, 6, 8}) {
      if (512 % (2 * ranks) != 0) continue;
      const RingCheck check = check_on_cpu(ranks, compute, DType::kFloat32);
      EXPECT_TRUE(check.passes()) << ranks << " ranks";
    }
  }
}

// The table of docs/ring.md.
TEST(RingGradients, RoundedToBf16OnceAHop) {
  double before = 0;
  for (const int ranks : {2, 4, 8}) {
    const RingCheck check = check_on_cpu(ranks, DType::kBFloat16, DType::kBFloat16);
    EXPECT_TRUE(check.passes()) << ranks << " ranks";
    EXPECT_GT(check.ring.dkey_value, before) << "nothing was rounded";
    before = check.ring.dkey_value;
    std::printf("[ error    ] %d ranks: %.1e\n", ranks, check.ring.dkey_value);
  }
}

TEST(RingBench, TellsWhenAHopIsHidden) {
  RingBenchCase what = small(4, LayoutKind::kZigzag);
  what.seq_length = 64;
  const auto device = make_cpu_device();
  const auto ops = make_cpu_backend();
  const RingBenchResult result = time_ring(*device, *ops, DType::kFloat32, what, 1, 3);
  for (const RingPass& pass : {result.forward, result.backward, result.both()}) {
    EXPECT_GT(pass.ring_s, 0);
    EXPECT_GT(pass.compute_s, 0);
    EXPECT_GT(pass.whole_s, 0);
    EXPECT_GE(pass.exposed_share(), 0);
  }
  // Keys and values of 64 tokens, 2 heads of 16 fp32; backward also their gradients.
  EXPECT_EQ(result.forward_hop.bytes, 2 * 64 * 2 * 16 * 4);
  EXPECT_EQ(result.backward_hop.bytes, 2 * result.forward_hop.bytes);
  // Keys and values are a message, their gradients two.
  const auto time_of = [&](const HiddenHop& hop, int messages) {
    return hop.bytes / what.link.bytes_per_s + messages * what.link.latency_s;
  };
  EXPECT_DOUBLE_EQ(result.forward_hop.hop_s, time_of(result.forward_hop, 1));
  EXPECT_DOUBLE_EQ(result.backward_hop.hop_s, time_of(result.backward_hop, 3));
  for (const HiddenHop& hop : {result.forward_hop, result.backward_hop}) {
    // At the least number of tokens, a step takes as long as its hop.
    const double scale = static_cast<double>(hop.least_tokens) / 64;
    const double latency = hop.hop_s - hop.bytes / what.link.bytes_per_s;
    const double hop_s = scale * (hop.hop_s - latency) + latency;
    EXPECT_GE(scale * scale * hop.step_s, hop_s * 0.999);
    const double fewer = static_cast<double>(hop.least_tokens - 1) / 64;
    EXPECT_LE(fewer * fewer * hop.step_s, fewer * (hop.hop_s - latency) + latency);
  }
}

TEST(RingBench, RefusesSizesThatDoNotFit) {
  RingBenchCase what = small(2, LayoutKind::kZigzag);
  what.rank = 2;
  EXPECT_THROW(what.sequence_layout(), InvalidArgument);
  what = small(2, LayoutKind::kZigzag);
  what.kv_heads = 3;
  EXPECT_THROW(what.sequence_layout(), InvalidArgument);
  what = small(2, LayoutKind::kZigzag);
  what.seq_length = 25;
  EXPECT_THROW(what.sequence_layout(), InvalidArgument);
}

struct CopierCase {
  std::string name;
  DeviceType device;
  LinkTransport transport;
};

std::ostream& operator<<(std::ostream& out, const CopierCase& c) {
  return out << c.name;
}

class Copier : public ::testing::TestWithParam<CopierCase> {
  void SetUp() override {
    if (GetParam().device == DeviceType::kCuda) RT_SKIP_WITHOUT_GPU();
  }
};

TEST_P(Copier, BringsAMessageAtTheRateOfTheLink) {
  const bool on_gpu = GetParam().device == DeviceType::kCuda;
  const auto device = on_gpu ? make_cuda_device(0) : make_cpu_device();
  const auto stream = device->make_stream(StreamPriority::kHigh);
  constexpr std::size_t kBytes = (std::size_t{6} << 20) + 48;  // no whole number of chunks
  const LinkModel link{
      .bytes_per_s = 1e9, .latency_s = 1e-3, .transport = GetParam().transport, .processors = 3};
  const auto copier = make_paced_copier(*device, link);
  const DeviceMemory from(*device, kBytes);
  const DeviceMemory to(*device, kBytes);
  std::vector<char> sent(kBytes);
  for (std::size_t i = 0; i < kBytes; ++i) sent[i] = static_cast<char>(i * 7 + i / 251);
  device->copy_to_device(from.data(), sent.data(), kBytes, *stream);
  stream->synchronise();
  const auto begin = device->make_timed_event();
  const auto end = device->make_timed_event();
  const auto at = [](const DeviceMemory& memory, std::size_t offset) {
    return static_cast<char*>(memory.data()) + offset;
  };
  constexpr std::size_t kFirst = 1600;
  for (int i = 0; i < 2; ++i) {  // the first call also loads the kernels
    stream->record(*begin);
    const std::vector<CopyPiece> message{{at(to, 0), at(from, 0), kFirst},
                                         {at(to, kFirst), at(from, kFirst), kBytes - kFirst}};
    copier->copy(message, *stream);
    stream->record(*end);
    stream->synchronise();
  }
  std::vector<char> received(kBytes);
  device->copy_to_host(received.data(), to.data(), kBytes, *stream);
  stream->synchronise();
  EXPECT_EQ(received, sent);
  const double least_s = link.latency_s + static_cast<double>(kBytes) / link.bytes_per_s;
  EXPECT_GE(end->seconds_since(*begin), 0.99 * least_s);
  // A CPU may be busy with other things.
  if (on_gpu) {
    EXPECT_LE(end->seconds_since(*begin), 1.1 * least_s);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Transports, Copier,
    ::testing::Values(CopierCase{"cpu", DeviceType::kCpu, LinkTransport::kDeviceCopies},
                      CopierCase{"device_copies", DeviceType::kCuda, LinkTransport::kDeviceCopies},
                      CopierCase{"processors", DeviceType::kCuda, LinkTransport::kProcessors}),
    [](const auto& each) { return each.param.name; });

TEST(ResidentCopier, CarriesOnFromStartToStop) {
  RT_SKIP_WITHOUT_GPU();
  const auto device = make_cuda_device(0);
  const auto stream = device->make_stream(StreamPriority::kHigh);
  constexpr std::int64_t kValues = 1 << 20;
  const DeviceMemory memory(*device, 4 * kValues * sizeof(float));
  const Tensor all(memory.data(), DType::kFloat32, {4, kValues});
  std::vector<float> values(kValues);
  std::iota(values.begin(), values.end(), 1.0f);
  device->copy_to_device(all[0].raw(), values.data(), all[0].bytes(), *stream);
  const auto copier = make_paced_copier(
      *device, {.bytes_per_s = 1e12, .latency_s = 0, .transport = LinkTransport::kProcessors});
  const auto hop = [&](int from) {
    copier->copy(std::vector<CopyPiece>{{all[from + 1].raw(), all[from].raw(), all[0].bytes()}},
                 *stream);
  };
  copier->start(*stream);
  hop(0);
  hop(1);
  copier->stop(*stream);
  copier->start(*stream);
  hop(2);
  copier->stop(*stream);
  std::vector<float> received(kValues);
  device->copy_to_host(received.data(), all[3].raw(), all[3].bytes(), *stream);
  stream->synchronise();
  EXPECT_EQ(received, values);
  copier->start(*stream);  // and is destroyed meanwhile
}

TEST(ResidentCopier, LeavesSomeProcessors) {
  RT_SKIP_WITHOUT_GPU();
  const auto device = make_cuda_device(0);
  for (const int processors : {0, 1000}) {
    const LinkModel link{.transport = LinkTransport::kProcessors, .processors = processors};
    EXPECT_THROW(make_paced_copier(*device, link), InvalidArgument) << processors;
  }
}

TEST(EmulatedLink, ReplaysWhatTheRankBeforeHasSent) {
  const auto device = make_cpu_device();
  const auto stream = device->make_stream(StreamPriority::kHigh);
  const auto copier = make_paced_copier(*device, {.bytes_per_s = 1e9, .latency_s = 0});
  std::vector<float> sent(8, 3.0f);
  std::vector<float> received(8);
  const Tensor out(sent.data(), DType::kFloat32, {8});
  const Tensor in(received.data(), DType::kFloat32, {8});
  const auto hop = [&](EmulatedLink& link) {
    const int size = link.size();
    const Transfer transfer{out, (link.rank() + 1) % size, in, (link.rank() + size - 1) % size};
    link.exchange(std::vector{transfer}, *stream);
    stream->synchronise();
  };
  SentMessages of_rank_1;
  EmulatedLink before(*device, 1, 4);
  hop(before);
  EXPECT_EQ(received[0], 0) << "without a copier nothing arrives";
  before.carry_by(copier.get());
  before.replay(nullptr, &of_rank_1);
  hop(before);
  EXPECT_EQ(received[7], 3) << "its own";
  ASSERT_EQ(of_rank_1.size(), 1u);
  sent.assign(8, 5.0f);
  EmulatedLink link(*device, 2, 4);
  link.carry_by(copier.get());
  link.replay(&of_rank_1, nullptr);
  hop(link);
  EXPECT_EQ(received[7], 3) << "of the rank before";
  hop(link);
  EXPECT_EQ(received[7], 5) << "beyond what was kept";
  const Transfer backwards{out, 1, in, 3};
  EXPECT_THROW(link.exchange(std::vector{backwards}, *stream), InvalidArgument);
  EXPECT_THROW(link.broadcast(out, 0, *stream), InvalidArgument);
}

}  // namespace
}  // namespace ringtrain

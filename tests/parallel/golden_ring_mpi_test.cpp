// Ring and gathered attention against the original's ring attention (tests/golden/ring): the
// answer does not depend on the number of ranks, the ulysses size, the layout, the transport or the
// chunk sizes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "ringtrain/checkpoint/safetensors.h"
#include "ringtrain/parallel/sequence_attention.h"
#include "support/golden.h"
#include "support/gpu.h"
#include "support/host_tensor.h"
#include "support/test_context.h"
#include "support/test_world.h"

namespace ringtrain {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{64} << 20;
constexpr double kTolerance = 1e-5;

/// A whole array [B, S, N, H] and the rows of it that one rank holds.
class Sequence {
 public:
  Sequence(const SafetensorsReader& file, const std::string& name)
      : shape_(file.entry(name).shape), values_(file.floats(name)) {}
  const Shape& shape() const { return shape_; }

  HostTensor rows(const std::vector<std::int32_t>& positions) const {
    const std::int64_t row = shape_[2] * shape_[3];
    HostTensor part(
        Shape{shape_[0], static_cast<std::int64_t>(positions.size()), shape_[2], shape_[3]});
    std::int64_t at = 0;
    for (std::int64_t b = 0; b < shape_[0]; ++b) {
      for (const std::int32_t position : positions) {
        for (std::int64_t i = 0; i < row; ++i) {
          part[at++] = values_[static_cast<std::size_t>((b * shape_[1] + position) * row + i)];
        }
      }
    }
    return part;
  }

 private:
  Shape shape_;
  std::vector<float> values_;
};

std::vector<float> floats(const HostTensor& tensor) {
  return {tensor.values.begin(), tensor.values.end()};
}

class GoldenRing : public ::testing::TestWithParam<DeviceType> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceType::kCuda) RT_SKIP_WITHOUT_GPU();
  }

  Tensor upload(Context& context, const HostTensor& values) {
    const Tensor tensor =
        context.arena.allocate(values.shape, DType::kFloat32, MemoryKind::kActivations);
    const std::vector<float> host = floats(values);
    context.device.copy_to_device(tensor.raw(), host.data(), tensor.bytes(), context.compute);
    context.compute.synchronise();
    return tensor;
  }

  HostTensor download(Context& context, Tensor tensor) {
    std::vector<float> host(static_cast<std::size_t>(tensor.num_elements()));
    context.device.copy_to_host(host.data(), tensor.raw(), tensor.bytes(), context.compute);
    context.compute.synchronise();
    return {tensor.shape(), {host.begin(), host.end()}};
  }

  void expect_golden(Context& context, const SafetensorsReader& file, LayoutKind kind,
                     const SequenceAttentionOptions& options) {
    const Arena::Scope scope(context.arena);
    const Sequence q(file, "q");
    const MeshShape& mesh = context.mesh.shape;
    const SequenceLayout layout(kind, q.shape()[1], mesh.sp, mesh.ulysses);
    const auto positions = layout.positions(context.mesh.coordinates.sp);
    const auto part = [&](const char* name) { return Sequence(file, name).rows(positions); };
    SequenceAttention attention(context, {layout}, options);

    const Tensor query = upload(context, part("q"));
    const HostTensor key = part("k");
    HostTensor both(Shape{2, key.shape[0], key.shape[1], key.shape[2], key.shape[3]});
    const HostTensor value = part("v");
    std::copy(key.values.begin(), key.values.end(), both.values.begin());
    std::copy(value.values.begin(), value.values.end(), both.values.begin() + key.size());
    const Tensor key_value = upload(context, both);
    const auto allocate = [&](Shape shape) {
      return context.arena.allocate(shape, DType::kFloat32, MemoryKind::kActivations);
    };
    const Tensor out = allocate(query.shape());
    const Tensor lse = allocate({query.size(0), query.size(2), query.size(1)});
    attention.forward({query, key_value, {}, out, lse});
    const Tensor dout = upload(context, part("dout"));
    const Tensor dquery = allocate(query.shape());
    const Tensor dkey_value = allocate(key_value.shape());
    attention.backward({query, key_value, {}, out, lse, dout, dquery, dkey_value});

    EXPECT_LE(relative_l2(download(context, out), part("out")), kTolerance);
    EXPECT_LE(relative_l2(download(context, dquery), part("dq")), kTolerance);
    // A rounding of bf16 in every hop.
    const double rounded = std::sqrt(context.mesh.ring->size()) / 512;
    const double tolerance =
        options.gradient_dtype == DType::kFloat32 ? kTolerance : kTolerance + rounded;
    EXPECT_LE(relative_l2(download(context, dkey_value[0]), part("dk")), tolerance);
    EXPECT_LE(relative_l2(download(context, dkey_value[1]), part("dv")), tolerance);
  }

  void expect_golden_all_ways(Context& context, const SafetensorsReader& file,
                              const std::string& name) {
    for (const LayoutKind layout :
         {LayoutKind::kContiguous, LayoutKind::kStriped, LayoutKind::kZigzag}) {
      for (const KeyValueTransport transport :
           {KeyValueTransport::kRing, KeyValueTransport::kGather}) {
        for (const auto& [query_chunk, key_chunk] :
             {std::pair<std::int64_t, std::int64_t>{0, 0}, {8, 8}, {13, 5}}) {
          SCOPED_TRACE(::testing::Message()
                       << name << " ulysses " << context.mesh.shape.ulysses << " layout "
                       << name_of(layout) << " transport " << static_cast<int>(transport)
                       << " chunks " << query_chunk << ", " << key_chunk);
          expect_golden(context, file, layout, {transport, query_chunk, key_chunk});
        }
      }
      SCOPED_TRACE(::testing::Message() << name << " gradients in bf16, " << name_of(layout));
      expect_golden(context, file, layout, {.gradient_dtype = DType::kBFloat16});
    }
  }
};

TEST_P(GoldenRing, EqualsTheOriginal) {
  const auto cases = golden_cases("ring", ".safetensors");
  ASSERT_FALSE(cases.empty()) << "no cases in " << golden_directory() / "ring";
  World& world = test_world();
  for (int ulysses = 1; ulysses <= world.size(); ulysses *= 2) {
    TestContext context(world, "1,1,1,-1", GetParam(), DType::kFloat32, kArenaBytes, ulysses);
    for (const auto& path : cases) {
      if (world.rank() == 0) std::printf("[ case     ] %s\n", path.filename().c_str());
      const SafetensorsReader file(path.string() + ".safetensors");
      if (file.entry("q").shape[2] % ulysses != 0) continue;
      expect_golden_all_ways(*context, file, path.filename().string());
    }
  }
}

std::string device_name(const ::testing::TestParamInfo<DeviceType>& device) {
  return device.param == DeviceType::kCuda ? "cuda" : "cpu";
}
INSTANTIATE_TEST_SUITE_P(Devices, GoldenRing,
                         ::testing::Values(DeviceType::kCpu, DeviceType::kCuda), device_name);

}  // namespace
}  // namespace ringtrain

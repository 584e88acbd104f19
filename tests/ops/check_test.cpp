#include "ringtrain/ops/check.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "ringtrain/core/arena.h"
#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

/// Shapes only: the tensors lie in the meta device's arena.
class CheckTest : public ::testing::Test {
 protected:
  Tensor tensor(Shape shape, DType dtype = DType::kFloat32) {
    return arena_.allocate(shape, dtype, MemoryKind::kActivations);
  }
  Tensor integers(Shape shape) { return tensor(shape, DType::kInt32); }

  /// `check` throws an InvalidArgument that holds every one of `parts`.
  static void expect_error(const std::function<void()>& check,
                           const std::vector<std::string>& parts) {
    try {
      check();
      FAIL() << "accepted, though it should name " << parts.front();
    } catch (const InvalidArgument& error) {
      for (const std::string& part : parts) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
            << "no '" << part << "' in: " << error.what();
      }
    }
  }

  AttentionForwardArgs attention() {
    return {.query = tensor({2, 8, 4, 16}),
            .key = tensor({2, 6, 2, 16}),
            .value = tensor({2, 6, 2, 16}),
            .partial = {},
            .lse = tensor({2, 4, 8}),
            .out = tensor({2, 8, 4, 16}),
            .mask = {.query_positions = integers({8}),
                     .key_positions = integers({6}),
                     .lowest_visible = {}},
            .softmax_scale = 1};
  }
  RmsNormArgs rms_norm() {
    return {.x = tensor({3, 8}),
            .weight = tensor({8}),
            .out = tensor({3, 8}),
            .rstd = tensor({3}),
            .eps = 1e-5f};
  }

  Arena arena_ = Arena::measuring();
};

TEST_F(CheckTest, NamesOperationTensorAndBothShapes) {
  RmsNormArgs args = rms_norm();
  EXPECT_NO_THROW(check_args(args));
  args.weight = tensor({4});
  expect_error([&] { check_args(args); }, {"rms_norm", "weight", "[4]", "[8]"});
}

TEST_F(CheckTest, NamesWrongAndAbsentTensors) {
  RmsNormArgs args = rms_norm();
  args.rstd = tensor({3}, DType::kBFloat16);
  expect_error([&] { check_args(args); }, {"rms_norm", "rstd", "bf16", "fp32"});
  args.rstd = {};
  expect_error([&] { check_args(args); }, {"rstd", "absent"});
  args = rms_norm();
  args.x = tensor({3, 8}, DType::kInt32);
  expect_error([&] { check_args(args); }, {"x", "int32", "fp32 or bf16"});
  args.x = tensor({3, 2, 4});
  expect_error([&] { check_args(args); }, {"x", "[3, 2, 4]", "2 dimensions"});
}

TEST_F(CheckTest, ComputeTypesAreNotMixed) {
  RmsNormArgs args = rms_norm();
  args.x = tensor({3, 8}, DType::kBFloat16);
  expect_error([&] { check_args(args); }, {"weight", "fp32", "bf16"});
}

TEST_F(CheckTest, MatmulFollowsTheTransposes) {
  MatmulArgs args{.a = tensor({5, 3}), .b = tensor({7, 3}), .out = tensor({5, 7})};
  expect_error([&] { check_args(args); }, {"matmul", "[5, 3]", "[7, 3]"});
  args.transpose_b = true;
  EXPECT_NO_THROW(check_args(args));
  args.out = tensor({7, 5});
  expect_error([&] { check_args(args); }, {"out", "[7, 5]", "[5, 7]"});
  args.out = tensor({5, 7});
  args.addend = tensor({7, 5});
  expect_error([&] { check_args(args); }, {"addend", "[7, 5]", "[5, 7]"});
  args.addend = tensor({5, 7});
  EXPECT_NO_THROW(check_args(args));
  args.accumulate = true;
  expect_error([&] { check_args(args); }, {"matmul", "out and addend"});
  args.addend = {};
  args.out = tensor({5, 7}, DType::kBFloat16);
  expect_error([&] { check_args(args); }, {"out", "bf16", "fp32"});
}

TEST_F(CheckTest, SwigluMatmulWantsAResultAndTwiceTheRows) {
  SwigluMatmulArgs args{.x = tensor({5, 3}), .weight = tensor({8, 3}), .gate_up = {}, .out = {}};
  expect_error([&] { check_args(args); }, {"swiglu_matmul", "out", "absent"});
  args.gate_up = tensor({5, 8});
  EXPECT_NO_THROW(check_args(args));
  args.out = tensor({5, 8});
  expect_error([&] { check_args(args); }, {"out", "[5, 8]", "[5, 4]"});
  args.weight = tensor({7, 3});
  expect_error([&] { check_args(args); }, {"weight", "[7, 3]", "gate"});

  SwigluMatmulBackwardArgs backward{.dout = tensor({5, 3}),
                                    .weight = tensor({3, 4}),
                                    .gate_up = tensor({5, 8}),
                                    .dgate_up = tensor({5, 8}),
                                    .activation = {}};
  EXPECT_NO_THROW(check_args(backward));
  backward.dgate_up = tensor({5, 4});
  expect_error([&] { check_args(backward); }, {"swiglu_matmul_backward", "[5, 4]", "[5, 8]"});
  backward.weight = tensor({4, 3});
  expect_error([&] { check_args(backward); }, {"dout", "[5, 3]", "[4, 3]"});
}

TEST_F(CheckTest, AttentionHeadsAndState) {
  AttentionForwardArgs args = attention();
  EXPECT_NO_THROW(check_args(args));
  args.last = false;
  expect_error([&] { check_args(args); }, {"attention_forward", "partial"});
  args.partial = tensor({2, 8, 4, 16});
  args.out = {};
  EXPECT_NO_THROW(check_args(args));
  args.key = args.value = tensor({2, 6, 3, 16});
  expect_error([&] { check_args(args); }, {"key", "[2, 6, 3, 16]", "[2, 8, 4, 16]"});
  args = attention();
  args.mask.lowest_visible = integers({8});
  expect_error([&] { check_args(args); }, {"lowest_visible", "[8]", "[2, 8]"});
  args = attention();
  args.query_chunk_size = -1;
  expect_error([&] { check_args(args); }, {"chunk", "-1"});
}

TEST_F(CheckTest, AttentionSkipsKeysOfOneSequence) {
  const AttentionForwardArgs forward = attention();
  AttentionBackwardArgs args{.query = tensor({1, 8, 4, 16}),
                             .key = tensor({1, 6, 2, 16}),
                             .value = tensor({1, 6, 2, 16}),
                             .dout = tensor({1, 8, 4, 16}),
                             .lse = tensor({1, 4, 8}),
                             .delta = tensor({1, 4, 8}),
                             .dquery = tensor({1, 8, 4, 16}),
                             .dkey = tensor({1, 6, 2, 16}),
                             .dvalue = tensor({1, 6, 2, 16}),
                             .mask = forward.mask,
                             .softmax_scale = 1};
  args.skipped = {2, 4};
  EXPECT_NO_THROW(check_args(args));
  for (const SkippedKeys keys : {SkippedKeys{2, 5}, SkippedKeys{-1, 2}, SkippedKeys{2, -1}}) {
    args.skipped = keys;
    expect_error([&] { check_args(args); }, {"attention_backward", "skipped"});
  }
  args.skipped = {2, 4};
  args.query = args.dout = args.dquery = tensor({2, 8, 4, 16});
  args.lse = args.delta = tensor({2, 4, 8});
  args.key = args.value = args.dkey = args.dvalue = tensor({2, 6, 2, 16});
  expect_error([&] { check_args(args); }, {"attention_backward", "skipped"});
}

TEST_F(CheckTest, RopePacksAllHeads) {
  RopeSplitArgs args{.qkv = tensor({1, 5, 8, 6}),
                     .positions = integers({5}),
                     .inverse_frequency = tensor({3}),
                     .query = tensor({1, 5, 4, 6}),
                     .key_value = tensor({2, 1, 5, 2, 6})};
  EXPECT_NO_THROW(check_args(args));
  args.qkv = tensor({1, 5, 7, 6});
  expect_error([&] { check_args(args); }, {"rope_split", "[1, 5, 7, 6]", "[1, 5, 8, 6]"});
}

TEST_F(CheckTest, VocabularyAndOptimizerLimits) {
  CrossEntropyStatsArgs stats{.logits = tensor({3, 10}),
                              .targets = integers({3}),
                              .stats = tensor({4, 3}),
                              .first_index = 0,
                              .num_valid = 11};
  expect_error([&] { check_args(stats); }, {"num_valid", "11", "[3, 10]"});
  AdamWArgs adamw{.param = tensor({6}),
                  .grad = tensor({6}),
                  .factor = tensor({2}),
                  .m = tensor({6}, DType::kBFloat16),
                  .v = tensor({6}),
                  .learning_rate = 1,
                  .b1 = 0.9,
                  .b2 = 0.9,
                  .eps = 1e-8,
                  .weight_decay = 0,
                  .step = 1};
  EXPECT_NO_THROW(check_args(adamw));
  adamw.step = 0;
  expect_error([&] { check_args(adamw); }, {"adamw", "step", "0"});
  expect_error([&] { check_cast(tensor({3}), tensor({4}, DType::kBFloat16)); },
               {"cast", "[4]", "[3]"});
  expect_error([&] { check_add(tensor({3}), integers({3})); }, {"add", "int32"});
}

TEST_F(CheckTest, MetaBackendChecksAndTouchesNothing) {
  const auto device = make_meta_device();
  const auto stream = device->make_stream(StreamPriority::kNormal);
  const auto backend = make_meta_backend(4096);
  EXPECT_EQ(backend->workspace_bytes(), 4096u);
  AttentionForwardArgs args = attention();
  EXPECT_NO_THROW(backend->attention_forward(args, *stream));
  args.lse = tensor({2, 4, 7});
  EXPECT_THROW(backend->attention_forward(args, *stream), InvalidArgument);
  EXPECT_NO_THROW(backend->fill(tensor({1 << 20}), 1, *stream));
}

}  // namespace
}  // namespace ringtrain

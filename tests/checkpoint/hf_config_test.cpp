#include "ringtrain/checkpoint/hf_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "ringtrain/checkpoint/file.h"
#include "ringtrain/config/model_file.h"
#include "ringtrain/core/error.h"
#include "support/golden.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

using nlohmann::json;

json base() {
  return {{"vocab_size", 96},
          {"hidden_size", 48},
          {"intermediate_size", 80},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"model_type", "llama"},
          {"architectures", json::array({"LlamaForCausalLM"})}};
}

ModelConfig read(const json& text) {
  const TemporaryDirectory folder;
  replace_text(folder / "config.json", text.dump());
  return read_model_config(folder / "config.json");
}

TEST(HfConfigTest, MissingKeysTakeTheDefaultsOfTransformers) {
  const ModelConfig config = read(base());
  EXPECT_EQ(config.vocab_size, 96);
  EXPECT_EQ(config.kv_heads(), 4);
  EXPECT_EQ(config.head_size(), 12);
  EXPECT_EQ(config.max_sequence_length, 2048);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.rope_theta, 10000.0);
  EXPECT_EQ(config.rope_scaling, RopeScaling{});
  EXPECT_FALSE(config.tie_word_embeddings);
}

TEST(HfConfigTest, RopeAtTheTopLevel) {
  json text = base();
  text["rope_theta"] = 5e5;
  text["max_position_embeddings"] = 131072;
  text["rope_scaling"] = {{"type", "linear"}, {"factor", 4}};
  const ModelConfig linear = read(text);
  EXPECT_EQ(linear.rope_theta, 5e5);
  EXPECT_EQ(linear.rope_scaling.type, "linear");
  EXPECT_EQ(linear.rope_scaling.factor, 4.0);

  text["rope_scaling"] = {{"rope_type", "llama3"},
                          {"factor", 32.0},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", 8192}};
  const ModelConfig llama3 = read(text);
  EXPECT_EQ(llama3.rope_scaling.type, "llama3");
  EXPECT_EQ(llama3.rope_scaling.factor, 32.0);
  EXPECT_EQ(llama3.rope_scaling.original_max_position_embeddings, 8192);
  text["rope_scaling"] = nullptr;
  EXPECT_EQ(read(text).rope_scaling.type, "default");
}

TEST(HfConfigTest, RopeParametersOfTransformers5) {
  const ModelConfig config =
      read_model_config(golden_directory() / "hf" / "gqa_tied_llama3" / "config.json");
  EXPECT_EQ(config.rope_theta, 5e5);
  EXPECT_EQ(config.rope_scaling.type, "llama3");
  EXPECT_EQ(config.rope_scaling.factor, 8.0);
  EXPECT_EQ(config.rope_scaling.high_freq_factor, 4.0);
  EXPECT_EQ(config.rope_scaling.original_max_position_embeddings, 64);
  EXPECT_EQ(config.num_key_value_heads, 2);
  EXPECT_EQ(config.head_dim, 12);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_TRUE(config.tie_word_embeddings);
}

TEST(HfConfigTest, ListOfEndTokensGivesTheFirst) {
  json text = base();
  text["eos_token_id"] = {128001, 128008};
  text["bos_token_id"] = 128000;
  EXPECT_EQ(read(text).eos_token_id, 128001);
  EXPECT_EQ(read(text).bos_token_id, 128000);
}

TEST(HfConfigTest, WritesWhatItReads) {
  for (const char* name : {"llama1", "gqa_tied_llama3", "head_dim100"}) {
    SCOPED_TRACE(name);
    const ModelConfig config = read_model_config(golden_directory() / "hf" / name / "config.json");
    const json text = json::parse(hf_config_text(config, DType::kBFloat16));
    EXPECT_EQ(text["architectures"], json::array({"LlamaForCausalLM"}));
    EXPECT_EQ(text["torch_dtype"], "bfloat16");
    EXPECT_EQ(text["dtype"], "bfloat16");
    EXPECT_EQ(text["rope_parameters"]["rope_theta"], config.rope_theta);
    EXPECT_EQ(text["rope_theta"], config.rope_theta);
    EXPECT_EQ(text["rope_scaling"].is_null(), config.rope_scaling.type == "default");
    const ModelConfig again = read(text);
    EXPECT_EQ(again.vocab_size, config.vocab_size);
    EXPECT_EQ(again.hidden_size, config.hidden_size);
    EXPECT_EQ(again.intermediate_size, config.intermediate_size);
    EXPECT_EQ(again.num_hidden_layers, config.num_hidden_layers);
    EXPECT_EQ(again.num_attention_heads, config.num_attention_heads);
    EXPECT_EQ(again.num_key_value_heads, config.num_key_value_heads);
    EXPECT_EQ(again.head_dim, config.head_dim);
    EXPECT_EQ(again.max_sequence_length, config.max_sequence_length);
    EXPECT_EQ(again.rms_norm_eps, config.rms_norm_eps);
    EXPECT_EQ(again.initializer_range, config.initializer_range);
    EXPECT_EQ(again.tie_word_embeddings, config.tie_word_embeddings);
    EXPECT_EQ(again.rope_theta, config.rope_theta);
    EXPECT_EQ(again.rope_scaling, config.rope_scaling);
    EXPECT_EQ(again.bos_token_id, config.bos_token_id);
    EXPECT_EQ(again.eos_token_id, config.eos_token_id);
  }
}

struct Refusal {
  std::string name;
  json change;  // merged into base(); null removes a key
  std::string expected;
};

class HfConfigRefusalTest : public ::testing::TestWithParam<Refusal> {};

TEST_P(HfConfigRefusalTest, NamesFileAndKey) {
  json text = base();
  text.merge_patch(GetParam().change);
  try {
    read(text);
    FAIL() << "accepted";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("config.json"), std::string::npos) << message;
    EXPECT_NE(message.find(GetParam().expected), std::string::npos) << message;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Configs, HfConfigRefusalTest,
    ::testing::Values(
        Refusal{"other_type", {{"model_type", "mistral"}}, "mistral"},
        Refusal{"other_architecture", {{"architectures", {"MistralForCausalLM", "x"}}}, "Mistral"},
        Refusal{"attention_bias", {{"attention_bias", true}}, "attention_bias"},
        Refusal{"mlp_bias", {{"mlp_bias", true}}, "mlp_bias"},
        Refusal{"gelu", {{"hidden_act", "gelu"}}, "gelu"},
        Refusal{"quantised", {{"quantization_config", {{"bits", 4}}}}, "quantization_config"},
        Refusal{"yarn", {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4}}}}, "yarn"},
        Refusal{"no_factor", {{"rope_scaling", {{"rope_type", "linear"}}}}, "factor"},
        Refusal{"no_size", {{"hidden_size", nullptr}}, "hidden_size"},
        Refusal{"text_for_number", {{"vocab_size", "many"}}, "vocab_size"},
        Refusal{"zero_layers", {{"num_hidden_layers", 0}}, "num_hidden_layers must be at least 1"}),
    [](const auto& refusal) { return refusal.param.name; });

TEST(HfConfigTest, BrokenJsonNamesTheFile) {
  const TemporaryDirectory folder;
  replace_text(folder / "config.json", "{\"vocab_size\": ");
  EXPECT_THROW(read_model_config(folder / "config.json"), InvalidArgument);
  EXPECT_THROW(read_model_config(folder / "nowhere" / "config.json"), IoError);
}

}  // namespace
}  // namespace ringtrain

#include "ringtrain/config/options.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "ringtrain/config/resolve.h"
#include "support/error_text.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

using Json = nlohmann::ordered_json;

/// A value that is not the option's default and fits no other rule, as JSON and as a flag's text.
struct Sample {
  Json json;
  std::string text;
};

struct Sampler {
  const Option& option;

  Sample operator()(const bool* value) const { return {!*value, *value ? "False" : "True"}; }
  Sample operator()(const std::int64_t* value) const {
    return {*value + 7, std::to_string(*value + 7)};
  }
  Sample operator()(const double* value) const {
    const Json sample = *value + 0.125;
    return {sample, sample.dump()};
  }
  Sample operator()(const std::string* value) const {
    if (option.name == "load_llama_config") return {"debug", "debug"};
    if (option.name == "update_llama_config")
      return {"dict(rms_norm_eps=0.5)", "dict(rms_norm_eps=0.5)"};
    if (option.name == "mesh_dim" || option.name == "llama.mesh_dim") return {"1,1,4,2", "1,1,4,2"};
    for (const std::string& choice : option.choices) {
      if (choice != *value && !choice.empty()) return {choice, choice};
    }
    return {"a, [b]=--c", "a, [b]=--c"};
  }
  Sample operator()(const RopeScaling*) const {
    return {Json{{"rope_type", "linear"}, {"factor", 4.0}}, "dict(rope_type='linear',factor=4.0)"};
  }
};

Sample sample_of(const Option& option) {
  TrainConfig defaults;
  return std::visit(Sampler{option}, option.field(defaults));
}

Command command_of(const Option& option) {
  for (const Command command : {Command::kTrain, Command::kVerify, Command::kBench}) {
    if (option.taken_by(command)) return command;
  }
  return Command::kPlan;
}

std::string shown_after(const Option& option, const CommandLine& command_line,
                        std::string* source) {
  const auto [config, report] = resolve_config(command_of(option), command_line);
  *source = report.sources.contains(option.name) ? report.sources.at(option.name) : "default";
  return shown_value(option, config);
}

TEST(Options, NamesAreUniqueAndHelped) {
  std::set<std::string> names;
  for (const Option& option : options()) {
    EXPECT_TRUE(names.insert(option.name).second) << option.name;
    EXPECT_FALSE(option.help.empty()) << option.name;
    EXPECT_EQ(find_option(option.name), &option);
  }
  EXPECT_EQ(find_option("optimizer"), nullptr);
  EXPECT_TRUE(is_section("optimizer.adamw_optimizer"));
  EXPECT_FALSE(is_section("optimizer.adam"));
}

TEST(Options, FieldsAreDistinct) {
  TrainConfig config;
  std::set<const void*> fields;
  for (const Option& option : options()) {
    const void* field = std::visit([](auto* pointer) { return static_cast<const void*>(pointer); },
                                   option.field(config));
    EXPECT_TRUE(fields.insert(field).second) << option.name << " shares a field";
  }
}

TEST(Options, EachIsReadBackFromItsFlag) {
  for (const Option& option : options()) {
    const Sample sample = sample_of(option);
    std::string source;
    EXPECT_EQ(shown_after(option, {{{option.name, sample.text}}, {}}, &source), sample.json.dump())
        << option.name;
    EXPECT_EQ(source, "command line") << option.name;
  }
}

TEST(Options, EachIsReadBackFromAFile) {
  const TemporaryDirectory directory;
  const std::string file = directory / "one.json";
  for (const Option& option : options()) {
    const Sample sample = sample_of(option);
    std::ofstream(file) << Json{{option.name, sample.json}};
    std::string source;
    EXPECT_EQ(shown_after(option, {{}, {file}}, &source), sample.json.dump()) << option.name;
    EXPECT_EQ(source, "file " + file) << option.name;
  }
}

TEST(Options, EachIsShownWithItsSource) {
  const std::string shown = describe_config(Command::kTrain, default_config(Command::kTrain), {});
  for (const std::string& name : option_names(Command::kTrain)) {
    EXPECT_NE(shown.find("  " + name + " "), std::string::npos) << name;
  }
  EXPECT_EQ(shown.find("train_tolerance"), std::string::npos) << "an option of verify alone";
}

TEST(Options, AllOfThemSurviveASavedConfiguration) {
  const TemporaryDirectory directory;
  CommandLine command_line;
  for (const Option& option : options()) {
    if (!option.taken_by(Command::kTrain)) continue;
    command_line.assignments.push_back({option.name, sample_of(option).text});
  }
  const auto [config, report] = resolve_config(Command::kTrain, command_line);
  const std::string file = directory / "config.resolved.json";
  std::ofstream(file) << config_to_json(Command::kTrain, config, report);
  const auto [again, unused] = resolve_config(Command::kTrain, {{}, {file}});
  for (const Option& option : options()) {
    if (option.name == "load_llama_config" || option.name == "update_llama_config") continue;
    EXPECT_EQ(shown_value(option, again), shown_value(option, config)) << option.name;
  }
}

TEST(Options, DefaultsAreTheOriginals) {
  const TrainConfig config = resolve_config(Command::kTrain, {}).config;
  EXPECT_EQ(config.seed, 42);
  EXPECT_EQ(config.mesh_dim, "1,-1,1,1");
  EXPECT_EQ(config.dtype, "bf16");
  EXPECT_EQ(config.log_freq, 50);
  EXPECT_EQ(config.optimizer.adamw_optimizer.lr, 0.01);
  EXPECT_EQ(config.optimizer.adamw_optimizer.lr_decay_steps, 500000);
  EXPECT_EQ(config.optimizer.palm_optimizer.b2, 0.99);
  EXPECT_EQ(config.train_dataset.text_processor.subfield_separator, " ");
  EXPECT_EQ(config.eval_dataset.json_dataset.seq_length, 1024);
  EXPECT_EQ(config.llama.scan_mlp_chunk_size, 1024);
  EXPECT_EQ(config.checkpointer.float_dtype, "bf16");
  EXPECT_EQ(default_config(Command::kVerify).dtype, "fp32");
  EXPECT_EQ(default_config(Command::kVerify).loss_reduction, "sequence");
}

TEST(Options, WrongTypesAreRefused) {
  const auto refuse = [](const std::string& name, const std::string& text) {
    return error_text([&] { resolve_config(Command::kTrain, {{{name, text}}, {}}); });
  };
  EXPECT_EQ(refuse("seed", "x"), "--seed takes a whole number, got \"x\"");
  EXPECT_EQ(refuse("seed", "1.5"), "--seed takes a whole number, got \"1.5\"");
  EXPECT_EQ(refuse("seed", ""), "--seed takes a whole number, got \"\"");
  EXPECT_EQ(refuse("autoresume", "yes"), "--autoresume takes true or false, got \"yes\"");
  EXPECT_EQ(refuse("timeout_s", "10s"), "--timeout_s takes a number, got \"10s\"");
  EXPECT_EQ(refuse("timeout_s", "inf"), "--timeout_s takes a number, got \"inf\"");
  EXPECT_EQ(refuse("optimizer.type", "adam"),
            "--optimizer.type 'adam' is not one of 'adamw', 'palm'");
  EXPECT_EQ(refuse("llama.rope_scaling", "8"),
            "--llama.rope_scaling takes dict(rope_type='llama3', factor=...) or a JSON object, "
            "got 8");
  EXPECT_EQ(refuse("llama.rope_scaling", "dict(rope_type='yarn',factor=2)"),
            "--llama.rope_scaling.rope_type 'yarn' is not one of 'default', 'linear', 'llama3'");
  EXPECT_EQ(refuse("llama.rope_scaling", "dict(rope_type='llama3',factor=8.0)"),
            "--llama.rope_scaling lacks the key 'low_freq_factor': "
            "{\"rope_type\":\"llama3\",\"factor\":8.0}");
}

}  // namespace
}  // namespace ringtrain

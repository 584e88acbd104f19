#include "ringtrain/data/text_processor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t end; (end = text.find(separator, begin)) != std::string::npos; begin = end + 1) {
    parts.push_back(text.substr(begin, end - begin));
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::vector<std::string> names_in(const nlohmann::json& example) {
  std::vector<std::string> names;
  for (const auto& [name, value] : example.items()) names.push_back(name);
  return names;
}

}  // namespace

TextProcessor::TextProcessor(TextProcessorConfig config, std::shared_ptr<const Tokenizer> tokenizer,
                             const std::string& option_prefix)
    : config_(std::move(config)),
      tokenizer_(std::move(tokenizer)),
      option_prefix_(option_prefix.empty() ? "" : option_prefix + ".") {
  if (config_.fields.empty() && config_.fields_from_example.empty()) {
    throw InvalidArgument(fmt::format(
        "which fields of an example are its text? Give --{0}text_processor.fields=text (a list "
        "such as '[prompt],answer') or --{0}text_processor.fields_from_example=NAME",
        option_prefix_));
  }
  if (config_.add_bos_token) {
    check_special_token(tokenizer_->bos_id(), "BOS", "text_processor.add_bos_token");
  }
  if (config_.add_eos_token) {
    check_special_token(tokenizer_->eos_id(), "EOS", "text_processor.add_eos_token");
  }
  if (config_.fields_from_example.empty()) entries_ = parse(config_.fields);
}

void TextProcessor::check_special_token(std::int32_t id, const char* name,
                                        const char* wanted_by) const {
  if (id >= 0) return;
  throw InvalidArgument(fmt::format("{} has no {} token, which --{}{} asks for", tokenizer_->path(),
                                    name, option_prefix_, wanted_by));
}

std::vector<TextProcessor::Entry> TextProcessor::parse(const std::string& fields) const {
  std::vector<Entry> entries;
  for (std::string field : split(fields, ',')) {
    Entry entry{Entry::Kind::kText, {}, 1.0f};
    if (field.size() >= 2 && field.front() == '[' && field.back() == ']') {
      field = field.substr(1, field.size() - 2);
      entry.mask = 0.0f;
    }
    if (field == "<|bos|>") {
      check_special_token(tokenizer_->bos_id(), "BOS", "text_processor.fields");
      entry.kind = Entry::Kind::kBos;
    } else if (field == "<|eos|>") {
      check_special_token(tokenizer_->eos_id(), "EOS", "text_processor.fields");
      entry.kind = Entry::Kind::kEos;
    } else {
      entry.subfields = split(field, '+');
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

const std::string& TextProcessor::text_of(const nlohmann::json& example, const std::string& field,
                                          const char* option) const {
  const auto found = example.find(field);
  if (found == example.end()) {
    throw IoError(fmt::format("the example has no field '{}' (--{}text_processor.{}); it has: {}",
                              field, option_prefix_, option, fmt::join(names_in(example), ", ")));
  }
  if (!found->is_string()) {
    throw IoError(fmt::format("field '{}' (--{}text_processor.{}) is of type {}, expected a string",
                              field, option_prefix_, option, found->type_name()));
  }
  return found->get_ref<const std::string&>();
}

TokenizedText TextProcessor::operator()(const nlohmann::json& example) const {
  std::vector<Entry> own_entries;
  const bool from_example = !config_.fields_from_example.empty();
  const char* option = from_example ? "fields_from_example" : "fields";
  if (from_example) {
    own_entries = parse(text_of(example, config_.fields_from_example, option));
  }
  const std::vector<Entry>& entries = from_example ? own_entries : entries_;

  TokenizedText result;
  const auto append = [&](std::int32_t token, float mask) {
    result.tokens.push_back(token);
    result.masks.push_back(mask);
  };
  if (config_.add_bos_token) append(tokenizer_->bos_id(), 0.0f);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const Entry& entry = entries[i];
    if (entry.kind == Entry::Kind::kBos) {
      append(tokenizer_->bos_id(), entry.mask);
      continue;
    }
    if (entry.kind == Entry::Kind::kEos) {
      append(tokenizer_->eos_id(), entry.mask);
      continue;
    }
    std::string text = i == 0 ? config_.prepend_text : std::string();
    for (std::size_t k = 0; k < entry.subfields.size(); ++k) {
      if (k > 0) text += config_.subfield_separator;
      text += text_of(example, entry.subfields[k], option);
    }
    for (const std::int32_t token : tokenizer_->encode_with_special_tokens(text)) {
      append(token, entry.mask);
    }
  }
  if (config_.add_eos_token) append(tokenizer_->eos_id(), 1.0f);
  return result;
}

}  // namespace ringtrain

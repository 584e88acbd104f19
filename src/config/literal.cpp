#include "ringtrain/config/literal.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "ringtrain/core/error.h"

namespace ringtrain {
namespace {

using Json = nlohmann::ordered_json;

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

/// Recursive descent over the text; `at_` is the next character.
class LiteralParser {
 public:
  explicit LiteralParser(std::string_view text) : text_(text) {}

  Json parse() {
    Json value = parse_value();
    skip_spaces();
    if (at_ != text_.size()) fail("the end");
    return value;
  }

 private:
  [[noreturn]] void fail(std::string_view expected) const {
    const std::string_view rest = text_.substr(at_);
    throw InvalidArgument(fmt::format("expected {} at character {} of {}, found {}", expected,
                                      at_ + 1, text_,
                                      rest.empty() ? "the end" : fmt::format("'{}'", rest)));
  }

  void skip_spaces() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }

  char peek() {
    skip_spaces();
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  bool accept(char wanted) {
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }

  void expect(char wanted) {
    if (!accept(wanted)) fail(fmt::format("'{}'", wanted));
  }

  std::string_view word() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  Json parse_value() {
    const char next = peek();
    if (next == '\'' || next == '"') return parse_string();
    if (next == '{') return parse_braces();
    if (next == '[') return parse_list();
    if (next == '-' || next == '+' || next == '.' ||
        std::isdigit(static_cast<unsigned char>(next)) != 0) {
      return parse_number();
    }
    const std::size_t begin = at_;
    const std::string_view name = word();
    if (name == "True" || name == "true") return true;
    if (name == "False" || name == "false") return false;
    if (name == "None" || name == "null") return nullptr;
    if (name == "dict" && peek() == '(') return parse_dict();
    at_ = begin;
    fail("a value (dict(...), a quoted text, a number, True, False or None)");
  }

  Json parse_dict() {
    expect('(');
    Json object = Json::object();
    while (!accept(')')) {
      skip_spaces();
      const std::size_t begin = at_;
      const std::string name(word());
      if (name.empty()) fail("a name or ')'");
      expect('=');
      insert(object, name, begin, parse_value());
      if (!accept(',') && peek() != ')') fail("',' or ')'");
    }
    return object;
  }

  Json parse_braces() {
    expect('{');
    Json object = Json::object();
    while (!accept('}')) {
      const std::size_t begin = at_;
      if (peek() != '\'' && peek() != '"') fail("a quoted name or '}'");
      const std::string name = parse_string();
      expect(':');
      insert(object, name, begin, parse_value());
      if (!accept(',') && peek() != '}') fail("',' or '}'");
    }
    return object;
  }

  void insert(Json& object, const std::string& name, std::size_t begin, Json value) {
    if (object.contains(name)) {
      at_ = begin;
      fail(fmt::format("each name once, '{}' was given before", name));
    }
    object[name] = std::move(value);
  }

  Json parse_list() {
    expect('[');
    Json list = Json::array();
    while (!accept(']')) {
      list.push_back(parse_value());
      if (!accept(',') && peek() != ']') fail("',' or ']'");
    }
    return list;
  }

  std::string parse_string() {
    const char quote = text_[at_++];
    std::string value;
    while (at_ < text_.size() && text_[at_] != quote) {
      char c = text_[at_++];
      if (c == '\\' && at_ < text_.size()) {
        c = text_[at_++];
        if (c == 'n') c = '\n';
        if (c == 't') c = '\t';
      }
      value += c;
    }
    if (at_ == text_.size()) fail(fmt::format("a closing {}", quote));
    ++at_;
    return value;
  }

  Json parse_number() {
    if (text_[at_] == '+') ++at_;
    const char* begin = text_.data() + at_;
    const char* end = text_.data() + text_.size();
    std::int64_t integer = 0;
    double real = 0;
    const auto as_integer = std::from_chars(begin, end, integer);
    const auto as_real = std::from_chars(begin, end, real);
    if (as_real.ec != std::errc{} || (as_real.ptr != end && is_word(*as_real.ptr))) {
      fail("a number");
    }
    at_ += static_cast<std::size_t>(as_real.ptr - begin);
    if (as_integer.ec == std::errc{} && as_integer.ptr == as_real.ptr) return integer;
    return real;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

nlohmann::ordered_json parse_literal(std::string_view text) {
  return LiteralParser(text).parse();
}

}  // namespace ringtrain

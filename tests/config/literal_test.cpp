#include "ringtrain/config/literal.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "ringtrain/core/error.h"
#include "support/error_text.h"

namespace ringtrain {
namespace {

using Json = nlohmann::ordered_json;

TEST(Literal, ReadsEveryKindOfValue) {
  const Json value = parse_literal(
      "dict(a=1, b='x', c=True, d=1.5e-4, e=None, nested=dict(f=\"it's\", g=-3,), h=[1, 2.5])");
  EXPECT_EQ(value, Json::parse(R"({"a": 1, "b": "x", "c": true, "d": 1.5e-4, "e": null,
                                   "nested": {"f": "it's", "g": -3}, "h": [1, 2.5]})"));
  EXPECT_TRUE(value["a"].is_number_integer());
  EXPECT_TRUE(parse_literal("1.0").is_number_float());
}

TEST(Literal, ReadsJsonAndPythonDictionaries) {
  EXPECT_EQ(parse_literal(R"({"a": false, 'b': {"c": null}})"),
            Json::parse(R"({"a": false, "b": {"c": null}})"));
  EXPECT_EQ(parse_literal(" dict ( ) "), Json::object());
  EXPECT_EQ(parse_literal(R"('a\'b\n')"), "a'b\n");
  EXPECT_EQ(parse_literal("9007199254740993"), 9007199254740993);
}

struct Refused {
  const char* text;
  const char* message;
};

TEST(Literal, NamesThePlaceOfAMistake) {
  for (const auto& [text, message] : {
           Refused{"dict(a=1", "expected ',' or ')' at character 9 of dict(a=1, found the end"},
           Refused{"dict(a=b)", "at character 8 of dict(a=b), found 'b)'"},
           Refused{"dict(a=1,a=2)", "each name once, 'a' was given before at character 10"},
           Refused{"dict(a 1)", "expected '=' at character 8"},
           Refused{"dict(a='x)", "expected a closing ' at character 11"},
           Refused{"dict(a=2**17)", "expected ',' or ')' at character 9"},
           Refused{"dict(a=1) dict()", "expected the end at character 11"},
           Refused{"dict(a=1e)", "expected a number at character 8"},
           Refused{"", "expected a value"},
           Refused{"__import__('os')", "expected a value"},
       }) {
    EXPECT_NE(error_text([&] { parse_literal(text); }).find(message), std::string::npos)
        << text << " gives: " << error_text([&] { parse_literal(text); });
  }
}

}  // namespace
}  // namespace ringtrain

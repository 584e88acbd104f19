#include "ringtrain/cli/argument_parser.h"

#include <gtest/gtest.h>

#include "support/error_text.h"

namespace ringtrain {
namespace {

/// A parser with an option of each kind, and what it read.
struct Parsed {
  std::string a = "unset", b = "unset", dotted = "unset";
  std::vector<std::string> files;
  std::string flag = "unset";
  bool runs = false;

  explicit Parsed(const std::vector<std::string>& arguments) {
    ArgumentParser parser("ringtrain test", "A test.");
    const ArgumentParser::Shown shown{"Group", "TEXT", ""};
    parser.add_option("a", "help of a", shown, [this](const std::string& text) { a = text; });
    parser.add_option("b", "help of b", shown, [this](const std::string& text) { b = text; });
    parser.add_option("x.y_z", "dotted", shown, [this](const std::string& text) { dotted = text; });
    parser.add_option(
        "file", "repeatable", shown, [this](const std::string& text) { files.push_back(text); },
        true);
    parser.add_flag("flag", "boolean", {"Group", "BOOL", "false"},
                    [this](bool value) { flag = value ? "true" : "false"; });
    runs = parser.parse(arguments);
  }
};

std::string refusal(const std::vector<std::string>& arguments) {
  return error_text([&] { Parsed{arguments}; });
}

TEST(ArgumentParser, EmptyValuesStayApart) {
  const Parsed parsed({"--a=", "--b="});
  EXPECT_EQ(parsed.a, "");
  EXPECT_EQ(parsed.b, "");
  EXPECT_EQ(parsed.dotted, "unset");
  EXPECT_EQ(Parsed({"--a", "", "--b=x"}).a, "");
}

TEST(ArgumentParser, TakesBothFormsAndTheLastOfEqualOnes) {
  const Parsed parsed({"--a", "1", "--x.y_z=2", "--b=3", "--b", "4", "--a=5"});
  EXPECT_EQ(parsed.a, "5");
  EXPECT_EQ(parsed.b, "4");
  EXPECT_EQ(parsed.dotted, "2");
  EXPECT_TRUE(parsed.runs);
}

TEST(ArgumentParser, KeepsValuesAsTheyAre) {
  for (const std::string value :
       {"-1,1,1,1", "--b=2", "[text]", "[a],[b]", "a b", "dict(a=1,b='x')", "{}", "%%", "'quoted'",
        "a=b", "-", "--", " "}) {
    const Parsed parsed({"--a=" + value});
    EXPECT_EQ(parsed.a, value);
    EXPECT_EQ(parsed.b, "unset");
  }
  EXPECT_EQ(Parsed({"--a", "-1"}).a, "-1");
}

TEST(ArgumentParser, BooleansTakeEveryForm) {
  for (const std::string yes : {"--flag", "--flag=True", "--flag=true", "--flag=1"}) {
    EXPECT_EQ(Parsed({yes}).flag, "true") << yes;
  }
  for (const std::string no : {"--flag=False", "--flag=false", "--flag=0", "--noflag"}) {
    EXPECT_EQ(Parsed({no}).flag, "false") << no;
  }
  EXPECT_EQ(Parsed({"--flag", "False"}).flag, "false");
  const Parsed bare({"--flag", "--a=1"});
  EXPECT_EQ(bare.flag, "true");
  EXPECT_EQ(bare.a, "1");
  EXPECT_EQ(Parsed({"--flag", "--flag=False"}).flag, "false");
  EXPECT_EQ(refusal({"--flag=yes"}), "--flag takes true or false, got \"yes\"");
  EXPECT_EQ(refusal({"--flag="}), "--flag takes true or false, got \"\"");
}

TEST(ArgumentParser, RepeatableOptionsKeepTheirOrder) {
  EXPECT_EQ(Parsed({"--file=1", "--a=x", "--file", "2", "--file=3"}).files,
            (std::vector<std::string>{"1", "2", "3"}));
}

TEST(ArgumentParser, HelpWinsOverMistakesAfterIt) {
  EXPECT_FALSE(Parsed({"--a=1", "--help", "--unknown"}).runs);
  EXPECT_FALSE(Parsed({"-h"}).runs);
}

TEST(ArgumentParser, NamesWhatItCannotUse) {
  EXPECT_EQ(refusal({"--y_z=1"}), "unknown option --y_z; did you mean 'x.y_z'?; --help lists all");
  EXPECT_EQ(refusal({"--colour=1"}), "unknown option --colour; --help lists all");
  EXPECT_EQ(refusal({"--noa"}), "unknown option --noa; --help lists all");
  EXPECT_EQ(refusal({"value"}), "unexpected argument 'value'; options look like --name=value");
  EXPECT_EQ(refusal({"-flag"}),
            "unexpected argument '-flag'; options look like --name=value; did you mean 'flag'?");
  EXPECT_EQ(refusal({"--a"}), "--a needs a value: --a=VALUE");
  EXPECT_EQ(refusal({"--a", "--b=1"}), "--a needs a value: --a=VALUE");
}

}  // namespace
}  // namespace ringtrain

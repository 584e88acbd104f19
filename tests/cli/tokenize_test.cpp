#include "ringtrain/cli/tokenize.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "ringtrain/core/error.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

const std::string kVocabulary =
    "--tokenizer.vocab_file=" RT_SOURCE_DIR "/tests/golden/data/tokenizer.model";
const std::string kSample = RT_SOURCE_DIR "/tests/golden/data/sample.jsonl";

// A FILE that keeps what is written to it.
class MemoryFile {
 public:
  MemoryFile() : file_(open_memstream(&bytes_, &size_)) {}
  ~MemoryFile() {
    std::fclose(file_);
    std::free(bytes_);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::FILE* file() { return file_; }
  std::string text() {
    std::fflush(file_);
    return {bytes_, size_};
  }

 private:
  char* bytes_ = nullptr;
  std::size_t size_ = 0;
  std::FILE* file_;
};

struct Output {
  std::string out;
  std::string err;
};

Output run(std::vector<std::string> arguments, bool terminal = false) {
  MemoryFile out;
  MemoryFile err;
  arguments.insert(arguments.begin(), kVocabulary);
  EXPECT_EQ(tokenize(arguments, out.file(), err.file(), terminal), 0);
  return {out.text(), err.text()};
}

// The line of `text` that begins with `start`, without it.
std::string line_after(const std::string& text, const std::string& start) {
  const std::size_t at = text.find(start);
  if (at == std::string::npos) return "no '" + start + "' in:\n" + text;
  const std::size_t begin = at + start.size();
  return text.substr(begin, text.find('\n', begin) - begin);
}

TEST(Tokenize, ShowsIdsThatDecodeToTheText) {
  const std::string text = "Speak,  naïve — 🙂";
  const std::string shown = run({"--text=" + text}).out;
  EXPECT_EQ(line_after(shown, "text    "), text);
  const std::string ids = line_after(shown, "ids     ");
  EXPECT_EQ(run({"--ids", ids}).out, text + "\n");
  EXPECT_EQ(
      line_after(run({"--text=a", "--tokenizer.add_bos_token=True"}).out, "ids     ").substr(0, 2),
      "1 ");
}

TEST(Tokenize, DecodesIdsInEverySpelling) {
  const std::string expected = run({"--ids=100,200,300"}).out;
  EXPECT_EQ(run({"--ids=[100, 200, 300]"}).out, expected);
  EXPECT_EQ(run({"--ids", "100 200  300"}).out, expected);
  EXPECT_EQ(run({"--ids="}).out, "\n");
}

TEST(Tokenize, CountsWhatTrainingWouldRead) {
  const Output one = run({"--input=" + kSample});
  EXPECT_EQ(line_after(one.out, "examples      "), "60");
  EXPECT_EQ(line_after(one.out, "broken lines  "), "1");
  EXPECT_NE(one.err.find("line 33 of " + kSample), std::string::npos) << one.err;
  EXPECT_EQ(one.err.find('\r'), std::string::npos) << "a bar without a terminal";
  const std::string tokens = line_after(one.out, "tokens        ");
  EXPECT_EQ(
      line_after(run({"--input=" + kSample, "--tokenizer_processes=3"}).out, "tokens        "),
      tokens);
  EXPECT_NE(line_after(run({"--input=" + kSample, "--text_processor.add_eos_token=False"}).out,
                       "tokens        "),
            tokens);
}

TEST(Tokenize, CountsDocumentsOfText) {
  TemporaryDirectory directory;
  const std::string text = directory / "a.txt";
  const std::string lines = directory / "a.jsonl";
  std::ofstream(text)
      << "\n\nAll:\nSpeak, speak.\n\n\nFirst Citizen:\r\nYou are all resolved\n \nx";
  std::ofstream(lines) << R"({"text": "All:\nSpeak, speak."})"
                       << "\n"
                       << R"({"text": "First Citizen:\nYou are all resolved"})"
                       << "\n"
                       << R"({"text": "x"})"
                       << "\n";
  const std::string counted = run({"--input", text}).out;
  EXPECT_EQ(line_after(counted, "examples      "), "3");
  EXPECT_EQ(line_after(counted, "tokens        "),
            line_after(run({"--input", lines}).out, "tokens        "));
}

TEST(Tokenize, ShowsProgressOnATerminal) {
  const std::string err = run({"--input=" + kSample}, /*terminal=*/true).err;
  EXPECT_NE(err.find("tokens/s"), std::string::npos) << err;
  EXPECT_NE(err.find('%'), std::string::npos) << err;
}

TEST(Tokenize, RefusesWhatItCannotDo) {
  EXPECT_THROW(run({}), InvalidArgument);
  EXPECT_THROW(run({"--text=a", "--ids=1"}), InvalidArgument);
  EXPECT_THROW(run({"--ids=1,x"}), InvalidArgument);
  EXPECT_THROW(run({"--ids=1,800"}), InvalidArgument);
  EXPECT_THROW(run({"--ids=4294967297"}), InvalidArgument);
  EXPECT_THROW(run({"--txet=a"}), InvalidArgument);
  EXPECT_THROW(run({"--input=" + kSample, "--tokenizer_processes=0"}), InvalidArgument);
  EXPECT_THROW(run({"--input=absent.jsonl"}), IoError);
  EXPECT_THROW(run({"--input=" + kSample, "--text_processor.fields=txet"}), IoError);
}

TEST(Tokenize, AnswersHelp) {
  EXPECT_NE(run({"--help"}).out.find("--tokenizer.vocab_file"), std::string::npos);
}

}  // namespace
}  // namespace ringtrain

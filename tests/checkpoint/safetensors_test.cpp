#include "ringtrain/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "ringtrain/core/error.h"
#include "support/temporary_directory.h"

namespace ringtrain {
namespace {

void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string with_header(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header + std::string(data_bytes, '\x01');
}

TEST(SafetensorsTest, RoundTripsEveryFloatType) {
  const TemporaryDirectory folder;
  const std::vector<float> values{1.5f, -0.25f, 3.0e-5f, 65504.0f, 0.1f, -2.0f};
  {
    SafetensorsWriter writer(folder / "a.safetensors",
                             {{"x32", DType::kFloat32, {2, 3}},
                              {"x16", DType::kFloat16, {6}},
                              {"xb16", DType::kBFloat16, {3, 2}},
                              {"empty", DType::kFloat32, {0, 4}},
                              {"scalar", DType::kFloat32, {}}},
                             {{"format", "pt"}});
    writer.append("x32", DType::kFloat32, values.data(), 2);  // in pieces
    writer.append("x32", DType::kFloat32, values.data() + 2, 4);
    writer.append("x16", DType::kFloat32, values.data(), 6);
    writer.append("xb16", DType::kFloat32, values.data(), 6);
    writer.append("scalar", DType::kFloat32, values.data(), 1);
    writer.finish();
    const std::string bytes = read_text(folder / "a.safetensors");
    EXPECT_EQ(writer.size(), bytes.size());
    EXPECT_EQ(writer.crc32(), crc32(0, bytes.data(), bytes.size()));
  }
  const SafetensorsReader reader(folder / "a.safetensors");
  EXPECT_EQ(reader.metadata().at("format"), "pt");
  EXPECT_EQ(reader.entries().size(), 5u);
  EXPECT_EQ(reader.entry("x32").shape, Shape({2, 3}));
  EXPECT_EQ(reader.floats("x32"), values);
  EXPECT_EQ(reader.entry("xb16").dtype, DType::kBFloat16);
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(reader.floats("x16")[i], float_from_half(half_from_float(values[i])));
    EXPECT_EQ(reader.floats("xb16")[i], static_cast<float>(bfloat16(values[i])));
  }
  EXPECT_TRUE(reader.floats("empty").empty());
  EXPECT_EQ(reader.floats("scalar"), std::vector<float>{1.5f});
  std::vector<float> middle(3);
  reader.read_floats(reader.entry("xb16"), 2, 3, middle.data());
  EXPECT_EQ(middle[2], static_cast<float>(bfloat16(values[4])));
  EXPECT_THROW(reader.read_floats(reader.entry("xb16"), 4, 3, middle.data()), IoError);
  EXPECT_THROW(reader.ints("x32"), IoError);
  EXPECT_THROW(reader.floats("y"), IoError);
}

TEST(SafetensorsTest, ReadsIntegersOfBothWidths) {
  const TemporaryDirectory folder;
  const std::vector<std::int32_t> narrow{1, -2, 3};
  const std::vector<std::int64_t> wide{std::int64_t{1} << 40, -5};
  {
    SafetensorsWriter writer(folder / "i.safetensors",
                             {{"n", DType::kInt32, {3}}, {"w", DType::kInt64, {2}}});
    writer.append("n", DType::kInt32, narrow.data(), 3);
    writer.append("w", DType::kInt64, wide.data(), 2);
    writer.finish();
  }
  const SafetensorsReader reader(folder / "i.safetensors");
  EXPECT_EQ(reader.ints("n"), (std::vector<std::int64_t>{1, -2, 3}));
  EXPECT_EQ(reader.ints("w"), wide);
  EXPECT_THROW(reader.floats("n"), IoError);
}

TEST(SafetensorsTest, ConvertsMoreThanOneChunk) {
  const TemporaryDirectory folder;
  std::vector<float> values((1 << 18) + 77);
  std::iota(values.begin(), values.end(), -1000.0f);
  {
    SafetensorsWriter writer(folder / "b.safetensors",
                             {{"x", DType::kBFloat16, {static_cast<std::int64_t>(values.size())}}});
    writer.append("x", DType::kFloat32, values.data(), static_cast<std::int64_t>(values.size()));
    writer.finish();
  }
  const std::vector<float> back = SafetensorsReader(folder / "b.safetensors").floats("x");
  ASSERT_EQ(back.size(), values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(back[i], static_cast<float>(bfloat16(values[i]))) << i;
  }
}

TEST(SafetensorsTest, WriterRefusesWhatWasNotDeclared) {
  const TemporaryDirectory folder;
  const std::vector<float> values(4);
  SafetensorsWriter writer(folder / "c.safetensors",
                           {{"a", DType::kFloat32, {2}}, {"b", DType::kInt32, {2}}});
  EXPECT_THROW(writer.append("b", DType::kFloat32, values.data(), 2), InvalidArgument);
  EXPECT_THROW(writer.append("a", DType::kFloat32, values.data(), 3), InvalidArgument);
  writer.append("a", DType::kFloat32, values.data(), 2);
  EXPECT_THROW(writer.append("b", DType::kFloat32, values.data(), 2), InvalidArgument);
  EXPECT_THROW(writer.finish(), InvalidArgument);
}

struct DamagedFile {
  std::string name;
  std::string bytes;
  std::string expected;  // in the message, beside the path
};

class DamagedSafetensorsTest : public ::testing::TestWithParam<DamagedFile> {};

TEST_P(DamagedSafetensorsTest, IsRefusedByName) {
  const TemporaryDirectory folder;
  const std::filesystem::path path = folder / "damaged.safetensors";
  write_bytes(path, GetParam().bytes);
  try {
    const SafetensorsReader reader(path);
    FAIL() << "accepted";
  } catch (const IoError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find(path.string()), std::string::npos) << message;
    EXPECT_NE(message.find(GetParam().expected), std::string::npos) << message;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Files, DamagedSafetensorsTest,
    ::testing::Values(
        DamagedFile{"empty", "", "truncated"},
        DamagedFile{"seven_bytes", std::string(7, '\0'), "truncated"},
        DamagedFile{"header_longer_than_file", with_header("{}", 0).substr(0, 9), "truncated"},
        DamagedFile{"absurd_header_length", std::string(16, '\xff'), "truncated"},
        DamagedFile{"broken_json", with_header("{\"a\": ", 0), "JSON"},
        DamagedFile{"not_an_object", with_header("[1, 2]", 0), "JSON"},
        DamagedFile{"no_shape", with_header(R"({"t":{"dtype":"F32","data_offsets":[0,4]}})", 4),
                    "'t'"},
        DamagedFile{"unknown_dtype",
                    with_header(R"({"t":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}})", 4),
                    "F8_E4M3"},
        DamagedFile{"negative_size",
                    with_header(R"({"t":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4),
                    "'t'"},
        DamagedFile{"shape_overflows",
                    with_header(R"({"t":{"dtype":"F32","shape":[4294967296,4294967296],)"
                                R"("data_offsets":[0,4]}})",
                                4),
                    "'t'"},
        DamagedFile{"shape_and_offsets_differ",
                    with_header(R"({"t":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),
                    "12 bytes"},
        DamagedFile{"data_cut_short",
                    with_header(R"({"t":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})", 11),
                    "truncated"},
        DamagedFile{"offsets_backwards",
                    with_header(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}})", 8),
                    "'t'"},
        DamagedFile{"overlap",
                    with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                R"("t":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                                12),
                    "overlap"},
        DamagedFile{"gap",
                    with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                                R"("t":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                                12),
                    "gap"},
        DamagedFile{"bytes_left_over",
                    with_header(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 9),
                    "9 after"}),
    [](const auto& damaged) { return damaged.param.name; });

TEST(SafetensorsTest, MissingFileIsNamed) {
  try {
    const SafetensorsReader reader("/nonexistent/model.safetensors");
    FAIL();
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("/nonexistent/model.safetensors"), std::string::npos);
  }
}

TEST(FileTest, Crc32HasTheStandardCheckValue) {
  const std::string check = "123456789";  // the check value of the CRC catalogue
  EXPECT_EQ(crc32(0, check.data(), check.size()), 0xCBF43926u);
  EXPECT_EQ(crc32(crc32(0, check.data(), 4), check.data() + 4, 5), 0xCBF43926u);
}

TEST(FileTest, FullDiskIsNamed) {
  OutputFile file("/dev/full");
  const std::string bytes(100, 'x');
  try {
    file.append(bytes.data(), bytes.size());
    FAIL() << "/dev/full took 100 bytes";
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("/dev/full"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("100 bytes"), std::string::npos);
  }
}

TEST(FileTest, ReplacesTextAndDirectories) {
  const TemporaryDirectory folder;
  replace_text(folder / "latest", "one");
  replace_text(folder / "latest", "two");
  EXPECT_EQ(read_text(folder / "latest"), "two");
  for (const std::string name : {"new", "other"}) {
    std::filesystem::create_directory(folder / name);
    write_bytes(folder / name / "file", name);
    replace_directory(folder / name, folder / "target");
    EXPECT_EQ(read_text(folder / "target" / "file"), name);
    EXPECT_FALSE(std::filesystem::exists(folder / name));
  }
}

}  // namespace
}  // namespace ringtrain

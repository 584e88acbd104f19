#include "ringtrain/config/byte_size.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>

#include "support/error_text.h"

namespace ringtrain {
namespace {

TEST(ByteSize, KnowsUnits) {
  EXPECT_EQ(parse_byte_size("x", "0"), 0u);
  EXPECT_EQ(parse_byte_size("x", "1024"), 1024u);
  EXPECT_EQ(parse_byte_size("x", "80GB"), 80'000'000'000u);
  EXPECT_EQ(parse_byte_size("x", "80 GiB"), std::size_t{80} << 30);
  EXPECT_EQ(parse_byte_size("x", "81559MiB"), std::size_t{81559} << 20);
  EXPECT_EQ(parse_byte_size("x", "1.5TiB"), std::size_t{1536} << 30);
  EXPECT_EQ(parse_byte_size("x", "2KB"), 2000u);
}

TEST(ByteSize, RefusesTheRest) {
  for (const char* text : {"", "GiB", "-1", "80G", "80gib", "1e30TB", "nan", "12 apples"}) {
    EXPECT_EQ(
        error_text([&] { parse_byte_size("device_memory", text); }),
        "device_memory takes a size such as 80GiB, 80GB, 81559MiB or a number of bytes, got '" +
            std::string(text) + "'");
  }
}

TEST(ByteSize, ShowsGibibytes) {
  EXPECT_EQ(format_gib(std::size_t{3} << 29), "1.50 GiB");
}

}  // namespace
}  // namespace ringtrain

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "common/byte_order.h"
#include "common/crc32c.h"
#include "common/sha1.h"
#include "common/status.h"
#include "common/uuid.h"

using namespace tidemark;

TEST_CASE("crc32c answers the check value of the specification") {
  CHECK(crc32c("123456789", 9) == 0xe3069283);
  CHECK(crc32c("", 0) == 0);
}

TEST_CASE("crc32c of a whole equals crc32c continued over its parts, at any length") {
  std::vector<uint8_t> data(20'000);
  uint32_t state = 1;
  for (auto& byte : data) byte = static_cast<uint8_t>((state = state * 1664525 + 1013904223) >> 24);
  for (size_t length : {1UL, 7UL, 1023UL, 3071UL, 3072UL, 3073UL, 9300UL, 20'000UL}) {
    uint32_t bytewise = 0;
    for (size_t i = 0; i < length; ++i) bytewise = crc32c(&data[i], 1, bytewise);
    CHECK(crc32c(data.data(), length) == bytewise);
  }
}

TEST_CASE("sha1 answers the standard's examples, on both sides of a block's end") {
  const auto hex = [](std::string_view message) {
    std::string text;
    for (const uint8_t byte : sha1(message)) {
      text += "0123456789abcdef"[byte >> 4];
      text += "0123456789abcdef"[byte & 15];
    }
    return text;
  };
  CHECK(hex("") == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  CHECK(hex("abc") == "a9993e364706816aba3e25717850c26c9cd0d89d");
  CHECK(hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  CHECK(hex(std::string(1000000, 'a')) == "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

TEST_CASE("a UUID survives its text form, and what is no UUID is refused") {
  const Uuid uuid = Uuid::random();
  CHECK(Uuid::parse(uuid.to_string()) == uuid);
  CHECK_FALSE(Uuid::parse("").has_value());
  CHECK_FALSE(Uuid::parse("0123456789abcdef0123456789abcdef0123").has_value());
  CHECK_FALSE(Uuid::parse("../../../../../../../../etc/passwd..").has_value());
}

TEST_CASE("byte order helpers write the stated order") {
  uint8_t bytes[4];
  store_be<uint32_t>(bytes, 0x01020304);
  CHECK(bytes[0] == 1);
  store_le<uint32_t>(bytes, 0x01020304);
  CHECK(bytes[0] == 4);
  CHECK(load_le<uint32_t>(bytes) == 0x01020304);
}

TEST_CASE("an errno becomes a typed status that keeps it") {
  const Status status = Status::from_errno("cannot write", ENOSPC);
  CHECK(status.code() == ErrorCode::kNoSpace);
  CHECK(status.sys_errno() == ENOSPC);
}

#include "tracking/target_id.h"

#include <algorithm>
#include <string>

#include "common/sha1.h"

namespace tidemark {

namespace {

// Of Tidemark's own targets: the same name is the same id everywhere.
constexpr std::array<uint8_t, 16> kNamespace = {0x6f, 0x1c, 0x1d, 0x3a, 0x2b, 0x8e, 0x4f, 0x0e,
                                                0x9a, 0x5d, 0x74, 0x69, 0x64, 0x6d, 0x61, 0x72};

}  // namespace

Uuid target_id_of(std::string_view name) {
  if (const auto uuid = Uuid::parse(name)) return *uuid;
  std::string message(reinterpret_cast<const char*>(kNamespace.data()), kNamespace.size());
  const auto digest = sha1(message.append(name));
  Uuid id;
  std::copy_n(digest.begin(), id.bytes.size(), id.bytes.begin());
  id.bytes[6] = static_cast<uint8_t>((id.bytes[6] & 0x0f) | 0x50);
  id.bytes[8] = static_cast<uint8_t>((id.bytes[8] & 0x3f) | 0x80);
  return id;
}

}  // namespace tidemark

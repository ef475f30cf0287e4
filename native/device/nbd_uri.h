// NBD URIs as users write them: nbd://HOST[:PORT]/EXPORT and
// nbd+unix:///EXPORT?socket=PATH, percent-encoded.
#pragma once

#include <string>
#include <string_view>

#include "device/nbd_device.h"

namespace tidemark {

bool is_nbd_uri(std::string_view text) noexcept;

// Sets the server's place and the export's name; all else has its default.
// kInvalidArgument says what is wrong with the text; kUnsupported for nbds://.
Result<NbdDeviceParameters> parse_nbd_uri(std::string_view text);

// For messages, and for parse_nbd_uri() again.
std::string nbd_uri_of(const NbdDeviceParameters& parameters);

}  // namespace tidemark

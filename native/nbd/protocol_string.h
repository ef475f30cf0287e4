#pragma once

#include <string_view>

namespace tidemark::nbd {

// What the specification calls a string: well-formed UTF-8 without NUL. (Its
// length is checked where it is read.)
bool is_protocol_string(std::string_view text) noexcept;

}  // namespace tidemark::nbd

#pragma once

#include <cstddef>
#include <cstdint>

namespace tidemark {

// CRC-32C (Castagnoli), as in iSCSI: crc32c("123456789") == 0xe3069283.
// `seed` is the CRC of the bytes before, 0 at the start. Uses the SSE4.2
// instruction where the CPU has it, chosen once at run time.
uint32_t crc32c(const void* data, size_t length_bytes, uint32_t seed = 0) noexcept;

}  // namespace tidemark

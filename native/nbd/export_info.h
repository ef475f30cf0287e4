// What the server says of an export: transmission flags and block sizes.
#pragma once

#include <cstdint>

#include "common/nbd_wire.h"
#include "nbd/session.h"

namespace tidemark::nbd {

// Only what is true of the device and the session. CAN_MULTI_CONN always: all
// connections share one device, whose flush covers every completed write.
uint16_t transmission_flags(const ServedExport& served, const Session& session) noexcept;

InfoBlockSize block_size_info(const ServedExport& served) noexcept;

}  // namespace tidemark::nbd

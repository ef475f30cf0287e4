#pragma once

#include "common/nbd_wire.h"

namespace tidemark::nbd {

// The protocol's error for a device's errno; EIO for what the protocol has no
// word for. ENOTSUP answers only a FAST_ZERO.
WireError wire_error(int device_errno, bool is_fast_zero) noexcept;

}  // namespace tidemark::nbd

// The writes that closed gates held up, on their way again.
#pragma once

#include <span>

#include "device/io_request.h"
#include "tracking/tracked_device_impl.h"

namespace tidemark {

// What was parked at one device's gate, in order of arrival.
struct ParkedList {
  TrackedDevice::Impl* device = nullptr;
  IoRequest* first = nullptr;
};

// With the gates open. Each of these writes costs a system call, and often the saving of
// what it overwrites: so several threads pass them on, one device's list each, and no
// answer leaves before a thread has done its part. Returns when all have been submitted.
void pass_on_parked(std::span<const ParkedList> lists) noexcept;

}  // namespace tidemark

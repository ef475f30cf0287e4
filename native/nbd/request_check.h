// check_request: whether a request may go to the device; if not, the error that
// the specification asks for. A pure function: the table of errors in one place.
#pragma once

#include <cstdint>
#include <string_view>

#include "nbd/client_request.h"

namespace tidemark::nbd {

struct RequestRules {
  uint64_t size_bytes;
  uint32_t minimum_block_bytes;
  bool is_read_only;
  bool can_flush;
  bool has_fast_zero;
  bool can_cache;
  bool has_structured_replies;
  bool has_extended_headers;
  bool has_meta_contexts;
};

struct Refusal {
  WireError error = WireError::kNone;
  std::string_view text;

  bool is_refused() const noexcept { return error != WireError::kNone; }
};

Refusal check_request(const ClientRequest& request, const RequestRules& rules) noexcept;

}  // namespace tidemark::nbd

// ReplyWriter: the replies of the transmission phase, in the style negotiated.
//
// With structured replies READ and BLOCK_STATUS are answered in chunks, errors
// included; everything else has simple replies in either style.
#pragma once

#include <cstdint>
#include <string_view>

#include "nbd/output_queue.h"
#include "nbd/request.h"
#include "nbd/session.h"

namespace tidemark::nbd {

class ReplyWriter {
 public:
  ReplyWriter(bool is_structured, OutputQueue& output)
      : is_structured_(is_structured), output_(output) {}

  bool is_structured() const noexcept { return is_structured_; }

  // Bytes before a read's data, in one piece with it.
  size_t read_header_bytes() const noexcept;
  // The data is in place behind the header's room at request.reply.
  void read_done(const NbdRequest& request);
  void read_nothing(uint64_t cookie);  // a read of length 0

  void done(uint64_t cookie) { simple(cookie, WireError::kNone); }
  void error(Command command, uint64_t cookie, WireError error, std::string_view text);

  // False without memory: the connection cannot go on.
  bool is_intact() const noexcept { return is_intact_; }

 private:
  void simple(uint64_t cookie, WireError error);
  void error_chunk(uint64_t cookie, WireError error, std::string_view text);

  const bool is_structured_;
  OutputQueue& output_;
  bool is_intact_ = true;
};

}  // namespace tidemark::nbd

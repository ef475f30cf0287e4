// ReplyWriter: the replies of the transmission phase, in the style negotiated.
#pragma once

#include <cstdint>
#include <string_view>

#include "nbd/output_queue.h"
#include "nbd/reply_format.h"
#include "nbd/request.h"

namespace tidemark::nbd {

class ReplyWriter {
 public:
  ReplyWriter(ReplyStyle style, OutputQueue& output) : format_(style), output_(output) {}

  const ReplyFormat& format() const noexcept { return format_; }
  bool has_chunks() const noexcept { return format_.style() != ReplyStyle::kSimple; }

  // Bytes before a read's data, in one piece with it.
  size_t read_header_bytes() const noexcept {
    return has_chunks() ? format_.chunk_header_bytes() + sizeof(be64) : sizeof(SimpleReply);
  }
  // The data is in place behind the header's room at request.reply. Without
  // `is_last` (only in chunks) more of the reply follows.
  void read_done(const NbdRequest& request, bool is_last = true);
  void read_nothing(const ReplyTo& to);  // a read of length 0
  // A part of a read that is known to be zeroes; only in chunks.
  void read_hole(const ReplyTo& to, uint64_t offset_bytes, uint32_t length_bytes, bool is_last);

  void done(const ReplyTo& to);
  void error(Command command, const ReplyTo& to, WireError error, std::string_view text);

  // False without memory: the connection cannot go on.
  bool is_intact() const noexcept { return is_intact_; }

 private:
  void simple(uint64_t cookie, WireError error);
  void empty_chunk(const ReplyTo& to);
  void error_chunk(const ReplyTo& to, WireError error, std::string_view text);
  // Room for a whole small reply; null without memory.
  std::byte* begin(size_t length_bytes) noexcept;

  const ReplyFormat format_;
  OutputQueue& output_;
  bool is_intact_ = true;
};

}  // namespace tidemark::nbd

// OptionReplies: writes the server's replies to one option behind `output`.
#pragma once

#include <string>
#include <string_view>

#include "common/nbd_wire.h"

namespace tidemark::nbd {

class OptionReplies {
 public:
  OptionReplies(uint32_t option, std::string& output) : option_(option), output_(output) {}

  void acknowledge() { reply(OptionReply::kAck, {}); }
  // `text` is for people and never holds a client's bytes.
  void refuse(OptionReply error, std::string_view text) { reply(error, text); }

  void reply(OptionReply type, std::string_view payload) {
    const OptionReplyHeader header{kOptionReplyMagic, option_, static_cast<uint32_t>(type),
                                   static_cast<uint32_t>(payload.size())};
    append(header);
    output_.append(payload);
  }

  template <typename Struct>
  void reply_struct(OptionReply type, const Struct& payload, std::string_view text = {}) {
    std::string bytes(reinterpret_cast<const char*>(&payload), sizeof payload);
    bytes.append(text);
    reply(type, bytes);
  }

 private:
  template <typename Struct>
  void append(const Struct& bytes) {
    output_.append(reinterpret_cast<const char*>(&bytes), sizeof bytes);
  }

  const uint32_t option_;
  std::string& output_;
};

}  // namespace tidemark::nbd

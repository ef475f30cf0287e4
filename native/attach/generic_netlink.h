// GenericNetlink: a socket to one family of the kernel's generic netlink.
// One thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "attach/netlink_message.h"
#include "common/fd.h"
#include "common/status.h"

namespace tidemark::attach {

class GenericNetlink {
 public:
  // kUnsupported when the kernel has no such family (its module is not loaded).
  static Result<GenericNetlink> open(const std::string& family);

  uint16_t family() const noexcept { return family_; }
  // The highest attribute that the kernel's family knows.
  uint32_t maximum_attribute() const noexcept { return maximum_attribute_; }
  int fd() const noexcept { return fd_.get(); }

  using Answer = std::function<void(const NetlinkAttributes& attributes)>;
  // Sends, and waits for the kernel's verdict: 0 or an errno. `answer` sees what
  // comes before it.
  int transact(NetlinkMessage& message, const Answer& answer = nullptr);

  // Messages to that multicast group arrive from now on; 0 or an errno.
  int subscribe(const std::string& group);
  // The command of the next multicast message; -1 when there is none that is whole.
  int receive_event(const Answer& answer);

 private:
  GenericNetlink() = default;
  int find_family(const std::string& name);

  UniqueFd fd_;
  uint16_t family_ = 0;
  uint32_t maximum_attribute_ = 0;
  uint32_t sequence_ = 0;
  std::vector<std::pair<std::string, uint32_t>> groups_;
};

}  // namespace tidemark::attach

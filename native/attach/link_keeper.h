// LinkKeeper: gives a /dev/nbdN fresh connections when the kernel has given up
// some of its old ones (a request took longer than its limit).
//
// A thread of its own waits for the kernel's word; JavaScript has no part in it.
#pragma once

#include <memory>
#include <thread>

#include "attach/generic_netlink.h"
#include "attach/kernel_nbd.h"
#include "common/fd.h"
#include "common/status.h"

namespace tidemark::attach {

class LinkKeeper {
 public:
  static Result<std::unique_ptr<LinkKeeper>> start(NbdAttachment attachment, uint32_t index);
  ~LinkKeeper();  // ends the thread; not on it

 private:
  LinkKeeper(NbdAttachment attachment, uint32_t index, GenericNetlink netlink, UniqueFd stop_fd);
  void run() noexcept;
  bool is_link_dead();

  const NbdAttachment attachment_;
  const uint32_t index_;
  GenericNetlink netlink_;
  const UniqueFd stop_fd_;
  std::thread thread_;
};

}  // namespace tidemark::attach

#include "attach/link_keeper.h"

#include <linux/nbd-netlink.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <system_error>

namespace tidemark::attach {

namespace {

// Several links may die at once: one answer for all. Also the wait before the
// next attempt when the server did not answer.
constexpr int kPauseMs = 100;

}  // namespace

Result<std::unique_ptr<LinkKeeper>> LinkKeeper::start(NbdAttachment attachment, uint32_t index) {
  auto netlink = GenericNetlink::open(NBD_GENL_FAMILY_NAME);
  if (!netlink.is_ok()) return netlink.status();
  if (const int error = netlink.value().subscribe(NBD_GENL_MCAST_GROUP_NAME); error != 0) {
    return Status::from_errno("Cannot watch the connections of a kernel block device", error);
  }
  UniqueFd stop_fd(::eventfd(0, EFD_CLOEXEC));
  if (!stop_fd.is_open()) return Status::from_errno("Cannot make an event descriptor", errno);
  std::unique_ptr<LinkKeeper> self(
      new LinkKeeper(std::move(attachment), index, std::move(netlink).value(), std::move(stop_fd)));
  try {
    self->thread_ = std::thread([raw = self.get()] { raw->run(); });
  } catch (const std::system_error& error) {
    return Status::from_errno("Cannot start a thread", error.code().value());
  }
  return self;
}

LinkKeeper::LinkKeeper(NbdAttachment attachment, uint32_t index, GenericNetlink netlink,
                       UniqueFd stop_fd)
    : attachment_(std::move(attachment)),
      index_(index),
      netlink_(std::move(netlink)),
      stop_fd_(std::move(stop_fd)) {}

LinkKeeper::~LinkKeeper() {
  ::eventfd_write(stop_fd_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

bool LinkKeeper::is_link_dead() {
  uint32_t index = 0;
  const int command = netlink_.receive_event([&](const NetlinkAttributes& attributes) {
    index = attributes.number<uint32_t>(NBD_ATTR_INDEX).value_or(UINT32_MAX);
  });
  return command == NBD_CMD_LINK_DEAD && index == index_;
}

void LinkKeeper::run() noexcept {
  bool is_due = false;
  for (;;) {
    pollfd waited[2] = {{stop_fd_.get(), POLLIN, 0}, {netlink_.fd(), POLLIN, 0}};
    ::poll(waited, 2, is_due ? kPauseMs : -1);
    if ((waited[0].revents & POLLIN) != 0) return;
    if ((waited[1].revents & POLLIN) != 0) {
      is_due = is_link_dead() || is_due;
      continue;
    }
    if (is_due) is_due = !reconnect_kernel_nbd(attachment_, index_).is_ok();
  }
}

}  // namespace tidemark::attach

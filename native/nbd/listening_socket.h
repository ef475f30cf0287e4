// ListeningSocket: a Unix or TCP socket that listens, its own or handed over; it
// takes its own Unix path away with it.
#pragma once

#include <sys/types.h>

#include <string>

#include "common/fd.h"
#include "common/status.h"
#include "nbd/nbd_server.h"

namespace tidemark::nbd {

class ListeningSocket {
 public:
  static Result<ListeningSocket> open(const NbdServerParameters& parameters);

  ListeningSocket(ListeningSocket&&) noexcept = default;
  ListeningSocket& operator=(ListeningSocket&&) noexcept = delete;
  ~ListeningSocket() { close(); }

  int fd() const noexcept { return fd_.get(); }
  const std::string& address() const noexcept { return address_; }  // kept after close()
  void close();

  // Options of a connection that was accepted; best effort.
  void prepare(int socket_fd) const noexcept;

 private:
  ListeningSocket() = default;

  static Result<ListeningSocket> open_unix(const std::string& path);
  static Result<ListeningSocket> take_over(int fd);
  static Result<ListeningSocket> open_tcp(const std::string& host, uint16_t port);

  UniqueFd fd_;
  std::string address_;
  bool is_unix_ = false;
  std::string unix_path_;  // its own, to be taken away
  dev_t unix_device_ = 0;  // with the inode: whether the path is still ours
  ino_t unix_inode_ = 0;
};

}  // namespace tidemark::nbd

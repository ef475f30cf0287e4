// What is set on, and asked of, a connection's socket.
#pragma once

namespace tidemark::nbd {

// Best effort. Unix sockets: buffers for large replies. TCP: no waiting for more to
// send, and probes that tell within minutes that an idle peer is gone.
void prepare_unix_connection(int socket_fd) noexcept;
void prepare_tcp_connection(int socket_fd) noexcept;

bool is_tcp_socket(int socket_fd) noexcept;
// Fewer bytes than these do not make the socket readable; its end always does.
void set_low_water(int socket_fd, int length_bytes) noexcept;

// Whether bytes that were sent have not reached the peer's kernel. Never of a Unix
// socket, where they are there at once.
bool has_undelivered_bytes(int socket_fd) noexcept;

}  // namespace tidemark::nbd

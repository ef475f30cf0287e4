#include "nbd/cipher_bio.h"

#include <memory>

namespace tidemark::nbd {

namespace {

struct MethodDelete {
  void operator()(BIO_METHOD* method) const noexcept { BIO_meth_free(method); }
};

CipherBuffers& buffers_of(BIO* bio) noexcept {
  return *static_cast<CipherBuffers*>(BIO_get_data(bio));
}

int read_incoming(BIO* bio, char* into, int at_most_bytes) {
  BIO_clear_retry_flags(bio);
  CipherBuffer& incoming = buffers_of(bio).incoming;
  if (incoming.is_empty()) {
    BIO_set_retry_read(bio);
    return -1;
  }
  return static_cast<int>(incoming.take(into, static_cast<size_t>(at_most_bytes)));
}

int write_outgoing(BIO* bio, const char* bytes, int length_bytes) {
  BIO_clear_retry_flags(bio);
  if (buffers_of(bio).outgoing.append(bytes, static_cast<size_t>(length_bytes))) {
    return length_bytes;
  }
  BIO_set_retry_write(bio);
  return -1;
}

// OpenSSL flushes after each flight; the stream sends when the batch is whole.
long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

BIO_METHOD* new_method() noexcept {
  BIO_METHOD* method =
      BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tidemark cipher buffers");
  if (method == nullptr) return nullptr;
  BIO_meth_set_read(method, &read_incoming);
  BIO_meth_set_write(method, &write_outgoing);
  BIO_meth_set_ctrl(method, &control);
  return method;
}

}  // namespace

BIO* new_cipher_bio(CipherBuffers& buffers) noexcept {
  static const std::unique_ptr<BIO_METHOD, MethodDelete> method(new_method());
  BIO* bio = method != nullptr ? BIO_new(method.get()) : nullptr;
  if (bio == nullptr) return nullptr;
  BIO_set_data(bio, &buffers);
  BIO_set_init(bio, 1);
  return bio;
}

}  // namespace tidemark::nbd

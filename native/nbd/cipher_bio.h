// The BIO through which OpenSSL reads and writes CipherBuffers.
#pragma once

#include <openssl/bio.h>

#include "nbd/cipher_buffer.h"

namespace tidemark::nbd {

struct CipherBuffers {
  CipherBuffer incoming;
  CipherBuffer outgoing;
};

// Null without memory. `buffers` outlive it.
BIO* new_cipher_bio(CipherBuffers& buffers) noexcept;

}  // namespace tidemark::nbd

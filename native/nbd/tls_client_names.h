// Which clients a server lets in, by the names in their certificates.
#pragma once

#include <openssl/x509.h>

#include <string>
#include <vector>

#include "common/status.h"

namespace tidemark::nbd {

// The DNS names and IP addresses of the subject alternative name, lower case.
// Only a certificate without any has its common name looked at: QEMU's recipe
// for client certificates writes no other.
std::vector<std::string> names_of(const X509* certificate);

// A pattern is a name, or "*.example.com" for every name under it. Empty: all.
bool is_client_allowed(const X509* certificate, const std::vector<std::string>& patterns);

// kInvalidArgument for what could match nothing, or everything.
Status check_client_pattern(const std::string& pattern);

}  // namespace tidemark::nbd

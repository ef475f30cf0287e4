#include "nbd/tls_client_names.h"

#include <arpa/inet.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <memory>
#include <string_view>

namespace tidemark::nbd {

namespace {

struct NamesDelete {
  void operator()(GENERAL_NAMES* names) const noexcept { GENERAL_NAMES_free(names); }
};

// The locale has no say in it.
std::string lower_case(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

// A name is compared only when it is plainly one: a wildcard, a byte that ends
// a C string or one that no host name has is passed over whole.
bool is_plain_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_' ||
           c == ':';
  });
}

std::string text_of(const ASN1_STRING* string) {
  const auto* bytes = reinterpret_cast<const char*>(ASN1_STRING_get0_data(string));
  return lower_case(std::string(bytes, static_cast<size_t>(ASN1_STRING_length(string))));
}

std::string address_of(const ASN1_OCTET_STRING* octets) {
  const int length = ASN1_STRING_length(octets);
  if (length != 4 && length != 16) return {};
  char text[INET6_ADDRSTRLEN];
  const int family = length == 4 ? AF_INET : AF_INET6;
  return ::inet_ntop(family, ASN1_STRING_get0_data(octets), text, sizeof text) != nullptr ? text
                                                                                          : "";
}

std::string common_name_of(const X509* certificate) {
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int last = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (last < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, last) >= 0) return {};
  return text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, last)));
}

bool matches(std::string_view name, std::string_view pattern) {
  if (!pattern.starts_with("*.")) return name == pattern;
  const std::string_view suffix = pattern.substr(1);
  return name.size() > suffix.size() && name.ends_with(suffix);
}

}  // namespace

std::vector<std::string> names_of(const X509* certificate) {
  int kind = 0;
  const std::unique_ptr<GENERAL_NAMES, NamesDelete> alternative(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, &kind, nullptr)));
  std::vector<std::string> found;
  constexpr int kIsAbsent = -1;
  if (alternative == nullptr && kind != kIsAbsent) return found;  // there, and not readable
  bool has_host_names = false;
  for (int i = 0; alternative != nullptr && i < sk_GENERAL_NAME_num(alternative.get()); ++i) {
    const GENERAL_NAME* entry = sk_GENERAL_NAME_value(alternative.get(), i);
    if (entry->type != GEN_DNS && entry->type != GEN_IPADD) continue;
    has_host_names = true;
    found.push_back(entry->type == GEN_DNS ? text_of(entry->d.dNSName)
                                           : address_of(entry->d.iPAddress));
  }
  if (!has_host_names) found.push_back(common_name_of(certificate));
  std::erase_if(found, [](const std::string& name) { return !is_plain_name(name); });
  return found;
}

bool is_client_allowed(const X509* certificate, const std::vector<std::string>& patterns) {
  if (patterns.empty()) return true;
  const std::vector<std::string> names = names_of(certificate);
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string& name) { return matches(name, lower_case(pattern)); });
  });
}

Status check_client_pattern(const std::string& pattern) {
  std::string_view name = pattern;
  const bool is_wildcard = name.starts_with("*.");
  if (is_wildcard) name.remove_prefix(2);
  const bool is_name = is_plain_name(lower_case(std::string(name))) && !name.starts_with('.');
  // "*.0.2.7" would mean addresses, which are not nested that way.
  const bool is_address = name.find_first_not_of("0123456789.:") == std::string_view::npos;
  if (is_name && !(is_wildcard && is_address)) return Status::ok();
  return Status(ErrorCode::kInvalidArgument,
                "Cannot allow clients by the name '" + pattern.substr(0, 80) +
                    "': because it is no host name. Give one such as vm1.example.com, or "
                    "*.example.com for every name under it.");
}

}  // namespace tidemark::nbd

#include "device/nbd_uri.h"

#include <charconv>
#include <optional>

#include "common/nbd_wire.h"

namespace tidemark {

namespace {

constexpr std::string_view kTcpScheme = "nbd://";
constexpr std::string_view kUnixScheme = "nbd+unix://";
constexpr std::string_view kSocketQuery = "socket=";
constexpr size_t kMaximumSocketPathBytes = 107;

Status refuse(std::string_view text, std::string reason) {
  return {ErrorCode::kInvalidArgument,
          "Cannot read the NBD URI " + std::string(text) + ": because " + std::move(reason)};
}

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0 || high * 16 + low == 0) return std::nullopt;
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return decoded;
}

std::string percent_encoded(std::string_view text) {
  constexpr std::string_view kUnreserved =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    if (kUnreserved.find(c) != std::string_view::npos) {
      encoded += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    encoded += {'%', kHex[byte >> 4], kHex[byte & 15]};
  }
  return encoded;
}

struct UriParts {
  std::string_view authority, path, query;
};

UriParts split(std::string_view rest) {
  UriParts parts;
  if (const size_t mark = rest.find('?'); mark != std::string_view::npos) {
    parts.query = rest.substr(mark + 1);
    rest = rest.substr(0, mark);
  }
  const size_t slash = rest.find('/');
  parts.authority = rest.substr(0, slash);
  if (slash != std::string_view::npos) parts.path = rest.substr(slash + 1);
  return parts;
}

// "HOST", "HOST:PORT", "[ADDRESS]:PORT". False: not one of these.
bool take_authority(std::string_view authority, NbdDeviceParameters& parameters) {
  std::string_view host = authority;
  std::string_view port;
  const size_t bracket = authority.rfind(']');
  const size_t colon = authority.rfind(':');
  if (colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket)) {
    host = authority.substr(0, colon);
    port = authority.substr(colon + 1);
    const auto [end, error] =
        std::from_chars(port.data(), port.data() + port.size(), parameters.port);
    if (error != std::errc() || end != port.data() + port.size() || parameters.port == 0) {
      return false;
    }
  }
  if (host.starts_with('[')) {
    if (!host.ends_with(']')) return false;
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return false;
  }
  const auto decoded = percent_decoded(host);
  if (!decoded || decoded->empty() || decoded->find('@') != std::string::npos) return false;
  parameters.host = *decoded;
  return true;
}

Status take_socket(std::string_view text, const UriParts& parts, NbdDeviceParameters& parameters) {
  if (!parts.authority.empty()) {
    return refuse(text, "nbd+unix has no host. Write nbd+unix:///EXPORT?socket=PATH.");
  }
  std::string_view query = parts.query;
  if (!query.starts_with(kSocketQuery) || query.find('&') != std::string_view::npos) {
    return refuse(text, "it must end in ?socket=PATH and nothing else.");
  }
  const auto path = percent_decoded(query.substr(kSocketQuery.size()));
  if (!path || path->empty()) return refuse(text, "the socket's path is empty or badly encoded.");
  if (path->size() > kMaximumSocketPathBytes) {
    return refuse(text, "a Unix socket's path has at most 107 bytes.");
  }
  parameters.unix_path = *path;
  return Status::ok();
}

}  // namespace

bool is_nbd_uri(std::string_view text) noexcept {
  return text.starts_with(kTcpScheme) || text.starts_with(kUnixScheme) ||
         text.starts_with("nbds://") || text.starts_with("nbds+unix://");
}

Result<NbdDeviceParameters> parse_nbd_uri(std::string_view text) {
  if (text.starts_with("nbds")) {
    return Status(ErrorCode::kUnsupported,
                  "Cannot read the NBD URI " + std::string(text) +
                      ": because upstreams over TLS are not supported. Use nbd:// or nbd+unix://.");
  }
  NbdDeviceParameters parameters;
  const bool is_unix = text.starts_with(kUnixScheme);
  if (!is_unix && !text.starts_with(kTcpScheme)) {
    return refuse(text, "it does not begin with nbd:// or nbd+unix://.");
  }
  if (text.find('#') != std::string_view::npos) return refuse(text, "it has a fragment (#).");
  const UriParts parts = split(text.substr(is_unix ? kUnixScheme.size() : kTcpScheme.size()));
  if (is_unix) {
    if (Status status = take_socket(text, parts, parameters); !status.is_ok()) return status;
  } else if (!take_authority(parts.authority, parameters)) {
    return refuse(text, "its host or port is not valid. Write nbd://HOST:PORT/EXPORT.");
  } else if (!parts.query.empty()) {
    return refuse(text, "nbd:// takes no ?options.");
  }
  const auto name = percent_decoded(parts.path);
  if (!name) return refuse(text, "the export's name is badly percent-encoded.");
  if (name->size() > nbd::kMaximumStringBytes) {
    return refuse(text, "an export's name has at most 4096 bytes.");
  }
  parameters.export_name = *name;
  return parameters;
}

std::string nbd_uri_of(const NbdDeviceParameters& parameters) {
  const std::string name = percent_encoded(parameters.export_name);
  if (!parameters.unix_path.empty()) {
    return "nbd+unix:///" + name + "?socket=" + percent_encoded(parameters.unix_path);
  }
  const bool is_v6 = parameters.host.find(':') != std::string::npos;
  const std::string host = is_v6 ? "[" + parameters.host + "]" : parameters.host;
  return "nbd://" + host + ":" + std::to_string(parameters.port) + "/" + name;
}

}  // namespace tidemark

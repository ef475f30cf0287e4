// The NBD protocol's numbers and structs, as the specification lays them out.
//
// All structs are made of BigEndian fields (alignment 1), so that a struct's
// bytes are the wire's bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "common/byte_order.h"

namespace tidemark::nbd {

template <std::unsigned_integral T>
class BigEndian {
 public:
  BigEndian() = default;
  BigEndian(T value) noexcept { store_be(bytes_, value); }    // NOLINT(google-explicit-constructor)
  operator T() const noexcept { return load_be<T>(bytes_); }  // NOLINT(google-explicit-constructor)

 private:
  unsigned char bytes_[sizeof(T)];
};

using be16 = BigEndian<uint16_t>;
using be32 = BigEndian<uint32_t>;
using be64 = BigEndian<uint64_t>;

template <typename Struct>
Struct load_struct(const std::byte* from) noexcept {
  Struct value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// ---- Handshake -------------------------------------------------------------

inline constexpr uint64_t kServerMagic = 0x4e42444d41474943;  // "NBDMAGIC"
inline constexpr uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;

inline constexpr uint16_t kServerFixedNewstyle = 1U << 0;
inline constexpr uint16_t kServerNoZeroes = 1U << 1;
inline constexpr uint32_t kClientFixedNewstyle = 1U << 0;
inline constexpr uint32_t kClientNoZeroes = 1U << 1;

enum class Option : uint32_t {
  kExportName = 1,
  kAbort = 2,
  kList = 3,
  kStartTls = 5,
  kInfo = 6,
  kGo = 7,
  kStructuredReply = 8,
  kListMetaContext = 9,
  kSetMetaContext = 10,
  kExtendedHeaders = 11,
};

enum class OptionReply : uint32_t {
  kAck = 1,
  kServer = 2,
  kInfo = 3,
  kMetaContext = 4,
  kErrorUnsupported = 0x80000001,
  kErrorPolicy = 0x80000002,
  kErrorInvalid = 0x80000003,
  kErrorPlatform = 0x80000004,
  kErrorTlsRequired = 0x80000005,
  kErrorUnknown = 0x80000006,
  kErrorShutdown = 0x80000007,
  kErrorBlockSizeRequired = 0x80000008,
  kErrorTooBig = 0x80000009,
  kErrorExtendedHeadersRequired = 0x8000000a,
};

enum class Info : uint16_t { kExport = 0, kName = 1, kDescription = 2, kBlockSize = 3 };

inline constexpr uint32_t kMaximumStringBytes = 4096;
inline constexpr uint32_t kMaximumOptionBytes = 64 * 1024;

struct Greeting {
  be64 server_magic;
  be64 option_magic;
  be16 flags;
};
static_assert(sizeof(Greeting) == 18);

struct OptionHeader {
  be64 magic;
  be32 option;
  be32 length_bytes;
};
static_assert(sizeof(OptionHeader) == 16);

struct OptionReplyHeader {
  be64 magic;
  be32 option;
  be32 type;
  be32 length_bytes;
};
static_assert(sizeof(OptionReplyHeader) == 20);

struct ExportNameReply {
  be64 size_bytes;
  be16 transmission_flags;
};
static_assert(sizeof(ExportNameReply) == 10);
inline constexpr size_t kExportNameZeroes = 124;

struct InfoExport {
  be16 type;
  be64 size_bytes;
  be16 transmission_flags;
};
static_assert(sizeof(InfoExport) == 12);

struct InfoBlockSize {
  be16 type;
  be32 minimum_bytes;
  be32 preferred_bytes;
  be32 maximum_bytes;
};
static_assert(sizeof(InfoBlockSize) == 14);

// ---- Transmission ----------------------------------------------------------

inline constexpr uint16_t kFlagHasFlags = 1U << 0;
inline constexpr uint16_t kFlagReadOnly = 1U << 1;
inline constexpr uint16_t kFlagSendFlush = 1U << 2;
inline constexpr uint16_t kFlagSendFua = 1U << 3;
inline constexpr uint16_t kFlagRotational = 1U << 4;
inline constexpr uint16_t kFlagSendTrim = 1U << 5;
inline constexpr uint16_t kFlagSendWriteZeroes = 1U << 6;
inline constexpr uint16_t kFlagSendDf = 1U << 7;
inline constexpr uint16_t kFlagCanMultiConn = 1U << 8;
inline constexpr uint16_t kFlagSendCache = 1U << 10;
inline constexpr uint16_t kFlagSendFastZero = 1U << 11;
inline constexpr uint16_t kFlagBlockStatusPayload = 1U << 12;

inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kStructuredReplyMagic = 0x668e33ef;
// After EXTENDED_HEADERS, in place of the three above.
inline constexpr uint32_t kExtendedRequestMagic = 0x21e41c71;
inline constexpr uint32_t kExtendedReplyMagic = 0x6e8a278c;

enum class Command : uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kCache = 5,
  kWriteZeroes = 6,
  kBlockStatus = 7,
};

inline constexpr uint16_t kCommandFua = 1U << 0;
inline constexpr uint16_t kCommandNoHole = 1U << 1;
inline constexpr uint16_t kCommandDf = 1U << 2;
inline constexpr uint16_t kCommandReqOne = 1U << 3;
inline constexpr uint16_t kCommandFastZero = 1U << 4;
// Extended headers: the length is that of a payload behind the header.
inline constexpr uint16_t kCommandPayloadLength = 1U << 5;

enum class ChunkType : uint16_t {
  kNone = 0,
  kOffsetData = 1,
  kOffsetHole = 2,
  kBlockStatus = 5,
  kBlockStatusExtended = 6,
  kError = 0x8001,
  kErrorOffset = 0x8002,
};
inline constexpr uint16_t kChunkDone = 1U << 0;

// The specification's error numbers; they equal Linux's.
enum class WireError : uint32_t {
  kNone = 0,
  kPerm = 1,
  kIo = 5,
  kNoMemory = 12,
  kInvalid = 22,
  kNoSpace = 28,
  kOverflow = 75,
  kNotSupported = 95,
  kShutdown = 108,
};

inline constexpr uint32_t kMaximumPayloadBytes = 32 * 1024 * 1024;

struct RequestHeader {
  be32 magic;
  be16 flags;
  be16 command;
  be64 cookie;
  be64 offset_bytes;
  be32 length_bytes;
};
static_assert(sizeof(RequestHeader) == 28);

struct ExtendedRequestHeader {
  be32 magic;
  be16 flags;
  be16 command;
  be64 cookie;
  be64 offset_bytes;
  be64 length_bytes;
};
static_assert(sizeof(ExtendedRequestHeader) == 32);

struct SimpleReply {
  be32 magic;
  be32 error;
  be64 cookie;
};
static_assert(sizeof(SimpleReply) == 16);

struct StructuredChunk {
  be32 magic;
  be16 flags;
  be16 type;
  be64 cookie;
  be32 length_bytes;
};
static_assert(sizeof(StructuredChunk) == 20);

struct OffsetDataChunk {
  StructuredChunk header;
  be64 offset_bytes;
};
static_assert(sizeof(OffsetDataChunk) == 28);

struct ErrorChunk {
  StructuredChunk header;
  be32 error;
  be16 text_bytes;
};
static_assert(sizeof(ErrorChunk) == 26);

struct BlockStatusChunk {
  StructuredChunk header;
  be32 context_id;
};
static_assert(sizeof(BlockStatusChunk) == 24);

struct ExtendedChunk {
  be32 magic;
  be16 flags;
  be16 type;
  be64 cookie;
  be64 offset_bytes;  // the request's
  be64 length_bytes;
};
static_assert(sizeof(ExtendedChunk) == 32);

// Payloads of chunks, behind either header.

struct OffsetHole {
  be64 offset_bytes;
  be32 length_bytes;
};
static_assert(sizeof(OffsetHole) == 12);

struct ErrorText {  // the text follows
  be32 error;
  be16 text_bytes;
};
static_assert(sizeof(ErrorText) == 6);

struct BlockStatusExtent {
  be32 length_bytes;
  be32 flags;
};
static_assert(sizeof(BlockStatusExtent) == 8);

struct BlockStatusExtendedHead {
  be32 context_id;
  be32 extent_count;
};
static_assert(sizeof(BlockStatusExtendedHead) == 8);

struct BlockStatusExtendedExtent {
  be64 length_bytes;
  be64 flags;
};
static_assert(sizeof(BlockStatusExtendedExtent) == 16);

}  // namespace tidemark::nbd

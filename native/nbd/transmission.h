// Transmission: the phase of requests and replies of one connection.
//
// It parses requests out of the input buffer, checks them, hands them to the
// device, and queues their replies, in the order of completion. Everything runs
// on the connection's I/O thread, except that a device may complete on any
// thread: such a request travels back through the loop's mailbox.
#pragma once

#include <cstdint>
#include <vector>

#include "nbd/block_status.h"
#include "nbd/input_buffer.h"
#include "nbd/loop_context.h"
#include "nbd/output_queue.h"
#include "nbd/reply_writer.h"
#include "nbd/request_check.h"
#include "nbd/session.h"

namespace tidemark::nbd {

class ReplyListener {
 public:
  virtual ~ReplyListener() = default;
  virtual void on_reply() noexcept = 0;  // a request is done; on the I/O thread
};

// What a transmission needs of its connection.
struct TransmissionChannel {
  LoopContext& loop;
  InputBuffer& input;
  OutputQueue& output;
  size_t& live_bytes;  // of all chunks that the connection holds
  ReplyListener& listener;
};

class Transmission {
 public:
  enum class Progress {
    kWantsInput,    // everything parsed that is there as a whole
    kLimited,       // stopped by is_limited(); run() again later
    kDisconnected,  // the client said so, or broke the protocol
  };

  Transmission(Session session, const TransmissionChannel& channel);
  ~Transmission();

  // Parses and submits until the input or a limit ends it.
  Progress run();

  // The device is done with `request`. On the I/O thread.
  void finish(NbdRequest& request) noexcept;

  // From now on every request is answered with ESHUTDOWN.
  void refuse_all() noexcept { is_refusing_ = true; }
  // The client is gone: replies are dropped.
  void drop_replies() noexcept { is_dropping_ = true; }

  bool is_intact() const noexcept { return replies_.is_intact(); }
  uint32_t in_flight_count() const noexcept { return in_flight_count_; }
  // Too much queued, held or in flight to take more requests.
  bool is_limited() const noexcept;
  const ServedExport* served() const noexcept { return session_.served.get(); }

 private:
  enum class Expecting { kHeader, kPayload, kSkippedPayload };

  static void on_done(IoRequest& request, void* context, uint64_t word, int error) noexcept;

  // Each returns false when it needs more input than there is.
  bool step();
  bool parse_request();
  bool parse_write(const RequestHeader& header);
  bool begin_large_write(const RequestHeader& header);
  bool finish_large_write();
  bool skip_payload();

  void execute(const RequestHeader& header);
  void submit_read(const RequestHeader& header);
  void submit(NbdRequest& request, const RequestHeader& header, IoOp op);
  void answer_block_status(const RequestHeader& header);
  void answer_error(const RequestHeader& header, const Refusal& refusal);
  void reply(const NbdRequest& request);
  RequestRules current_rules() const noexcept;

  Session session_;
  BlockDevice& device_;
  TransmissionChannel channel_;
  ReplyWriter replies_;
  BlockStatusQuery block_status_;

  RequestRules rules_;  // as of the current run()
  Expecting expecting_ = Expecting::kHeader;
  RequestHeader awaiting_{};           // the write whose payload is expected
  NbdRequest* large_write_ = nullptr;  // kPayload: not yet submitted
  uint64_t skip_left_bytes_ = 0;       // kSkippedPayload
  Refusal skip_refusal_;

  uint32_t in_flight_count_ = 0;
  bool is_disconnected_ = false;
  bool is_refusing_ = false;
  bool is_dropping_ = false;
};

}  // namespace tidemark::nbd

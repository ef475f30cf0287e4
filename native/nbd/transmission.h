// Transmission: the phase of requests and replies of one connection.
//
// It parses requests out of the input buffer, checks them, hands them to the
// device, and queues their replies, in the order of completion. Everything runs
// on the connection's I/O thread, except that a device may complete on any
// thread: such a request travels back through the loop's mailbox.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "nbd/client_request.h"
#include "nbd/input_buffer.h"
#include "nbd/loop_context.h"
#include "nbd/output_queue.h"
#include "nbd/reply_writer.h"
#include "nbd/request_check.h"
#include "nbd/session.h"
#include "nbd/sparse_read.h"

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
  bool parse_with_payload(const ClientRequest& request);
  bool parse_write(const ClientRequest& request);
  bool parse_status_filter(const ClientRequest& request);
  bool begin_large_write(const ClientRequest& request);
  bool finish_large_write();
  bool begin_skip(const ClientRequest& request, const Refusal& refusal);
  bool skip_payload();
  bool disconnect() noexcept;

  Refusal check(const ClientRequest& request) const noexcept;
  void execute(const ClientRequest& request);
  bool may_be_sparse(const ClientRequest& request) const noexcept;
  void submit_read(const ClientRequest& request);
  void submit_sparse_read(const ClientRequest& request);
  void submit_part(const ClientRequest& part, SparseRead& sparse);
  void finish_part(NbdRequest& request);
  void end_part(SparseRead& sparse, int error);
  void submit(NbdRequest& request, const ClientRequest& from, IoOp op);
  void answer_block_status(const ClientRequest& request,
                           std::span<const MetaContext* const> contexts);
  bool may_take_a_while(std::span<const MetaContext* const> contexts) const noexcept;
  void submit_status_query(const ClientRequest& request,
                           std::span<const MetaContext* const> contexts);
  void finish_status_query(NbdRequest& request);
  void answer_no_extents(const ClientRequest& request);
  void answer_error(const ClientRequest& request, const Refusal& refusal);
  void reply(const NbdRequest& request);
  RequestRules current_rules() const noexcept;

  Session session_;
  BlockDevice& device_;
  TransmissionChannel channel_;
  ReplyWriter replies_;
  // Of the headers that the client sends.
  const uint32_t request_magic_;
  const uint32_t header_bytes_;
  const bool has_cheap_extents_;
  SparseReadPlanner sparse_reads_;
  std::vector<const MetaContext*> all_contexts_;     // the session's
  std::vector<const MetaContext*> chosen_contexts_;  // scratch

  RequestRules rules_;  // as of the current run()
  Expecting expecting_ = Expecting::kHeader;
  ClientRequest awaiting_;             // the request whose payload is expected
  NbdRequest* large_write_ = nullptr;  // kPayload: not yet submitted
  uint64_t skip_left_bytes_ = 0;       // kSkippedPayload
  Refusal skip_refusal_;

  uint32_t in_flight_count_ = 0;
  bool is_disconnected_ = false;
  bool is_refusing_ = false;
  bool is_dropping_ = false;
};

}  // namespace tidemark::nbd

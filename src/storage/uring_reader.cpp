// Raw reads through io_uring.
//
// The ring is set up without IORING_SETUP_DEFER_TASKRUN and COOP_TASKRUN: both let completions (and the second half of
// a read that the kernel had to split) wait until the submitting thread next enters the kernel, and ours computes for
// milliseconds between submit and collect.
#include "storage/raw_readers.h"

#ifndef HYPURA_HAS_URING

namespace hypura::storage {

Result<std::unique_ptr<RawReader>> make_uring_reader(uint32_t) {
    return fail(ErrorCode::kUnsupportedHost, "this hypura was built without io_uring; use the pread reader");
}

}  // namespace hypura::storage

#else

#include <liburing.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <thread>

namespace hypura::storage {
namespace {

// The kernel has no room at the moment, or a signal came: nothing was lost, and the same call will do later.
bool is_transient(int result) { return result == -EINTR || result == -EAGAIN || result == -EBUSY; }

class UringReader final : public RawReader {
public:
    static Result<std::unique_ptr<RawReader>> create(uint32_t queue_depth);
    UringReader(const UringReader&) = delete;
    ~UringReader() override;

    Status submit(std::span<const RawRead> reads) override;
    Status collect(std::vector<RawCompletion>& out, bool block) override;
    size_t in_flight() const override { return waiting_.size() + entered_; }
    std::string_view name() const override { return "io_uring"; }

private:
    explicit UringReader(uint32_t queue_depth) : queue_depth_(queue_depth) {}
    Status set_up();
    Status feed_kernel();
    void enter_waiting_reads();
    Status wait_for_completion();
    void reap(std::vector<RawCompletion>& out);

    io_uring ring_{};
    bool ring_ready_ = false;
    uint32_t queue_depth_;
    size_t entered_ = 0;           // written to the submission ring and not reaped yet
    std::deque<RawRead> waiting_;  // beyond the queue depth
};

Result<std::unique_ptr<RawReader>> UringReader::create(uint32_t queue_depth) {
    std::unique_ptr<UringReader> reader(new UringReader(queue_depth));
    HYPURA_TRY(reader->set_up());
    return reader;
}

Status UringReader::set_up() {
    io_uring_params params{};
    params.flags = IORING_SETUP_CLAMP;
    const int result = io_uring_queue_init_params(queue_depth_, &ring_, &params);
    // ENOMEM: before Linux 5.12 the ring counts against RLIMIT_MEMLOCK, which is small by default.
    if (result == -ENOSYS || result == -EPERM || result == -EACCES || result == -ENOMEM) {
        return fail(ErrorCode::kUnsupportedHost, "io_uring is not available here ({}); use the pread reader",
                    error_from_errno(-result, "set it up", "kernel").message);
    }
    if (result < 0) return std::unexpected(error_from_errno(-result, "set up a queue", "io_uring"));
    ring_ready_ = true;
    queue_depth_ = std::min(queue_depth_, params.sq_entries);
    return {};
}

UringReader::~UringReader() {
    if (!ring_ready_) return;
    waiting_.clear();
    std::vector<RawCompletion> discarded;
    // An error here means that the kernel broke the ring; closing it is then all that is left to do.
    while (entered_ > 0 && collect(discarded, true)) discarded.clear();
    io_uring_queue_exit(&ring_);
}

Status UringReader::submit(std::span<const RawRead> reads) {
    waiting_.insert(waiting_.end(), reads.begin(), reads.end());
    return feed_kernel();
}

Status UringReader::collect(std::vector<RawCompletion>& out, bool block) {
    const size_t before = out.size();
    reap(out);
    HYPURA_TRY(feed_kernel());
    if (!block || out.size() > before || entered_ == 0) return {};
    HYPURA_TRY(wait_for_completion());
    reap(out);
    return feed_kernel();
}

Status UringReader::feed_kernel() {
    enter_waiting_reads();
    if (io_uring_sq_ready(&ring_) == 0) return {};
    const int result = io_uring_submit(&ring_);
    // After a transient failure the entries stay in the ring, and the next submit or collect offers them again.
    if (result >= 0 || is_transient(result)) return {};
    return std::unexpected(error_from_errno(-result, "submit reads", "io_uring"));
}

void UringReader::enter_waiting_reads() {
    while (!waiting_.empty() && entered_ < queue_depth_) {
        io_uring_sqe* entry = io_uring_get_sqe(&ring_);
        if (entry == nullptr) return;
        const RawRead& read = waiting_.front();
        io_uring_prep_read(entry, read.fd, read.destination, read.bytes, read.offset);
        io_uring_sqe_set_data64(entry, read.tag);
        waiting_.pop_front();
        ++entered_;
    }
}

Status UringReader::wait_for_completion() {
    while (io_uring_cq_ready(&ring_) == 0) {
        // Submits as well: what waits in the ring after EAGAIN could otherwise be all that we wait for.
        const int result = io_uring_submit_and_wait(&ring_, 1);
        if (result >= 0) continue;
        if (!is_transient(result)) return std::unexpected(error_from_errno(-result, "wait for reads", "io_uring"));
        if (result != -EINTR) std::this_thread::yield();
    }
    return {};
}

void UringReader::reap(std::vector<RawCompletion>& out) {
    io_uring_cqe* entry = nullptr;
    while (io_uring_peek_cqe(&ring_, &entry) == 0) {
        out.push_back({io_uring_cqe_get_data64(entry), entry->res});
        io_uring_cqe_seen(&ring_, entry);
        --entered_;
    }
}

}  // namespace

Result<std::unique_ptr<RawReader>> make_uring_reader(uint32_t queue_depth) { return UringReader::create(queue_depth); }

}  // namespace hypura::storage

#endif

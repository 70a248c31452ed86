// Raw reads through io_uring.
//
// The ring is set up without IORING_SETUP_DEFER_TASKRUN and COOP_TASKRUN: both let completions (and the second half of
// a read that the kernel had to split) wait until the submitting thread next enters the kernel, and ours computes for
// milliseconds between submit and collect.
//
// Reads that are submitted together run in *lanes*: each lane is a chain of linked requests, of which the kernel starts
// one when the one before is done. So the reads come back one after another, in order, and the caller computes with the
// first while the last is on its way; all at once, they would share the device and all come back at the end (measured
// on a virtio disk: three slices of 1.7 MiB after 2.0, 2.0 and 2.0 ms unchained, after 0.7, 1.4 and 2.0 ms in two
// lanes).
#include "storage/raw_readers.h"

#ifndef HYPURA_HAS_URING

namespace hypura::storage {

Result<std::unique_ptr<RawReader>> make_uring_reader(const ReaderOptions&) {
    return fail(ErrorCode::kUnsupportedHost, "this hypura was built without io_uring; use the pread reader");
}

}  // namespace hypura::storage

#else

#include "base/clock.h"

#include <liburing.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <thread>

namespace hypura::storage {
namespace {

// The kernel has no room at the moment, or a signal came: nothing was lost, and the same call will do later.
bool is_transient(int result) { return result == -EINTR || result == -EAGAIN || result == -EBUSY; }

// Leaves what the core shares to others for a moment.
void pause_core() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

class UringReader final : public RawReader {
public:
    static Result<std::unique_ptr<RawReader>> create(const ReaderOptions& options);
    UringReader(const UringReader&) = delete;
    ~UringReader() override;

    Status submit(std::span<const RawRead> reads) override;
    Status collect(std::vector<RawCompletion>& out, bool block) override;
    size_t in_flight() const override { return waiting_.size() + entered_; }
    std::string_view name() const override { return "io_uring"; }

private:
    explicit UringReader(const ReaderOptions& options)
        : queue_depth_(options.queue_depth), lanes_(options.lanes), poll_us_(options.poll_us) {}
    Status set_up();
    Status feed_kernel();
    void enter_waiting_reads();
    size_t reads_to_enter() const;
    void enter_lane(size_t first, size_t count, size_t step);
    Status wait_for_completion();
    void poll_for_completion() const;
    void reap(std::vector<RawCompletion>& out);

    io_uring ring_{};
    bool ring_ready_ = false;
    uint32_t queue_depth_;
    uint32_t lanes_;               // 0: reads are not chained
    uint32_t poll_us_;             // before sleeping
    size_t entered_ = 0;           // written to the submission ring and not reaped yet
    std::deque<RawRead> waiting_;  // beyond the queue depth
    std::vector<RawRead> reads_;   // those in the ring, under the index that is their user data
    std::vector<size_t> free_;     // unused places of reads_
};

Result<std::unique_ptr<RawReader>> UringReader::create(const ReaderOptions& options) {
    std::unique_ptr<UringReader> reader(new UringReader(options));
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
    reads_.resize(queue_depth_);
    for (size_t place = 0; place < reads_.size(); ++place) free_.push_back(place);
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
    while (const size_t count = reads_to_enter()) {
        const size_t step = lanes_ == 0 ? count : lanes_;
        for (size_t lane = 0; lane < std::min(step, count); ++lane) enter_lane(lane, count, step);
        waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(count));
    }
}

// Those that lanes are made of next: up to one that waits for all before it, and so begins lanes of its own.
size_t UringReader::reads_to_enter() const {
    const size_t most = std::min({waiting_.size(), free_.size(), size_t{io_uring_sq_space_left(&ring_)}});
    size_t count = std::min<size_t>(most, 1);
    while (count < most && !waiting_[count].behind) ++count;
    return count;
}

// Every `step`-th of the first `count` waiting reads, linked.
void UringReader::enter_lane(size_t first, size_t count, size_t step) {
    for (size_t i = first; i < count; i += step) {
        const size_t place = free_.back();
        free_.pop_back();
        const RawRead& read = reads_[place] = waiting_[i];
        io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
        io_uring_prep_read(entry, read.fd, read.destination, read.bytes, read.offset);
        io_uring_sqe_set_data64(entry, place);
        if (i + step < count) entry->flags |= IOSQE_IO_LINK;
        if (read.behind) entry->flags |= IOSQE_IO_DRAIN;
        ++entered_;
    }
}

Status UringReader::wait_for_completion() {
    poll_for_completion();
    while (io_uring_cq_ready(&ring_) == 0) {
        // Submits as well: what waits in the ring after EAGAIN could otherwise be all that we wait for.
        const int result = io_uring_submit_and_wait(&ring_, 1);
        if (result >= 0) continue;
        if (!is_transient(result)) return std::unexpected(error_from_errno(-result, "wait for reads", "io_uring"));
        if (result != -EINTR) std::this_thread::yield();
    }
    return {};
}

// Reads that the kernel has are completed without its being entered; those that it refused for now are not begun.
void UringReader::poll_for_completion() const {
    if (poll_us_ == 0 || io_uring_sq_ready(&ring_) > 0) return;
    const int64_t end_us = now_us() + poll_us_;
    while (io_uring_cq_ready(&ring_) == 0 && now_us() < end_us) pause_core();
}

// A read that failed or fell short cancels those behind it in its lane: they never began, and wait again.
void UringReader::reap(std::vector<RawCompletion>& out) {
    io_uring_cqe* entry = nullptr;
    while (io_uring_peek_cqe(&ring_, &entry) == 0) {
        const size_t place = io_uring_cqe_get_data64(entry);
        if (entry->res == -ECANCELED)
            waiting_.push_back(reads_[place]);
        else
            out.push_back({reads_[place].tag, entry->res});
        io_uring_cqe_seen(&ring_, entry);
        free_.push_back(place);
        --entered_;
    }
}

}  // namespace

Result<std::unique_ptr<RawReader>> make_uring_reader(const ReaderOptions& options) {
    return UringReader::create(options);
}

}  // namespace hypura::storage

#endif

#include "engine/upload_queue.h"

#include "engine/llama_library.h"

#include <algorithm>
#include <exception>
#include <system_error>
#include <utility>

namespace hypura::engine {
namespace {

// What is submitted at once: enough to hide what a submission costs, little enough for somebody to wait for.
constexpr uint64_t kBatchBytes = uint64_t{32} << 20;
// 30 us of one thread's work: wait() waits no longer than that for the queue to be its own.
constexpr uint64_t kPieceBytes = 256 << 10;

// Takes the first piece off `rest`.
UploadQueue::Transfer cut(UploadQueue::Transfer& rest) {
    UploadQueue::Transfer piece = rest;
    piece.bytes = std::min(kPieceBytes, rest.bytes);
    rest.offset += piece.bytes;
    rest.data += piece.bytes;
    rest.bytes -= piece.bytes;
    return piece;
}

}  // namespace

Result<std::unique_ptr<UploadQueue>> UploadQueue::create(ggml_backend_dev_t device, uint32_t writers) {
    BackendHandle backend = start_backend(device, 1);
    if (backend == nullptr)
        return fail(ErrorCode::kUnsupportedHost, "{}: ggml cannot start this device", ggml_backend_dev_name(device));
    std::unique_ptr<UploadQueue> queue(new UploadQueue(std::move(backend)));
    queue->writes_directly_ = writers > 0;
    const auto work = writers > 0 ? &UploadQueue::write : &UploadQueue::feed;
    try {
        for (uint32_t i = 0; i < std::max(writers, 1U); ++i)
            queue->threads_.emplace_back([&self = *queue, work](const std::stop_token& stop) { (self.*work)(stop); });
    } catch (const std::system_error& error) {
        return fail(ErrorCode::kUnsupportedHost, "cannot start a thread that uploads to a device: {}", error.what());
    }
    return queue;
}

UploadQueue::~UploadQueue() {
    if (!threads_.empty()) (void)wait(pushed_);
    for (std::jthread& thread : threads_) thread.request_stop();
    threads_.clear();
}

UploadQueue::Ticket UploadQueue::push(const Transfer& transfer) {
    const std::lock_guard lock(mutex_);
    queued_.push_back({++pushed_, transfer});
    change_.notify_all();
    return pushed_;
}

Status UploadQueue::wait(Ticket ticket) {
    std::unique_lock lock(mutex_);
    if (!writes_directly_) {
        change_.wait(lock, [&] { return done_ >= ticket; });
        return failure_;
    }
    pause_writers(lock);
    take_until(ticket);
    if (!batch_.empty()) finish_batch(lock);
    resume_writers();
    return failure_;
}

std::vector<UploadQueue::Ticket> UploadQueue::recall() {
    std::unique_lock lock(mutex_);
    pause_writers(lock);
    std::vector<Ticket> recalled;
    for (const Queued& queued : queued_)
        if (queued.transfer.bytes > 0 || queued.transfer.from != nullptr) recalled.push_back(queued.ticket);
    queued_.clear();
    change_.wait(lock, [this] { return !is_feeding_; });
    done_ = pushed_;  // or will never come
    resume_writers();
    return recalled;
}

// ---- threads that write --------------------------------------------------------------------------------------------

void UploadQueue::pause_writers(std::unique_lock<std::mutex>& lock) {
    is_paused_ = true;
    change_.wait(lock, [this] { return writing_ == 0; });
}

void UploadQueue::resume_writers() {
    is_paused_ = false;
    change_.notify_all();
}

void UploadQueue::write(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (change_.wait(lock, stop, [this] { return !is_paused_ && next_to_write() != nullptr; })) {
        const Transfer piece = cut(*next_to_write());
        ++writing_;
        lock.unlock();
        ggml_backend_tensor_set(piece.to, piece.data, piece.offset, piece.bytes);
        lock.lock();
        --writing_;
        change_.notify_all();
    }
}

// Copies within the device are left for its queue.
UploadQueue::Transfer* UploadQueue::next_to_write() {
    const auto next = std::ranges::find_if(queued_, [](const Queued& queued) { return queued.transfer.bytes > 0; });
    return next == queued_.end() ? nullptr : &next->transfer;
}

// ---- the device's queue --------------------------------------------------------------------------------------------

void UploadQueue::feed(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (change_.wait(lock, stop, [this] { return !queued_.empty(); })) {
        take_batch();
        finish_batch(lock);
    }
}

void UploadQueue::take_batch() {
    uint64_t bytes = 0;
    Ticket last = 0;
    for (const Queued& queued : queued_) {
        if (last != 0 && (bytes >= kBatchBytes || queued.transfer.from != nullptr)) break;
        bytes += queued.transfer.bytes;
        last = queued.ticket;
    }
    take_until(last);
}

void UploadQueue::take_until(Ticket ticket) {
    batch_.clear();
    for (; !queued_.empty() && queued_.front().ticket <= ticket; queued_.pop_front()) batch_.push_back(queued_.front());
}

void UploadQueue::finish_batch(std::unique_lock<std::mutex>& lock) {
    is_feeding_ = true;
    lock.unlock();
    Status transferred = transfer_batch();
    lock.lock();
    is_feeding_ = false;
    done_ = batch_.back().ticket;
    if (failure_) failure_ = std::move(transferred);
    change_.notify_all();
}

// Drivers throw.
Status UploadQueue::transfer_batch() try {
    for (const auto& [ticket, transfer] : batch_) {
        if (transfer.from != nullptr) {
            ggml_backend_synchronize(backend_.get());  // uploads may take another queue than copies
            ggml_backend_tensor_copy_async(backend_.get(), backend_.get(), transfer.from, transfer.to);
        } else if (transfer.bytes > 0) {
            ggml_backend_tensor_set_async(backend_.get(), transfer.to, transfer.data, transfer.offset, transfer.bytes);
        }
    }
    ggml_backend_synchronize(backend_.get());
    return {};
} catch (const std::exception& error) {
    return fail(ErrorCode::kInternal, "an upload failed: {}", error.what());
}

}  // namespace hypura::engine

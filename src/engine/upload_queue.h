// Uploads to a device while it computes, first in, first out.
//
// Two ways. Where the host writes to the device's memory as to its own (DeviceStream::writes_directly), threads copy
// while libllama's queue computes; what is left when somebody waits is given to a command queue of ours, which is
// faster but shares the device with libllama's. Elsewhere one thread feeds such a queue all the time; drivers that have
// another for transfers run both side by side.
//
// All calls from one thread. Internal to this folder.
#pragma once

#include "base/status.h"
#include "engine/llama_handles.h"

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace hypura::engine {

class UploadQueue {
public:
    // What it names stays as it is until it has been waited for.
    struct Transfer {
        ggml_tensor* to = nullptr;
        uint64_t offset = 0;              // within its data
        const std::byte* data = nullptr;  // of the host
        uint64_t bytes = 0;
        // Instead of `data`, a tensor on the same device that is laid out like `to`: all of it, once everything that
        // was pushed before has come.
        ggml_tensor* from = nullptr;
    };
    // How many have been pushed, that one included.
    using Ticket = uint64_t;

    // `writers`: threads that write directly; 0: a queue has to do it. kUnsupportedHost where the device refuses a
    // queue, or threads are refused.
    static Result<std::unique_ptr<UploadQueue>> create(ggml_backend_dev_t device, uint32_t writers);
    // Waits for all that was pushed.
    ~UploadQueue();

    UploadQueue(const UploadQueue&) = delete;
    UploadQueue& operator=(const UploadQueue&) = delete;

    Ticket push(const Transfer& transfer);
    // Blocks until that one, and all before it, have come. An error is the driver's, and remains.
    Status wait(Ticket ticket);
    // Takes back what has not come, in the order of the tickets: nothing of it is read any more.
    std::vector<Ticket> recall();

private:
    struct Queued {
        Ticket ticket = 0;
        Transfer transfer;
    };

    explicit UploadQueue(BackendHandle backend) : backend_(std::move(backend)) {}
    void write(const std::stop_token& stop);
    Transfer* next_to_write();
    void feed(const std::stop_token& stop);
    void take_batch();
    void take_until(Ticket ticket);
    void finish_batch(std::unique_lock<std::mutex>& lock);
    void pause_writers(std::unique_lock<std::mutex>& lock);
    void resume_writers();
    Status transfer_batch();

    bool writes_directly_ = false;
    BackendHandle backend_;  // of whoever has a batch in hand
    std::mutex mutex_;
    std::condition_variable_any change_;  // of what follows
    std::deque<Queued> queued_;
    Ticket pushed_ = 0;
    Ticket done_ = 0;          // that went through the queue, where a thread feeds it
    uint32_t writing_ = 0;     // threads that write
    bool is_paused_ = false;   // then none begins to
    bool is_feeding_ = false;  // a thread has a batch in hand
    Status failure_;

    std::vector<Queued> batch_;  // in hand
    std::vector<std::jthread> threads_;
};

}  // namespace hypura::engine

// Writes matrices into a device's memory by threads of the host, while the device computes.
//
// Where the driver maps a device's memory into the host's address space (PCI: resizable BAR), ggml writes a tensor by
// a plain copy: no queue of the device's, no wait for a fence, and nothing that its computation would have to stop for.
// One thread copies 9 GB/s to an H100, four copy 30; its copy engine moves 43 to 47, but not beside a computation
// (docs/devices.md). Internal to this folder.
#pragma once

#include "base/status.h"

#include <ggml.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace hypura::engine {

// How many threads write, beside `threads` that may compute.
uint32_t writer_threads(uint32_t threads);

class DeviceWriter {
public:
    struct Matrix {
        ggml_tensor* tensor = nullptr;
        uint64_t offset = 0;  // within the tensor's data
        const std::byte* data = nullptr;
        uint64_t bytes = 0;
    };
    // A matrix, or a piece of one, that belongs to the load of that number.
    struct Piece {
        size_t load = 0;
        Matrix part;
    };
    // Matrices that are of use together only: one expert.
    using Load = std::vector<Matrix>;
    // Runs on one of the threads; says what is to be written, most urgent first.
    using Prepare = std::function<std::vector<Load>()>;

    // kUnsupportedHost where threads are refused.
    static Result<std::unique_ptr<DeviceWriter>> create(uint32_t threads);
    ~DeviceWriter();

    DeviceWriter(const DeviceWriter&) = delete;
    DeviceWriter& operator=(const DeviceWriter&) = delete;

    // From here to the end of stop() what `prepare` reads, and what it names, stays as it is. Nothing else is under
    // way.
    void begin(Prepare prepare);
    // From now on what it names is written: earlier it would slow down what the device waits for.
    void allow_writes();
    // Waits for `prepare`, unless no thread has come to it yet, and for the pieces that are just being written. None is
    // begun any more.
    void stop();

    // Behind stop(), until the next begin(): what was written, and what was not.
    std::span<const Piece> written() const { return std::span(pieces_).first(taken()); }
    std::span<const Piece> left() const { return std::span(pieces_).subspan(taken()); }

private:
    // What threads may do with the order in hand; only ever raised, but by begin().
    enum Stage : uint8_t { kBegun, kPreparing, kPrepared, kStopped };

    DeviceWriter() = default;
    void work(const std::stop_token& stop);
    void serve();
    void prepare_pieces();
    void await_permission();
    void write_pieces();
    bool may_write() const { return stage_ == kPrepared && writes_allowed_; }
    size_t taken() const { return std::min<size_t>(next_, pieces_.size()); }

    std::mutex mutex_;
    std::condition_variable_any change_;  // of what follows, for threads that sleep
    uint64_t orders_ = 0;                 // given so far
    std::atomic<Stage> stage_ = kStopped;
    std::atomic<bool> writes_allowed_ = false;
    std::atomic<uint32_t> busy_ = 0;  // threads that serve the order in hand

    Prepare prepare_;
    std::vector<Piece> pieces_;     // load after load; complete once stage_ is kPrepared
    std::atomic<size_t> next_ = 0;  // among them
    std::vector<std::jthread> threads_;
};

}  // namespace hypura::engine

#include "engine/device_writer.h"

#include "base/check.h"
#include "base/clock.h"

#include <ggml-backend.h>

#include <algorithm>
#include <system_error>
#include <utility>

namespace hypura::engine {
namespace {

// 15 us of one thread's work: stop() waits no longer than that.
constexpr uint64_t kPieceBytes = 128 << 10;
// A sleeping thread takes 15 to 50 us to wake up, a tenth of the time that a layer leaves for writing. What it waits
// for comes soon, unless the disk is in it.
constexpr int64_t kMostSpinningUs = 500;
// Four move 29 GB/s over PCIe 5.0, six 33; but with six tokens took a tenth longer on most hosts (docs/devices.md).
constexpr uint32_t kMostWriters = 4;
constexpr uint32_t kOtherThreads = 2;  // one runs the model, one is for the rest of the machine

void write(const DeviceWriter::Matrix& part) {
    ggml_backend_tensor_set(part.tensor, part.data, part.offset, part.bytes);
}

void cut(const DeviceWriter::Matrix& matrix, size_t load, std::vector<DeviceWriter::Piece>& pieces) {
    for (uint64_t at = 0; at < matrix.bytes; at += kPieceBytes) {
        const uint64_t bytes = std::min(kPieceBytes, matrix.bytes - at);
        pieces.push_back({load, {matrix.tensor, matrix.offset + at, matrix.data + at, bytes}});
    }
}

// False: it took too long.
template <class Condition>
bool spin_until(const Condition& condition) {
    const int64_t end_us = now_us() + kMostSpinningUs;
    while (!condition())
        if (now_us() > end_us) return false;
    return true;
}

}  // namespace

uint32_t writer_threads(uint32_t threads) {
    return std::clamp(threads, 1 + kOtherThreads, kMostWriters + kOtherThreads) - kOtherThreads;
}

Result<std::unique_ptr<DeviceWriter>> DeviceWriter::create(uint32_t threads) {
    std::unique_ptr<DeviceWriter> writer(new DeviceWriter());
    try {
        for (uint32_t i = 0; i < threads; ++i)
            writer->threads_.emplace_back([&self = *writer](const std::stop_token& stop) { self.work(stop); });
    } catch (const std::system_error& error) {
        return fail(ErrorCode::kUnsupportedHost, "cannot start a thread that writes to a device: {}", error.what());
    }
    return writer;
}

DeviceWriter::~DeviceWriter() {
    stop();
    for (std::jthread& thread : threads_) thread.request_stop();
    threads_.clear();
}

void DeviceWriter::begin(Prepare prepare) {
    const std::lock_guard lock(mutex_);
    HYPURA_CHECK(stage_ == kStopped && busy_ == 0);
    prepare_ = std::move(prepare);
    pieces_.clear();
    next_ = 0;
    writes_allowed_ = false;
    stage_ = kBegun;
    ++orders_;
    change_.notify_all();
}

void DeviceWriter::allow_writes() {
    const std::lock_guard lock(mutex_);
    writes_allowed_ = true;
    change_.notify_all();
}

void DeviceWriter::stop() {
    {
        const std::lock_guard lock(mutex_);
        stage_ = kStopped;
        change_.notify_all();
    }
    while (busy_ > 0) std::this_thread::yield();
}

// Each thread serves each order once, if it wakes up in time.
void DeviceWriter::work(const std::stop_token& stop) {
    uint64_t served = 0;
    std::unique_lock lock(mutex_);
    while (change_.wait(lock, stop, [&] { return orders_ != served && stage_ != kStopped; })) {
        served = orders_;
        ++busy_;
        lock.unlock();
        serve();
        --busy_;  // stop() hears of it; writes that the processor has combined for the device's memory leave before
        lock.lock();
    }
}

void DeviceWriter::serve() {
    Stage begun = kBegun;
    if (stage_.compare_exchange_strong(begun, kPreparing)) prepare_pieces();
    await_permission();
    write_pieces();
}

void DeviceWriter::prepare_pieces() {
    const std::vector<Load> loads = prepare_();
    for (size_t load = 0; load < loads.size(); ++load)
        for (const Matrix& matrix : loads[load]) cut(matrix, load, pieces_);
    const std::lock_guard lock(mutex_);
    Stage preparing = kPreparing;
    stage_.compare_exchange_strong(preparing, kPrepared);  // or it has been stopped
    change_.notify_all();
}

void DeviceWriter::await_permission() {
    const auto is_over = [this] { return may_write() || stage_ == kStopped; };
    if (spin_until(is_over)) return;
    std::unique_lock lock(mutex_);
    change_.wait(lock, is_over);
}

// A piece that was taken is written.
void DeviceWriter::write_pieces() {
    while (stage_ != kStopped) {
        const size_t piece = next_++;
        if (piece >= pieces_.size()) return;
        write(pieces_[piece].part);
    }
}

}  // namespace hypura::engine

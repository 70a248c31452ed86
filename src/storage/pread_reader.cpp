// Raw reads through a pool of threads that call pread: for hosts without io_uring.
#include "storage/raw_readers.h"

#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

namespace hypura::storage {
namespace {

class PreadReader final : public RawReader {
public:
    PreadReader() = default;
    PreadReader(const PreadReader&) = delete;
    ~PreadReader() override;

    Status start_threads(uint32_t count);
    Status submit(std::span<const RawRead> reads) override;
    Status collect(std::vector<RawCompletion>& out, bool block) override;
    size_t in_flight() const override { return in_flight_; }
    std::string_view name() const override { return "pread"; }

private:
    void serve_demands();

    size_t in_flight_ = 0;  // only the owner's thread knows how many it still has to collect
    std::vector<std::thread> threads_;

    std::mutex mutex_;  // guards everything below
    std::condition_variable demand_or_stop_;
    std::condition_variable completion_;
    std::deque<RawRead> demands_;
    std::vector<RawCompletion> completions_;
    bool stopping_ = false;
};

RawCompletion perform(const RawRead& read) {
    const ssize_t count = ::pread(read.fd, read.destination, read.bytes, static_cast<off_t>(read.offset));
    return {read.tag, count >= 0 ? count : -errno};
}

Status PreadReader::start_threads(uint32_t count) try {
    for (uint32_t i = 0; i < count; ++i) threads_.emplace_back([this] { serve_demands(); });
    return {};
} catch (const std::system_error& error) {
    return fail(ErrorCode::kOutOfMemory, "cannot start {} read threads: {}", count, error.what());
}

PreadReader::~PreadReader() {
    {
        std::lock_guard lock(mutex_);
        stopping_ = true;
        demands_.clear();  // nobody will see them; reads already begun finish before their threads are joined
    }
    demand_or_stop_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

Status PreadReader::submit(std::span<const RawRead> reads) {
    {
        std::lock_guard lock(mutex_);
        demands_.insert(demands_.end(), reads.begin(), reads.end());
    }
    demand_or_stop_.notify_all();
    in_flight_ += reads.size();
    return {};
}

Status PreadReader::collect(std::vector<RawCompletion>& out, bool block) {
    std::unique_lock lock(mutex_);
    if (block && in_flight_ > 0) completion_.wait(lock, [this] { return !completions_.empty(); });
    in_flight_ -= completions_.size();
    out.insert(out.end(), completions_.begin(), completions_.end());
    completions_.clear();
    return {};
}

void PreadReader::serve_demands() {
    std::unique_lock lock(mutex_);
    while (true) {
        demand_or_stop_.wait(lock, [this] { return stopping_ || !demands_.empty(); });
        if (stopping_) return;
        const RawRead read = demands_.front();
        demands_.pop_front();

        lock.unlock();
        const RawCompletion completion = perform(read);
        lock.lock();
        completions_.push_back(completion);
        completion_.notify_one();
    }
}

}  // namespace

Result<std::unique_ptr<RawReader>> make_pread_reader(uint32_t threads) {
    auto reader = std::make_unique<PreadReader>();
    HYPURA_TRY(reader->start_threads(threads));
    return reader;
}

}  // namespace hypura::storage

// Which models are loaded, and whose turn it is.
//
// One thread of its own, the scheduler, serves a single queue, first come, first served: it loads the model that the
// first waiting task wants (unloading idle ones when there are too many), and starts the task when the model has a free
// sequence. Nobody else loads, unloads or waits for a model, so one memory budget can hold across all of them.
//
// Thread contract: every function may be called from any thread. Tasks' functions run on the scheduler's thread and
// must not block.
#pragma once

#include "server/model_store.h"
#include "server/model_worker.h"
#include "server/request.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace hypura::server {

struct OpenedModel {
    std::unique_ptr<engine::Engine> engine;
    std::unique_ptr<engine::BatchEngine> batch;
    uint32_t context_tokens = 0;
};

struct ManagerOptions {
    uint32_t sequences = 8;                        // of one model at once
    uint32_t max_queue = 512;                      // tasks waiting; one more is refused
    uint32_t max_loaded = 1;                       // models
    std::chrono::milliseconds keep_alive{300000};  // of a model after its last use; max: for ever
    // Opens a model as the `nth` (from 0) that is loaded at once. Runs on the scheduler's thread; may take minutes.
    std::function<Result<OpenedModel>(const ModelEntry& model, uint32_t nth)> open;
};

class LoadedModel {
public:
    LoadedModel(ModelPointer entry, OpenedModel opened);

    const ModelEntry& entry() const { return *entry_; }
    uint32_t context_tokens() const { return context_tokens_; }
    ModelWorker& worker() { return worker_; }
    const ModelWorker& worker() const { return worker_; }

private:
    friend class ModelManager;
    using Clock = std::chrono::system_clock;

    ModelPointer entry_;
    uint32_t context_tokens_;
    // Guarded by the manager's mutex.
    uint32_t busy_ = 0;  // leases
    bool fresh_ = true;  // nobody has used it yet: the first task is told how long loading took
    std::chrono::milliseconds keep_alive_{};
    Clock::time_point last_use_ = Clock::now();
    ModelWorker worker_;  // last: what it still hands out when it ends may give back a lease
};

class ModelManager {
public:
    explicit ModelManager(ManagerOptions options);
    ~ModelManager();  // every task that waits fails with 503

    // While one lives, the model stays loaded and one of its sequences is taken.
    using Lease = std::shared_ptr<void>;

    struct Task {
        ModelPointer model;
        KeepAlive keep_alive;
        bool needs_sequence = true;  // false: starts as soon as the model is loaded, whoever else is waiting
        std::function<void(LoadedModel& model, int64_t load_ns, Lease lease)> start;
        std::function<void(const ApiError& error)> fail;
        std::function<bool()> abandoned;  // nobody waits for it any more
    };
    // 503 when the queue is full.
    ApiStatus enqueue(Task task);
    // Unloads as soon as nobody uses the model; nothing happens when it is not loaded.
    void unload(const std::string& name);

    struct Status {
        ModelPointer model;
        std::chrono::system_clock::time_point expires;
        uint32_t context_tokens = 0;
        uint32_t busy = 0;
        uint64_t memory_bytes = 0;
        engine::BatchCounters counters;
        engine::Report report;
    };
    std::vector<Status> loaded() const;
    std::string loading() const;  // the model that is being loaded; empty: none
    size_t waiting() const;
    uint64_t loads() const { return loads_; }

private:
    using Clock = std::chrono::system_clock;
    struct Waiting {
        Task task;
        std::chrono::steady_clock::time_point since;
    };

    void loop();
    void drop_abandoned();
    bool start_what_can(std::unique_lock<std::mutex>& lock);
    bool start_at(std::deque<Waiting>::iterator waiting, std::unique_lock<std::mutex>& lock);
    bool make_room(std::unique_lock<std::mutex>& lock);
    void load_for_first(std::unique_lock<std::mutex>& lock);
    void unload_expired(std::unique_lock<std::mutex>& lock);
    void retire(std::list<std::unique_ptr<LoadedModel>>::iterator model, std::unique_lock<std::mutex>& lock);
    void fail_all_of(const ModelEntry& model, const Error& error);
    LoadedModel* find_loaded(const ModelEntry& model) const;
    Clock::time_point expiry(const LoadedModel& model) const;
    std::optional<Clock::time_point> next_expiry() const;
    Lease lease(LoadedModel& model);

    ManagerOptions options_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Waiting> queue_;
    std::list<std::unique_ptr<LoadedModel>> models_;
    std::string loading_;
    std::atomic<uint64_t> loads_{0};
    bool changed_ = false;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace hypura::server

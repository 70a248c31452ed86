// The thread that owns one loaded model: takes work, runs pass after pass, hands out what came of each.
//
// Thread contract: the constructor's thread hands engine and batch over to the worker's own; every public function may
// be called from any thread.
#pragma once

#include "engine/batch_engine.h"

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <variant>
#include <vector>

namespace hypura::server {

// Receives the events of one sequence, on the worker's thread. After Finished nothing comes and the sink is let go.
class SequenceSink {
public:
    virtual ~SequenceSink() = default;
    virtual void take(const decltype(engine::SequenceEvent::what)& event) = 0;
    // Asked after each event: true ends the sequence.
    virtual bool wants_no_more() const = 0;
    // The sequence is under way: `cancel` ends it, from any thread, for as long as the sink lives.
    virtual void started(std::function<void()> cancel) = 0;
};

class ModelWorker {
public:
    ModelWorker(std::unique_ptr<engine::Engine> engine, std::unique_ptr<engine::BatchEngine> batch);
    ~ModelWorker();  // ends all sequences with kCancelled

    void start(engine::GenerateRequest request, std::shared_ptr<SequenceSink> sink);
    void start(engine::EmbeddingRequest request, std::shared_ptr<SequenceSink> sink);
    // Runs `task` on the worker's thread between two passes.
    void post(std::function<void(engine::BatchEngine&)> task);

    // Vocabulary and shape alone may be used from other threads (engine.h).
    const engine::Engine& engine() const { return *engine_; }
    // Of the last pass.
    engine::BatchCounters counters() const;
    engine::Report report() const;

private:
    using Request = std::variant<engine::GenerateRequest, engine::EmbeddingRequest>;
    struct Work {
        Request request;
        std::shared_ptr<SequenceSink> sink;
    };

    void loop();
    bool wait_for_work();
    void take_inbox();
    void begin(Work work);
    void deliver(const engine::SequenceEvent& event);
    void publish();
    void put(Request request, std::shared_ptr<SequenceSink> sink);

    std::unique_ptr<engine::Engine> engine_;
    std::unique_ptr<engine::BatchEngine> batch_;
    std::map<engine::SequenceId, std::shared_ptr<SequenceSink>> live_;

    mutable std::mutex mutex_;  // of everything below
    std::condition_variable wake_;
    std::vector<Work> inbox_;
    std::vector<std::function<void(engine::BatchEngine&)>> tasks_;
    engine::BatchCounters counters_;
    engine::Report report_;
    bool stopping_ = false;
    std::thread thread_;  // last: it uses all of the above
};

}  // namespace hypura::server

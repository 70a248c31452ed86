#include "server/model_worker.h"

namespace hypura::server {
namespace {

engine::Finished failure(Error error) {
    engine::Finished finished;
    finished.reason = engine::FinishReason::kFailed;
    finished.error = std::move(error);
    return finished;
}

}  // namespace

ModelWorker::ModelWorker(std::unique_ptr<engine::Engine> engine, std::unique_ptr<engine::BatchEngine> batch)
    : engine_(std::move(engine)), batch_(std::move(batch)), report_(engine_->report()), thread_([this] { loop(); }) {}

ModelWorker::~ModelWorker() {
    {
        const std::scoped_lock lock(mutex_);
        stopping_ = true;
    }
    batch_->interrupt();
    wake_.notify_all();
    thread_.join();
    batch_.reset();  // before the engine that it belongs to
}

void ModelWorker::put(Request request, std::shared_ptr<SequenceSink> sink) {
    {
        const std::scoped_lock lock(mutex_);
        inbox_.push_back({std::move(request), std::move(sink)});
    }
    wake_.notify_all();
}

void ModelWorker::start(engine::GenerateRequest request, std::shared_ptr<SequenceSink> sink) {
    put(std::move(request), std::move(sink));
}

void ModelWorker::start(engine::EmbeddingRequest request, std::shared_ptr<SequenceSink> sink) {
    put(std::move(request), std::move(sink));
}

void ModelWorker::post(std::function<void(engine::BatchEngine&)> task) {
    {
        const std::scoped_lock lock(mutex_);
        tasks_.push_back(std::move(task));
    }
    wake_.notify_all();
}

engine::BatchCounters ModelWorker::counters() const {
    const std::scoped_lock lock(mutex_);
    return counters_;
}

engine::Report ModelWorker::report() const {
    const std::scoped_lock lock(mutex_);
    return report_;
}

// ---- the worker's thread -------------------------------------------------------------------------------------------

void ModelWorker::loop() {
    while (wait_for_work()) {
        take_inbox();
        for (const engine::SequenceEvent& event : batch_->step()) deliver(event);
        publish();
    }
    take_inbox();
    for (const auto& [id, sink] : live_) sink->take(engine::Finished{.reason = engine::FinishReason::kCancelled});
    live_.clear();
}

// False when it is time to end.
bool ModelWorker::wait_for_work() {
    std::unique_lock lock(mutex_);
    const auto something = [this] { return stopping_ || !inbox_.empty() || !tasks_.empty(); };
    if (!batch_->has_work()) wake_.wait(lock, something);
    return !stopping_;
}

void ModelWorker::take_inbox() {
    std::vector<Work> inbox;
    std::vector<std::function<void(engine::BatchEngine&)>> tasks;
    {
        const std::scoped_lock lock(mutex_);
        inbox.swap(inbox_);
        tasks.swap(tasks_);
    }
    for (const auto& task : tasks) task(*batch_);
    for (Work& work : inbox) begin(std::move(work));
}

void ModelWorker::begin(Work work) {
    const auto id = std::visit([this](auto& request) { return batch_->add(std::move(request)); }, work.request);
    if (!id) return work.sink->take(failure(id.error()));
    live_[*id] = work.sink;
    work.sink->started([batch = batch_.get(), sequence = *id] { batch->cancel(sequence); });
}

void ModelWorker::deliver(const engine::SequenceEvent& event) {
    const auto entry = live_.find(event.sequence);
    if (entry == live_.end()) return;
    const std::shared_ptr<SequenceSink> sink = entry->second;
    const bool last = std::holds_alternative<engine::Finished>(event.what);
    if (last) live_.erase(entry);
    sink->take(event.what);
    if (!last && sink->wants_no_more()) batch_->cancel(event.sequence);
}

void ModelWorker::publish() {
    const engine::BatchCounters counters = batch_->counters();
    engine::Report report = engine_->report();
    const std::scoped_lock lock(mutex_);
    counters_ = counters;
    report_ = std::move(report);
}

}  // namespace hypura::server

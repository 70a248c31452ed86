#include "server/model_manager.h"

#include <algorithm>

namespace hypura::server {
namespace {

constexpr std::chrono::milliseconds kForever = std::chrono::milliseconds::max();

// What `ollama ps` is shown for "for ever".
std::chrono::system_clock::time_point far_future(std::chrono::system_clock::time_point now) {
    return now + std::chrono::hours(24 * 365 * 100);
}

}  // namespace

LoadedModel::LoadedModel(ModelPointer entry, OpenedModel opened)
    : entry_(std::move(entry)),
      context_tokens_(opened.context_tokens),
      worker_(std::move(opened.engine), std::move(opened.batch)) {}

ModelManager::ModelManager(ManagerOptions options) : options_(std::move(options)), thread_([this] { loop(); }) {}

ModelManager::~ModelManager() {
    {
        const std::scoped_lock lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
    for (Waiting& waiting : queue_) waiting.task.fail(ApiError(503, "the server is shutting down"));
    models_.clear();
}

ApiStatus ModelManager::enqueue(Task task) {
    {
        const std::scoped_lock lock(mutex_);
        if (queue_.size() >= options_.max_queue) drop_abandoned();
        if (queue_.size() >= options_.max_queue) return std::unexpected(queue_full());
        queue_.push_back({std::move(task), std::chrono::steady_clock::now()});
        changed_ = true;
    }
    wake_.notify_all();
    return {};
}

void ModelManager::unload(const std::string& name) {
    {
        const std::scoped_lock lock(mutex_);
        for (const auto& model : models_)
            if (model->entry().name == name) model->keep_alive_ = std::chrono::milliseconds(0);
        changed_ = true;
    }
    wake_.notify_all();
}

// ---- what others may see -------------------------------------------------------------------------------------------

std::vector<ModelManager::Status> ModelManager::loaded() const {
    const std::scoped_lock lock(mutex_);
    std::vector<Status> list;
    for (const auto& model : models_) {
        Status status{model->entry_,
                      expiry(*model),
                      model->context_tokens(),
                      model->busy_,
                      0,
                      model->worker().counters(),
                      model->worker().report()};
        const engine::Report& report = status.report;
        const bool plain = report.resident_bytes + report.slot_bytes == 0;
        status.memory_bytes =
            plain ? report.model_bytes : report.resident_bytes + report.slot_bytes + report.context_bytes;
        list.push_back(std::move(status));
    }
    return list;
}

std::string ModelManager::loading() const {
    const std::scoped_lock lock(mutex_);
    return loading_;
}

size_t ModelManager::waiting() const {
    const std::scoped_lock lock(mutex_);
    return queue_.size();
}

LoadedModel* ModelManager::find_loaded(const ModelEntry& model) const {
    for (const auto& loaded : models_)
        if (loaded->entry().digest == model.digest && loaded->entry().files == model.files) return loaded.get();
    return nullptr;
}

ModelManager::Clock::time_point ModelManager::expiry(const LoadedModel& model) const {
    const Clock::time_point from = model.busy_ > 0 ? Clock::now() : model.last_use_;
    return model.keep_alive_ == kForever ? far_future(from) : from + model.keep_alive_;
}

// ---- the scheduler's thread ----------------------------------------------------------------------------------------

void ModelManager::loop() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        const auto wanted = [this] { return changed_ || stopping_; };
        if (const auto expires = next_expiry())
            wake_.wait_until(lock, *expires, wanted);
        else
            wake_.wait(lock, wanted);
        changed_ = false;
        while (!stopping_ && start_what_can(lock)) {
        }
        unload_expired(lock);
        if (!stopping_ && !queue_.empty()) load_for_first(lock);
    }
}

void ModelManager::drop_abandoned() {
    std::erase_if(queue_, [](const Waiting& waiting) { return waiting.task.abandoned(); });
}

// Tasks start in the order in which they came; those that need no sequence may overtake. While the one before was
// started, without the lock, others may have been given up.
bool ModelManager::start_what_can(std::unique_lock<std::mutex>& lock) {
    drop_abandoned();
    if (queue_.empty()) return false;
    if (start_at(queue_.begin(), lock)) return true;
    for (auto waiting = queue_.begin() + 1; waiting != queue_.end(); ++waiting)
        if (!waiting->task.needs_sequence && start_at(waiting, lock)) return true;
    return false;
}

// A task starts outside the lock: it may fail at once and give its lease back.
bool ModelManager::start_at(std::deque<Waiting>::iterator waiting, std::unique_lock<std::mutex>& lock) {
    LoadedModel* model = find_loaded(*waiting->task.model);
    if (model == nullptr) return false;
    if (waiting->task.needs_sequence && model->busy_ >= options_.sequences) return false;
    Task task = std::move(waiting->task);
    // A model that had to be loaded for this task makes up nearly all of its wait.
    const bool fresh = std::exchange(model->fresh_, false);
    const auto waited = std::chrono::steady_clock::now() - waiting->since;
    const int64_t load_ns = fresh ? std::chrono::duration_cast<std::chrono::nanoseconds>(waited).count() : 0;
    queue_.erase(waiting);
    model->keep_alive_ = task.keep_alive.value_or(options_.keep_alive);
    model->last_use_ = Clock::now();
    Lease held = lease(*model);
    lock.unlock();
    task.start(*model, load_ns, std::move(held));
    lock.lock();
    return true;
}

ModelManager::Lease ModelManager::lease(LoadedModel& model) {
    ++model.busy_;
    return {nullptr, [this, &model](std::nullptr_t) {
                {
                    const std::scoped_lock lock(mutex_);
                    --model.busy_;
                    model.last_use_ = Clock::now();
                    changed_ = true;
                }
                wake_.notify_all();
            }};
}

std::optional<ModelManager::Clock::time_point> ModelManager::next_expiry() const {
    std::optional<Clock::time_point> next;
    for (const auto& model : models_) {
        if (model->busy_ > 0 || model->keep_alive_ == kForever) continue;
        const Clock::time_point expires = expiry(*model);
        next = next ? std::min(*next, expires) : expires;
    }
    return next;
}

void ModelManager::unload_expired(std::unique_lock<std::mutex>& lock) {
    for (auto model = models_.begin(); model != models_.end();) {
        const auto next = std::next(model);
        const bool expired =
            (*model)->busy_ == 0 && (*model)->keep_alive_ != kForever && expiry(**model) <= Clock::now();
        if (expired) retire(model, lock);
        model = next;
    }
}

// Freeing gigabytes takes a while: not under the lock.
void ModelManager::retire(std::list<std::unique_ptr<LoadedModel>>::iterator model, std::unique_lock<std::mutex>& lock) {
    std::unique_ptr<LoadedModel> retired = std::move(*model);
    models_.erase(model);
    lock.unlock();
    retired.reset();
    lock.lock();
}

// False while every model that is loaded is in use.
bool ModelManager::make_room(std::unique_lock<std::mutex>& lock) {
    while (models_.size() >= std::max(1U, options_.max_loaded)) {
        auto oldest = models_.end();
        for (auto model = models_.begin(); model != models_.end(); ++model) {
            const bool older = oldest == models_.end() || (*model)->last_use_ < (*oldest)->last_use_;
            if ((*model)->busy_ == 0 && older) oldest = model;
        }
        if (oldest == models_.end()) return false;
        retire(oldest, lock);
    }
    return true;
}

void ModelManager::load_for_first(std::unique_lock<std::mutex>& lock) {
    const ModelPointer entry = queue_.front().task.model;
    if (find_loaded(*entry) != nullptr || !make_room(lock)) return;
    loading_ = entry->name;
    const auto nth = static_cast<uint32_t>(models_.size());
    lock.unlock();
    auto model = options_.open(*entry, nth).transform([&entry](auto opened) {
        return std::make_unique<LoadedModel>(entry, std::move(opened));
    });
    lock.lock();
    loading_.clear();
    changed_ = true;
    if (!model) return fail_all_of(*entry, model.error());
    ++loads_;
    (*model)->keep_alive_ = options_.keep_alive;
    models_.push_back(*std::move(model));
}

// Whoever else wants this model would meet the same error, minutes later.
void ModelManager::fail_all_of(const ModelEntry& model, const Error& error) {
    for (auto waiting = queue_.begin(); waiting != queue_.end();) {
        const bool same = waiting->task.model->digest == model.digest;
        if (same) waiting->task.fail(ApiError(error));
        waiting = same ? queue_.erase(waiting) : std::next(waiting);
    }
}

}  // namespace hypura::server

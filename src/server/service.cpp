#include "server/service.h"

#include "server/prepare.h"

#include <algorithm>

namespace hypura::server {
namespace {

using SteadyClock = std::chrono::steady_clock;

int64_t since_ns(SteadyClock::time_point time) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(SteadyClock::now() - time).count();
}

// ---- generation ----------------------------------------------------------------------------------------------------

class GenerationSink final : public SequenceSink {
public:
    GenerationSink(const engine::Engine& engine, AnswerOptions options, ChannelPointer channel,
                   ModelManager::Lease lease, ServiceCounters& counters)
        : builder_(engine, std::move(options)),
          channel_(std::move(channel)),
          lease_(std::move(lease)),
          counters_(counters) {}

    void take(const decltype(engine::SequenceEvent::what)& event) override {
        std::visit([this](const auto& e) { handle(e); }, event);
    }
    bool wants_no_more() const override { return builder_.wants_no_more(); }
    void started(std::function<void()> cancel) override { channel_->when_abandoned(std::move(cancel)); }

private:
    void handle(const engine::PromptProgress& event) { push(builder_.take(event)); }
    void handle(const engine::Sampled& event) { push(builder_.take(event)); }
    void handle(const engine::Embedded&) {}
    void handle(const engine::Finished& event) {
        channel_->when_abandoned({});
        count(event);
        push(builder_.take(event));
    }
    void push(std::vector<Event> events) {
        for (Event& event : events) channel_->push(std::move(event));
    }
    void count(const engine::Finished& event) {
        counters_.prompt_tokens += event.prompt_tokens;
        counters_.cached_tokens += event.reused_tokens;
        counters_.answer_tokens += event.generated_tokens;
        counters_.prompt_us += event.prompt_us;
        counters_.answer_us += event.decode_us;
        if (event.reason == engine::FinishReason::kFailed) ++counters_.failed;
        if (event.reason == engine::FinishReason::kCancelled && !builder_.wants_no_more()) ++counters_.cancelled;
    }

    AnswerBuilder builder_;
    ChannelPointer channel_;
    ModelManager::Lease lease_;  // given back when the worker lets go of the sink
    ServiceCounters& counters_;
};

// ---- embeddings ----------------------------------------------------------------------------------------------------

// Gathers the vectors of one request's inputs.
class EmbeddingJob {
public:
    using Done = std::function<void(ApiResult<Embeddings>)>;
    EmbeddingJob(EmbedRequest request, size_t inputs, int64_t load_ns, SteadyClock::time_point arrived,
                 ClientPointer client, Done done)
        : request_(std::move(request)),
          left_(inputs),
          arrived_(arrived),
          client_(std::move(client)),
          done_(std::move(done)) {
        result_.vectors.resize(inputs);
        result_.timing.load_ns = load_ns;
    }

    void add(size_t index, std::vector<float> values) {
        cut_dimensions(values, request_.dimensions.value_or(0), request_.normalize);
        result_.vectors[index] = std::move(values);
    }
    void started(std::function<void()> cancel) { client_->when_abandoned(std::move(cancel)); }
    void finish(const engine::Finished& finished) {
        result_.prompt_tokens += finished.prompt_tokens;
        if (finished.reason == engine::FinishReason::kFailed) error_ = ApiError(finished.error);
        if (finished.reason == engine::FinishReason::kCancelled) error_ = ApiError(503, "the server is shutting down");
        if (--left_ > 0) return;
        client_->all_done();
        result_.timing.total_ns = since_ns(arrived_);
        done_(error_ ? ApiResult<Embeddings>(std::unexpected(*error_)) : std::move(result_));
    }

private:
    EmbedRequest request_;
    size_t left_;
    SteadyClock::time_point arrived_;
    ClientPointer client_;
    Done done_;
    Embeddings result_;
    std::optional<ApiError> error_;
};

class EmbeddingSink final : public SequenceSink {
public:
    EmbeddingSink(std::shared_ptr<EmbeddingJob> job, size_t index, ModelManager::Lease lease)
        : job_(std::move(job)), index_(index), lease_(std::move(lease)) {}
    void take(const decltype(engine::SequenceEvent::what)& event) override {
        if (const auto* embedded = std::get_if<engine::Embedded>(&event)) job_->add(index_, embedded->values);
        if (const auto* finished = std::get_if<engine::Finished>(&event)) job_->finish(*finished);
    }
    bool wants_no_more() const override { return false; }
    void started(std::function<void()> cancel) override { job_->started(std::move(cancel)); }

private:
    std::shared_ptr<EmbeddingJob> job_;
    size_t index_;
    ModelManager::Lease lease_;
};

// An encoder takes a text in one pass; a decoder as many as its context has room for.
uint32_t most_embedding_tokens(const LoadedModel& model) {
    const uint32_t pass = model.worker().report().batch_tokens;
    return model.entry().embeds_only && pass > 0 ? std::min(pass, model.context_tokens()) : model.context_tokens();
}

void start_embedding(LoadedModel& model, const EmbedRequest& request, int64_t load_ns, SteadyClock::time_point arrived,
                     const ModelManager::Lease& lease, ClientPointer client, EmbeddingJob::Done done) {
    auto inputs = prepare_embedding(request, model.worker().engine(), most_embedding_tokens(model));
    if (!inputs) return done(std::unexpected(inputs.error()));
    if (inputs->empty()) return done(Embeddings{});
    const auto job =
        std::make_shared<EmbeddingJob>(request, inputs->size(), load_ns, arrived, std::move(client), std::move(done));
    for (size_t i = 0; i < inputs->size(); ++i)
        model.worker().start(
            engine::EmbeddingRequest{.tokens = std::move((*inputs)[i]), .normalize = request.normalize},
            std::make_shared<EmbeddingSink>(job, i, lease));
}

}  // namespace

Service::Service(ModelStore& store, ManagerOptions options) : store_(store), manager_(std::move(options)) {}

ApiResult<ChannelPointer> Service::generate(Request request) {
    HYPURA_ASSIGN(const ModelPointer model, store_.find(request.model));
    HYPURA_TRY(check_request(request, *model));
    HYPURA_ASSIGN(request.grammar, grammar_of_answer(request, *model));
    auto channel = std::make_shared<EventChannel>();
    const auto shared = std::make_shared<Request>(std::move(request));
    const auto arrived = SteadyClock::now();

    ModelManager::Task task;
    task.model = model;
    task.keep_alive = shared->keep_alive;
    task.abandoned = [channel] { return channel->abandoned(); };
    task.fail = [channel](const ApiError& error) { channel->push(FailedEvent{error}); };
    task.start = [this, channel, shared, arrived](LoadedModel& loaded, int64_t load_ns, ModelManager::Lease lease) {
        auto prepared = prepare(*shared, loaded.entry(), loaded.worker().engine(), loaded.context_tokens());
        if (!prepared) return channel->push(FailedEvent{prepared.error()});
        prepared->answer.arrived = arrived;
        prepared->answer.load_ns = load_ns;
        loaded.worker().start(std::move(prepared->sequence),
                              std::make_shared<GenerationSink>(loaded.worker().engine(), std::move(prepared->answer),
                                                               channel, std::move(lease), counters_));
    };
    HYPURA_TRY(manager_.enqueue(std::move(task)));
    ++counters_.requests;
    return channel;
}

ApiResult<ChannelPointer> Service::load(const Request& request) {
    HYPURA_ASSIGN(const ModelPointer model, store_.find(request.model));
    auto channel = std::make_shared<EventChannel>();
    if (request.keep_alive == std::chrono::milliseconds(0)) {
        manager_.unload(model->name);
        channel->push(DoneEvent{.finish = Finish::kUnload});
        return channel;
    }
    ModelManager::Task task;
    task.model = model;
    task.keep_alive = request.keep_alive;
    task.needs_sequence = false;
    task.abandoned = [channel] { return channel->abandoned(); };
    task.fail = [channel](const ApiError& error) { channel->push(FailedEvent{error}); };
    task.start = [channel](LoadedModel&, int64_t load_ns, const ModelManager::Lease&) {
        channel->push(DoneEvent{.finish = Finish::kLoad, .timing = {.total_ns = load_ns, .load_ns = load_ns}});
    };
    HYPURA_TRY(manager_.enqueue(std::move(task)));
    return channel;
}

ApiStatus Service::embed(EmbedRequest request, ClientPointer client, std::function<void(ApiResult<Embeddings>)> done) {
    HYPURA_ASSIGN(const ModelPointer model, store_.find(request.model));
    const auto arrived = SteadyClock::now();
    ModelManager::Task task;
    task.model = model;
    task.keep_alive = request.keep_alive;
    task.abandoned = [client] { return client->abandoned(); };
    task.fail = [done](const ApiError& error) { done(std::unexpected(error)); };
    task.start = [request = std::move(request), client = std::move(client), done = std::move(done), arrived](
                     LoadedModel& loaded, int64_t load_ns, const ModelManager::Lease& lease) {
        start_embedding(loaded, request, load_ns, arrived, lease, client, done);
    };
    HYPURA_TRY(manager_.enqueue(std::move(task)));
    ++counters_.requests;
    return {};
}

ApiStatus Service::count_tokens(Request request, ClientPointer client, std::function<void(ApiResult<uint64_t>)> done) {
    HYPURA_ASSIGN(const ModelPointer model, store_.find(request.model));
    HYPURA_TRY(check_request(request, *model));
    ModelManager::Task task;
    task.model = model;
    task.needs_sequence = false;
    task.abandoned = [client = std::move(client)] { return client->abandoned(); };
    task.fail = [done](const ApiError& error) { done(std::unexpected(error)); };
    task.start = [request = std::move(request), done = std::move(done)](LoadedModel& loaded, int64_t,
                                                                        const ModelManager::Lease&) {
        const auto tokens = prompt_tokens(request, loaded.entry(), loaded.worker().engine());
        done(tokens ? ApiResult<uint64_t>(tokens->size()) : std::unexpected(tokens.error()));
    };
    return manager_.enqueue(std::move(task));
}

ApiStatus Service::with_batch(const std::string& model, PrefixWork work,
                              std::function<void(ApiResult<uint64_t>)> done) {
    ModelManager::Task task;
    HYPURA_ASSIGN(task.model, store_.find(model));
    task.needs_sequence = false;
    task.abandoned = [] { return false; };
    task.fail = [done](const ApiError& error) { done(std::unexpected(error)); };
    task.start = [work = std::move(work), done = std::move(done)](LoadedModel& loaded, int64_t,
                                                                  const ModelManager::Lease& lease) {
        loaded.worker().post([work, done, lease, &loaded](engine::BatchEngine& batch) { done(work(batch, loaded)); });
    };
    return manager_.enqueue(std::move(task));
}

ApiStatus Service::save_prefix(Request request, std::string path, std::function<void(ApiResult<uint64_t>)> done) {
    const std::string model = request.model;
    const auto save = [request = std::move(request), path = std::move(path)](
                          engine::BatchEngine& batch, const LoadedModel& loaded) -> ApiResult<uint64_t> {
        HYPURA_ASSIGN(const auto tokens, prompt_tokens(request, loaded.entry(), loaded.worker().engine()));
        HYPURA_ASSIGN(const uint32_t saved, batch.save_prefix(tokens, path));
        return saved;
    };
    return with_batch(model, save, std::move(done));
}

ApiStatus Service::restore_prefix(const std::string& model, std::string path,
                                  std::function<void(ApiResult<uint64_t>)> done) {
    const auto restore = [path = std::move(path)](engine::BatchEngine& batch,
                                                  const LoadedModel&) -> ApiResult<uint64_t> {
        HYPURA_ASSIGN(const auto tokens, batch.restore_prefix(path));
        return tokens.size();
    };
    return with_batch(model, restore, std::move(done));
}

}  // namespace hypura::server

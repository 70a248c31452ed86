// What the server does, without HTTP and without dialects: native requests in, events out.
//
// Thread contract: every function may be called from any thread; none waits for inference.
#pragma once

#include "server/client_link.h"
#include "server/event_channel.h"
#include "server/model_manager.h"
#include "server/model_store.h"

#include <atomic>
#include <memory>

namespace hypura::server {

using ChannelPointer = std::shared_ptr<EventChannel>;

// Since the server began: /metrics.
struct ServiceCounters {
    std::atomic<uint64_t> requests{0};       // generations and embeddings that were accepted
    std::atomic<uint64_t> failed{0};         // of these, ended with an error
    std::atomic<uint64_t> cancelled{0};      // of these, given up by the client
    std::atomic<uint64_t> prompt_tokens{0};  // of ended ones, cached ones included
    std::atomic<uint64_t> cached_tokens{0};
    std::atomic<uint64_t> answer_tokens{0};
    std::atomic<int64_t> prompt_us{0};
    std::atomic<int64_t> answer_us{0};
};

class Service {
public:
    Service(ModelStore& store, ManagerOptions options);

    // Checks what can be checked without the model and queues the request. The channel's last event is Done or Failed.
    // Errors: 404, 400, 503.
    ApiResult<ChannelPointer> generate(Request request);
    // Loads the model, or unloads it where the request's keep_alive is zero: one Done event.
    ApiResult<ChannelPointer> load(const Request& request);

    // The results of these come through `done`, on another thread, exactly once; of a client that has gone, perhaps
    // never.
    ApiStatus embed(EmbedRequest request, ClientPointer client, std::function<void(ApiResult<Embeddings>)> done);
    ApiStatus count_tokens(Request request, ClientPointer client, std::function<void(ApiResult<uint64_t>)> done);

    // Writes what the cache holds of the beginning of a request's prompt to a file, or reads such a file into the
    // cache; `done` gets the number of tokens. A model that is not loaded is loaded first.
    ApiStatus save_prefix(Request request, std::string path, std::function<void(ApiResult<uint64_t>)> done);
    ApiStatus restore_prefix(const std::string& model, std::string path, std::function<void(ApiResult<uint64_t>)> done);

    ModelStore& store() { return store_; }
    ModelManager& manager() { return manager_; }
    const ServiceCounters& counters() const { return counters_; }

private:
    using PrefixWork = std::function<ApiResult<uint64_t>(engine::BatchEngine& batch, const LoadedModel& model)>;
    ApiStatus with_batch(const std::string& model, PrefixWork work, std::function<void(ApiResult<uint64_t>)> done);

    ModelStore& store_;
    ServiceCounters counters_;
    ModelManager manager_;
};

}  // namespace hypura::server

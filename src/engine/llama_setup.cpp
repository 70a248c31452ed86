// Loading libllama's model and making its context, in every mode.
#include "base/bytes.h"
#include "engine/llama_library.h"
#include "engine/runtime.h"
#include "hardware/memory.h"
#include "placement/logits_rows.h"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <vector>

namespace hypura::engine {
namespace {

constexpr uint32_t kDefaultContextTokens = 4096;

uint32_t context_tokens(const Runtime& runtime, const EngineOptions& options) {
    if (options.context_tokens > 0) return options.context_tokens;
    const uint64_t trained = runtime.shape.context_train;
    return trained == 0 ? kDefaultContextTokens
                        : static_cast<uint32_t>(std::min<uint64_t>(trained, kDefaultContextTokens));
}

// A file that changed under libllama is the better explanation of whatever it says.
Error load_error(const Runtime& runtime) {
    const std::string complaint = take_llama_complaints();
    if (Status unchanged = gguf::check_unchanged(runtime.file); !unchanged) return std::move(unchanged).error();
    return {ErrorCode::kUnsupportedModel,
            std::format("{}: libllama cannot load this model{}{}", runtime.file.parts[0].path,
                        complaint.empty() ? "" : ": ", complaint)};
}

// A model without a vocabulary still has as many logits as token embeddings.
uint32_t logits_row(const Runtime& runtime) {
    const int32_t vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(runtime.model.get()));
    if (vocabulary > 0) return static_cast<uint32_t>(vocabulary);
    const gguf::TensorInfo* const embedding = runtime.file.find_tensor("token_embd.weight");
    return embedding == nullptr ? 0 : static_cast<uint32_t>(embedding->shape[1]);
}

// Routed experts, as one pattern over tensor names: those of all layers are called alike.
std::string expert_pattern(const Runtime& runtime) {
    std::set<std::string> names;
    for (const gguf::TensorInfo& tensor : runtime.file.tensors) {
        const gguf::TensorPlace place = gguf::tensor_place(tensor.name);
        if (place.role == gguf::TensorRole::kExpert && tensor.shape[2] == runtime.shape.experts)
            names.insert(tensor.name.substr(tensor.name.find('.', tensor.name.find('.') + 1) + 1));
    }
    std::string pattern;
    for (const std::string& name : names) pattern += (pattern.empty() ? "" : "|") + name;
    return names.empty() ? "" : "^blk\\.[0-9]+\\.(" + pattern + ")$";
}

struct ProgressListener {
    uint64_t total_bytes = 0;
    const std::function<void(const LoadProgress&)>& on_load;
};

// `share`: of the bytes, 0 to 1. The result true means to go on.
bool on_llama_progress(float share, void* user_data) {
    const auto& listener = *static_cast<const ProgressListener*>(user_data);
    const double done_bytes = double{share} * static_cast<double>(listener.total_bytes);
    listener.on_load({static_cast<uint64_t>(done_bytes), listener.total_bytes});
    return true;
}

llama_model_params model_params(llama_load_mode load_mode, bool repack, uint32_t gpu_layers,
                                std::vector<ggml_backend_dev_t>& devices) {
    llama_model_params params = llama_model_default_params();
    params.devices = devices.data();
    params.n_gpu_layers = static_cast<int32_t>(gpu_layers);
    params.load_mode = load_mode;
    params.lazy_mode = LLAMA_LAZY_MODE_OFF;
    params.use_extra_bufts = repack;
    return params;
}

ggml_type ggml_cache_type(placement::CacheType type) {
    switch (type) {
        case placement::CacheType::kQ8_0:
            return GGML_TYPE_Q8_0;
        case placement::CacheType::kQ4_0:
            return GGML_TYPE_Q4_0;
        case placement::CacheType::kF16:
            break;
    }
    return GGML_TYPE_F16;
}

// Running sequences, and kept ones where those cost nothing: each recurrent state takes memory of its own.
uint32_t sequence_slots(const Runtime& runtime, const EngineOptions& options) {
    return options.sequences + (history_can_be_cut(*runtime.model) ? options.kept_prefixes : 0);
}

// An encoder gives all rows of a pass at once. Whoever else wants many takes several passes.
uint32_t most_outputs(const Runtime& runtime, uint32_t batch_tokens, uint32_t sequences) {
    const bool all = llama_model_has_encoder(runtime.model.get());
    return std::max(all ? batch_tokens : placement::logits_rows(runtime.logits_row, batch_tokens), sequences);
}

}  // namespace

bool history_can_be_cut(const llama_model& model) {
    return !llama_model_is_recurrent(&model) && !llama_model_is_hybrid(&model);
}

Status load_llama_model(Runtime& runtime, const std::vector<std::string>& paths, llama_load_mode load_mode, bool repack,
                        const std::function<void(const LoadProgress&)>& on_load) {
    start_llama();
    take_llama_complaints();
    std::vector<ggml_backend_dev_t> devices = runtime.devices;
    devices.push_back(nullptr);
    llama_model_params params = model_params(load_mode, repack, runtime.device_plan.gpu_layers, devices);
    // Streamed experts stay in the view, where they cost nothing, until their slots are made.
    const std::string experts = runtime.view && !runtime.devices.empty() ? expert_pattern(runtime) : "";
    const llama_model_tensor_buft_override overrides[] = {{experts.c_str(), ggml_backend_cpu_buffer_type()}, {}};
    if (!experts.empty()) params.tensor_buft_overrides = overrides;
    ProgressListener listener{runtime.file.tensor_bytes, on_load};
    params.progress_callback = on_load ? on_llama_progress : nullptr;
    params.progress_callback_user_data = &listener;
    std::vector<const char*> names;
    names.reserve(paths.size());
    for (const std::string& path : paths) names.push_back(path.c_str());
    runtime.model.reset(names.size() == 1 ? llama_model_load_from_file(names[0], params)
                                          : llama_model_load_from_splits(names.data(), names.size(), params));
    if (runtime.model == nullptr) return std::unexpected(load_error(runtime));
    runtime.logits_row = logits_row(runtime);
    return {};
}

Status make_context(Runtime& runtime, const EngineOptions& options, uint32_t batch_tokens) {
    const uint32_t threads = options.threads > 0 ? options.threads : hardware::usable_cores();
    llama_context_params params = llama_context_default_params();
    params.n_ctx = context_tokens(runtime, options);
    params.n_batch = params.n_ubatch = batch_tokens;
    params.type_k = params.type_v = ggml_cache_type(options.cache_types.front());
    params.n_seq_max = sequence_slots(runtime, options);
    params.kv_unified = true;  // one pool of cells, and batches of unequal sequences in one graph
    params.n_outputs_max = most_outputs(runtime, batch_tokens, params.n_seq_max);
    params.n_threads = params.n_threads_batch = static_cast<int32_t>(threads);
    params.cb_eval = runtime.view ? EvalSwitch::on_eval : nullptr;
    params.cb_eval_user_data = &runtime.eval;
    params.abort_callback = EvalSwitch::on_abort;
    params.abort_callback_data = &runtime.eval;
    params.no_perf = true;
    if (runtime.view) params.op_offload = false;    // would copy a weight by its shape: slots have none
    params.pooling_type = LLAMA_POOLING_TYPE_NONE;  // rows of tokens; EmbeddingRequest pools them itself
    params.embeddings = !llama_model_has_decoder(runtime.model.get());  // encoders have nothing else to give
    runtime.context.reset();
    runtime.context.reset(llama_init_from_model(runtime.model.get(), params));
    if (runtime.context == nullptr)
        return fail(ErrorCode::kOutOfMemory, "libllama cannot make a context of {} tokens: {}", params.n_ctx,
                    take_llama_complaints());
    runtime.most_outputs = params.n_outputs_max;
    runtime.report.batch_tokens = batch_tokens;
    runtime.report.context_tokens = params.n_ctx;
    runtime.report.sequences = options.sequences;
    return {};
}

std::vector<Pass> passes_of(const llama_model& model) {
    std::vector<Pass> passes;
    if (llama_model_has_encoder(&model)) passes.push_back(Pass::kEncode);
    if (llama_model_has_decoder(&model)) passes.push_back(Pass::kDecode);
    return passes;
}

}  // namespace hypura::engine

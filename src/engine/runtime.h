// What engine and session share: libllama's model and context, and the streamer that feeds them. Internal to this
// folder.
#pragma once

#include "engine/attention_rows.h"
#include "engine/batch_staging.h"
#include "engine/device_bank.h"
#include "engine/device_stream.h"
#include "engine/devices.h"
#include "engine/drafting.h"
#include "engine/engine.h"
#include "engine/eval_observer.h"
#include "engine/llama_handles.h"
#include "engine/model_view.h"
#include "engine/weight_streamer.h"
#include "placement/bank_plan.h"
#include "placement/device_plan.h"
#include "storage/reader.h"

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace hypura::engine {

// Members are destroyed from the last to the first: the streamer before the reader that fills its slots and before the
// context whose tensors it rebound.
struct Runtime {
    gguf::ModelFile file;
    gguf::ModelShape shape;
    Report report;
    uint32_t logits_row = 0;    // floats a row of logits: the vocabulary
    uint32_t most_outputs = 0;  // tokens of one pass that may want theirs (or their embeddings)
    bool session_lives = false;
    EvalSwitch eval;

    std::vector<ggml_backend_dev_t> devices;  // beside the processor; empty: none
    placement::DevicePlan device_plan;        // what of the model they hold
    placement::BankRates bank_rates;          // what experts cost that they do not hold

    std::optional<ModelView> view;  // kStream only
    ModelHandle model;
    ContextHandle context;
    std::vector<std::unique_ptr<DeviceStream>> device_streams;  // kStream only, as the banks
    std::vector<std::unique_ptr<DeviceBank>> banks;             // of the groups that have device slots
    std::vector<std::unique_ptr<BatchStaging>> stagings;        // of devices that have room for them
    std::unique_ptr<storage::BlockReader> reader;
    std::unique_ptr<WeightStreamer> streamer;
    std::unique_ptr<AttentionRows> attention_rows;  // kStream only

    std::unique_ptr<Drafting> drafting;  // null: nothing is drafted
};

// Opens `file` in `mode` (kResident, kStream or kMmap).
Status open_plain(Runtime& runtime, const EngineOptions& options);
Status open_streaming(Runtime& runtime, const EngineOptions& options);

// A context of at most `batch_tokens` a pass; the eval callbacks of `runtime` are wired in when streaming.
Status make_context(Runtime& runtime, const EngineOptions& options, uint32_t batch_tokens);

// Loads the model that `paths` (one a part) name. `repack`: libllama may repack weights into faster layouts. `on_load`
// (may be empty) hears of libllama's own progress.
Status load_llama_model(Runtime& runtime, const std::vector<std::string>& paths, llama_load_mode load_mode, bool repack,
                        const std::function<void(const LoadProgress&)>& on_load);

// False for recurrent state: it is what all tokens so far made of it, and cannot forget some.
bool history_can_be_cut(const llama_model& model);

// What a model can run: decoders only decode, sentence encoders only encode, T5-like models do both.
enum class Pass { kEncode, kDecode };
std::vector<Pass> passes_of(const llama_model& model);

std::unique_ptr<Session> make_session(Runtime& runtime);
Result<std::unique_ptr<BatchEngine>> make_batch(const Engine& engine, Runtime& runtime, const BatchOptions& options);

}  // namespace hypura::engine

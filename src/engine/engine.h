// The engine: a model opened under a memory budget, and one timeline of tokens over it.
//
//   auto engine  = Engine::open(options);         // reads the header, decides the mode, loads what stays resident
//   auto session = (*engine)->new_session();      // owns a KV cache
//   session->evaluate(tokens, LogitsWanted::kLast);
//
// Thread contract: an Engine and its sessions belong to one thread at a time; only Session::cancel may be called from
// any thread. The tokenizer functions are const and thread-safe.
// Errors: a read that fails for good ends the evaluate() in hand with kReadFailed; the session goes back to the
// position it had before, and the next call works if the device does.
#pragma once

#include "base/status.h"
#include "gguf/model_shape.h"
#include "placement/planner.h"
#include "residency/slot_cache.h"
#include "storage/fault_reader.h"
#include "storage/reader.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct llama_vocab;

namespace hypura::engine {

using Token = int32_t;

class BatchEngine;  // batch_engine.h
class Drafting;     // drafting.h
struct BatchOptions;

enum class Mode {
    kAuto,      // chosen by arithmetic; Report::reason says why
    kResident,  // plain libllama, every weight in memory, its own weight repacking on
    kStream,    // resident weights in memory, the rest in slots filled from the file
    kMmap,      // plain libllama over the page cache
};
std::string_view to_string(Mode mode);
std::optional<Mode> parse_mode(std::string_view text);

// Guesses at the next tokens that one pass checks together: drafting.h.
enum class DraftKind : uint8_t {
    kAuto,    // looked up in the text, where everything that streams is read by every pass (dense models)
    kNone,    // one token a pass
    kLookup,  // looked up in the text: what followed the last time that it said the same
    kModel,   // by a smaller model, too
};

struct LoadProgress {
    uint64_t done_bytes = 0;
    uint64_t total_bytes = 0;
};

struct EngineOptions {
    std::string model_path;
    Mode mode = Mode::kAuto;
    uint64_t ram_bytes = 0;       // everything the process may hold; 0: what is really available, less a margin
    uint64_t weights_bytes = 0;   // resident weights and slots alone; 0: what ram_bytes leaves
    uint32_t context_tokens = 0;  // of all sequences together; 0: the model's training context, at most 4096
    uint32_t sequences = 1;       // that may run at once in a BatchEngine, 1 to 128
    uint32_t kept_prefixes = 0;   // at most 128 ended ones that stay in the KV cache beside the running ones, while
                                  // there is room; with 0 they stay until a new one takes their place
    uint32_t batch_tokens = 0;  // most tokens a pass, 0: placement/pass_size.h decides; lowered where a layer's experts
                                // would not fit the slots
    uint32_t threads = 0;       // 0: usable cores
    // Graphics cards and the like by name (devices.h); empty: every graphics card there is; {"none"}: the processor
    // alone.
    std::vector<std::string> devices;
    std::vector<std::string> rpc_servers;  // "host:port" of other machines whose memory counts as devices
    uint64_t vram_bytes = 0;               // of all devices together; 0: what is free there, less a margin
    std::optional<uint32_t> gpu_layers;    // layers on devices, the last ones first, the output counting as one; empty:
                                           // as many as fit
    std::string profile_file;  // saved rates of this machine (placement/machine.h); empty, or none there: assumed ones
    // That the KV cache may have. Any but f16 changes results, so auto uses them only where somebody allowed it.
    std::vector<placement::CacheType> cache_types = {placement::CacheType::kF16};
    // Of Session's generate() and of a BatchEngine; kLookup and kModel fail where Report::can_draft would be false.
    DraftKind drafts = DraftKind::kAuto;
    std::string draft_model_path;  // kModel: in memory as a whole, within ram_bytes
    bool smallest_pool = false;    // kStream: the least memory that works, whatever the budgets say
    bool plain_reference = false;  // unmodified libllama without repacking: what `verify` compares with
    storage::ReaderOptions reader;
    storage::FaultPlan fault;                          // tests only, as the next: of streamed weights
    storage::FaultPlan load_fault;                     // of those that stay in memory
    storage::FaultPlan row_fault;                      // of rows of embeddings
    std::function<void(const LoadProgress&)> on_load;  // may be empty; called on the opening thread
};

// What was decided at opening, and what happened since: the closing summary, --stats and the server's metrics.
struct Report {
    Mode mode = Mode::kAuto;                 // never kAuto
    std::string reason;                      // one sentence
    double predicted_tokens_per_second = 0;  // of decoding; 0: nothing was predicted
    std::string cache_type;                  // of the KV cache: "f16"
    uint32_t context_tokens = 0;             // asked of libllama, which may round it up
    uint64_t model_bytes = 0;                // all tensors
    uint64_t resident_bytes = 0;             // weights that stay in memory
    uint64_t streamed_bytes = 0;             // weights that live in the file
    uint64_t scanned_bytes = 0;              // of these, what every pass reads, however many tokens it has
    uint64_t slot_bytes = 0;                 // memory for streamed weights
    uint64_t context_bytes = 0;              // KV cache and libllama's compute buffers; 0: not measured (plain modes)
    uint64_t ram_bytes = 0;                  // the budget that was applied; 0: none
    uint32_t batch_tokens = 0;               // after lowering
    uint32_t chunk_tokens = 0;               // of a prompt a pass, while other sequences generate
    uint32_t sequences = 0;                  // that may run at once
    bool direct_io = false;
    std::string reader;  // "io_uring", "pread"; empty when nothing is streamed
    int64_t load_us = 0;

    // Since opening. A demand is one (pass, layer, expert) or one (pass, streamed tensor).
    uint64_t demands = 0;
    uint64_t hits = 0;    // already in memory
    uint64_t joined = 0;  // on their way
    uint64_t evictions = 0;
    uint64_t prefetches = 0;          // reads that were started ahead of demand
    uint64_t prefetch_wasted = 0;     // of those, evicted before use
    int64_t wait_us = 0;              // the computation stood still for reads
    storage::ReadCounters reads;      // streaming only; loading is in load_reads; busy_us leaves rows out
    storage::ReadCounters row_reads;  // of the above, those of embeddings' rows
    storage::ReadCounters load_reads;

    bool can_draft = false;        // streams on the processor, says one token after another, and can go back
    std::string drafts;            // where they come from: "none", "lookup" or the model's path
    uint64_t drafted_tokens = 0;   // checked beside a token that was certain
    uint64_t accepted_tokens = 0;  // of these, what the model said as well

    // Devices beside the processor.
    std::vector<std::string> devices;       // in use: "Vulkan0 (NVIDIA H200)"
    uint32_t gpu_layers = 0;                // libllama's count, the output as one more
    uint64_t device_weight_bytes = 0;       // weights that stay in devices' memory, whole layers of experts among them
    uint64_t device_slot_bytes = 0;         // device slots for other layers' experts
    uint64_t device_demands = 0;            // (pass, layer, expert) of layers with device slots
    uint64_t device_hits = 0;               // of those, in a device slot already
    uint64_t device_brought_ahead = 0;      // of the demands, uploaded because they were likely
    uint64_t device_uploaded_bytes = 0;     // experts, into device slots or through the device
    uint64_t device_batches_staged = 0;     // (pass, layer) whose experts did not fit the device slots at once:
    uint64_t device_batches_in_pieces = 0;  // multiplied by whole parts of the layer, or in pieces

    // One line per streamed or deliberately resident group: "48 expert tensors streamed", "blk.0.x: resident, read by
    // ADD".
    std::vector<std::string> notes;
    std::vector<uint64_t> evictions_by_layer;
};

enum class LogitsWanted {
    kLast,
    kAll,       // in passes of at most as many tokens as 32 MiB of logits hold
    kOneByOne,  // all, and each has the bits that a pass of its own would give: one pass where Report::can_draft, for
                // at most DraftPace::kMostPassTokens; elsewhere a pass a token
};

class Session {
public:
    virtual ~Session() = default;

    // Appends `tokens` to the timeline; cuts them into passes of at most batch_tokens. `progress` (may be empty) gets
    // the number of tokens done after each pass; returning false stops with kCancelled.
    virtual Status evaluate(std::span<const Token> tokens, LogitsWanted wanted,
                            const std::function<bool(size_t)>& progress = {}) = 0;

    // Row `index` of the last evaluate(): [vocabulary_tokens] floats. kLast: only row 0, of the last token.
    // Empty where there is no such row. Valid until the next call.
    virtual std::span<const float> logits(size_t index) const = 0;

    virtual uint32_t position() const = 0;  // tokens on the timeline
    virtual uint32_t context_tokens() const = 0;
    // Drops tokens from `position` on. kUnsupportedModel where the architecture keeps no such history (recurrent
    // state); the timeline is then empty.
    virtual Status rewind(uint32_t position) = 0;
    virtual void clear() = 0;

    // Makes an evaluate() in flight return kCancelled soon. Any thread.
    virtual void cancel() = 0;
};

class Engine {
public:
    virtual ~Engine() = default;

    // Errors: everything gguf::open_model says; kBudgetTooSmall with the smallest budget that would work and why;
    // kUnsupportedModel when libllama refuses the file.
    static Result<std::unique_ptr<Engine>> open(const EngineOptions& options);

    // One session or batch at a time; a second call while one lives is kInvalidArgument.
    virtual Result<std::unique_ptr<Session>> new_session() = 0;
    // Many sequences at once: batch_engine.h. kUnsupportedModel for encoder-decoder models.
    virtual Result<std::unique_ptr<BatchEngine>> new_batch(const BatchOptions& options) = 0;

    virtual const gguf::ModelFile& file() const = 0;
    virtual const gguf::ModelShape& shape() const = 0;
    virtual Report report() const = 0;

    // What is streamed and where it lies in the files; null unless the mode is kStream.
    virtual const residency::SlotCache* slot_cache() const = 0;
    // Shows every pass and demand to `observer` (null: nobody any more); nothing happens where nothing is streamed.
    virtual void observe(residency::CacheObserver* observer) = 0;

    // ---- vocabulary; a model without one has vocabulary_tokens() logits all the same -------------------------------
    virtual bool has_vocabulary() const = 0;
    virtual uint32_t vocabulary_tokens() const = 0;
    // `add_special`: BOS/EOS as the model wants them; `parse_special`: text such as <|im_end|> becomes its token.
    virtual Result<std::vector<Token>> tokenize(std::string_view text, bool add_special, bool parse_special) const = 0;
    virtual std::string piece(Token token, bool special) const = 0;  // bytes; may be part of a UTF-8 sequence
    virtual bool ends_generation(Token token) const = 0;
    // The model's own Jinja template, or the one it has for conversations with tools (tokenizer.chat_template.tool_use;
    // Command R, Hermes).
    enum class ChatTemplate : uint8_t { kDefault, kToolUse };
    virtual std::optional<std::string> chat_template_source(ChatTemplate which) const = 0;
    virtual Token bos_token() const = 0;  // -1: none
    virtual Token eos_token() const = 0;
    virtual bool adds_bos() const = 0;
    virtual const llama_vocab* llama_vocabulary() const = 0;  // for this folder alone
    virtual Drafting* drafting() const = 0;                   // the same; null: nothing is drafted
};

}  // namespace hypura::engine

// Which graph node reads which weight: found by asking the graph, not by names.
//
// A capture pass lets libllama build and schedule a batch's graph and aborts after its first node. Of every node
// the capture notes the weights among its sources. What may be streamed follows from that (docs/seam.md):
//   - a tensor read only as src[0] of MUL_MAT_ID, always with the same ids tensor: its experts;
//   - a matrix read only as src[0] of MUL_MAT: dense;
//   - a matrix read only as src[0] of GET_ROWS, by ids that the graph is given: rows;
//   - anything else stays in memory, so an unknown architecture runs correctly, only with less streaming.
#pragma once

#include "engine/eval_observer.h"
#include "gguf/model_file.h"

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::engine {

enum class WeightUse { kExperts, kDense, kRows, kOther };

// Where a routing comes from: ids = top-k of something computed from weight * input, and input = norm * (…).
struct RouterTrace {
    const ggml_tensor* weight = nullptr;  // [embedding, experts]; null: not found
    const ggml_tensor* norm = nullptr;    // [embedding]; null: none
    const ggml_tensor* input = nullptr;   // [embedding, tokens] of this graph
};

// Where a graph is cut between devices, the scheduler copies a tensor "NAME" into one named "BACKEND#NAME#COPY": the
// name of what was copied; any other tensor's own name.
std::string_view original_name(const ggml_tensor* tensor);
bool is_copy(const ggml_tensor* tensor);

// In the host's memory, mapped or allocated.
bool is_on_host(const ggml_tensor* tensor);

// Row numbers in the host's memory that are known before anything is computed: the tokens of a batch, say.
bool is_given_to_graph(const ggml_tensor* ids);

// Follows the graph back from an ids tensor. It serves guesses only: a graph that is built differently yields nothing.
RouterTrace trace_router(const ggml_tensor* ids, int64_t experts);

// All experts of each token, best first, as far as `ids` is a view of the beginning of each row of that; else null.
const ggml_tensor* whole_ranking(const ggml_tensor* ids, int64_t experts);

struct CapturedWeight {
    const gguf::TensorInfo* info = nullptr;
    ggml_tensor* tensor = nullptr;        // libllama's, valid as long as its model; null: none of the host's is read
    std::vector<ggml_tensor*> on_device;  // the same weight in devices' memory: tied embeddings are in both
    WeightUse use = WeightUse::kOther;
    std::string ids_name;         // kExperts: the I32 node whose value routes
    uint32_t ids_occurrence = 0;  // names repeat within a graph (grovemoe routes twice a layer): the how-manieth
    uint32_t ids_repeats = 1;     // how many I32 nodes of a graph have that name
    RouterTrace router;           // kExperts: its weights; the input is of a graph that is gone
    uint32_t readers = 0;         // most nodes of one graph that read it
    std::string other_reader;     // kOther: why it stays, "read by ADD" for example
};

class GraphCapture final : public EvalObserver {
public:
    explicit GraphCapture(const gguf::ModelFile& model);

    void begin_pass();  // before each captured batch
    bool ask(ggml_tensor* node) override;
    bool computed(ggml_tensor* node) override;

    bool saw_nodes() const { return !weights_.empty(); }
    // In the order in which the first captured graph reads them, each file tensor once.
    std::vector<CapturedWeight> weights() const;
    // Dense weights in reading order, repeated where read repeatedly; of the pass that read most.
    const std::vector<ggml_tensor*>& dense_order() const { return dense_order_; }

private:
    struct Entry {
        CapturedWeight weight;
        uint32_t readers_this_pass = 0;
    };
    void note_i32(const ggml_tensor* node);
    std::optional<uint32_t> occurrence_of(const ggml_tensor* ids) const;
    const ggml_tensor* original_ids(const ggml_tensor* ids) const;
    void note_reader(ggml_tensor* node, int source_index, ggml_tensor* weight);
    Entry& entry_for(const gguf::TensorInfo& info);

    std::map<std::string, const gguf::TensorInfo*, std::less<>> infos_;
    std::vector<Entry> weights_;
    std::map<const gguf::TensorInfo*, size_t> index_;
    std::map<const ggml_tensor*, uint32_t> occurrence_this_pass_;       // of I32 nodes, among those of the same name
    std::map<std::string, uint32_t, std::less<>> i32_names_this_pass_;  // and how many have it
    std::map<std::string, const ggml_tensor*, std::less<>> last_i32_;   // of that name
    std::map<std::string, uint32_t, std::less<>> i32_names_;            // most in one pass
    std::vector<ggml_tensor*> order_this_pass_;
    std::vector<ggml_tensor*> dense_order_;
};

}  // namespace hypura::engine

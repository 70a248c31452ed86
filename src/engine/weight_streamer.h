// Makes every streamed weight that a node is about to read lie in a slot: the bridge between libllama's graph and the
// slot cache, and the hottest code of the program.
//
// Experts: a tensor [cols, rows, experts] becomes, in libllama's eyes, [cols, rows, slots]: data = the class's memory,
// nb[2] = the slot stride. When a layer's routing is computed, the reads of the experts that it names begin. A
// MUL_MAT_ID whose experts are all in memory by the time libllama comes to it gets an index tensor of ours that holds
// slot numbers (the router's own ids are never written: other nodes read them too). Otherwise the node is emptied and
// computed here when its turn comes, expert by expert as the reads finish. Dense: the matrix's data pointer is set to a
// slot just before its node runs. Rows of embeddings have no slots: RowTables reads them to their place in the view.
#pragma once

#include "engine/batch_staging.h"
#include "engine/device_bank.h"
#include "engine/eval_observer.h"
#include "engine/expert_compute.h"
#include "engine/expert_lookahead.h"
#include "engine/model_view.h"
#include "engine/router_copies.h"
#include "engine/row_tables.h"
#include "engine/stream_layout.h"
#include "engine/upload_ahead.h"
#include "placement/stream_plan.h"
#include "residency/slot_cache.h"
#include "storage/reader.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace hypura::engine {

class WeightStreamer final : public EvalObserver {
public:
    // Allocates the slots and rebinds the streamed tensors; the resident ones must have been loaded. `reader`, `view`
    // and libllama's model outlive the streamer.
    // `banks`: the device slots of each group of the layout, null where it has none; empty: nothing has any.
    static Result<std::unique_ptr<WeightStreamer>> create(const StreamLayout& layout, const placement::StreamPlan& plan,
                                                          const std::vector<ggml_tensor*>& dense_order,
                                                          const ModelView& view, storage::BlockReader& reader,
                                                          uint32_t threads, std::span<DeviceBank* const> banks,
                                                          const residency::SlotMemory& memory);
    ~WeightStreamer() override;

    // The tables of the layout, whose rows `tables` brings; without this call they must have been loaded.
    void read_rows_with(std::unique_ptr<RowTables> tables) { rows_of_tables_ = std::move(tables); }
    storage::ReadCounters row_reads() const;

    // Around each llama_decode or llama_encode. end_pass says what failed, if anything did.
    void begin_pass(uint32_t tokens);
    Status end_pass();

    bool ask(ggml_tensor* node) override;
    bool computed(ggml_tensor* node) override;

    const residency::SlotCache& cache() const { return cache_; }
    void observe(residency::CacheObserver* observer) { cache_.observe(observer); }

    // Experts of groups that have device slots.
    struct DeviceCounters {
        uint64_t demands = 0;
        uint64_t hits = 0;               // in a device slot already
        uint64_t brought_ahead = 0;      // uploaded, or nearly so, because it was likely to be demanded
        uint64_t uploaded_bytes = 0;     // into device slots, or through the device in a large batch
        uint64_t batches_staged = 0;     // routings that named more experts than the group has device slots,
        uint64_t batches_in_pieces = 0;  // multiplied by whole parts, or in pieces
    };
    DeviceCounters device_counters() const;

private:
    // How device slots serve a routing: they hold all of its experts, or it is multiplied by whole parts that are put
    // together beside them, or piece by piece.
    enum class Batch : uint8_t { kFits, kStaged, kInPieces };
    // The expert tensors that one ids node routes.
    struct Group {
        residency::PageId first_page = 0;  // page of expert e: first_page + e
        uint32_t experts = 0;
        uint32_t readers = 0;                    // MUL_MAT_ID nodes a graph
        uint32_t readers_left = 0;               // of the routing in hand
        std::vector<residency::PageId> pinned;   // by the routing in hand
        std::vector<int32_t> ids;                // the router's, row by row
        std::vector<int32_t> slots;              // the same as slot numbers: the index tensor's data
        ggml_tensor* index = nullptr;            // ours, shaped like the ids
        const ggml_tensor* routed_by = nullptr;  // the ids node of the routing in hand
        RouterTrace router;                      // in the host's memory, or nothing
        DeviceBank* bank = nullptr;              // its device slots
        Batch batch = Batch::kFits;              // the routing in hand
    };
    // The groups that ids nodes of one name route, in the order in which the graph computes those nodes.
    struct Router {
        std::vector<Group*> groups;  // by occurrence; null where an occurrence routes nothing streamed
        size_t next = 0;
    };
    // Where a weight lies within its group's pages.
    struct ExpertPart {
        Group* group = nullptr;
        size_t slice = 0;
    };
    // A node that computed() has to compute itself.
    struct Pending {
        ggml_tensor* node = nullptr;
        ExpertPart part;
    };
    // A node that was changed for the pass in hand, and what it was.
    struct Changed {
        ggml_tensor* node = nullptr;
        ggml_tensor* weight = nullptr;
        ggml_tensor* ids = nullptr;
        ggml_op op = GGML_OP_NONE;
    };
    struct Dense {
        residency::PageId page = 0;
        uint32_t slot_class = 0;
        uint64_t slot_offset = 0;
    };

    WeightStreamer(residency::SlotCache cache, ExpertCompute compute)
        : cache_(std::move(cache)), compute_(std::move(compute)) {}
    void bind_groups(const StreamLayout& layout, const placement::StreamPlan& plan, std::span<DeviceBank* const> banks);
    void bind_router(const ExpertGroupLayout& layout, Group& group);
    void bind_experts(const ExpertGroupLayout& group, uint32_t slot_class);
    void bind_dense(const StreamLayout& layout, const placement::StreamPlan& plan,
                    const std::vector<ggml_tensor*>& dense_order);
    RouterTrace router_on_host(RouterTrace router);
    ggml_tensor* make_index_tensor();

    // Device slots: weight_streamer_device.cpp.
    Status start_upload_ahead(uint32_t threads);
    Status fetch_routing(const Group& group, const ggml_tensor* ids, const ggml_tensor* input);
    void take_input(const Group& group, const ggml_tensor* input);
    Status place_on_device(Group& group, const ggml_tensor* ids);
    void list_uploads(const Group& group);
    Status bring_to_device(Group& group);
    Status upload_awaited(const Group& group);
    void begin_upload(const Group& group, const DeviceWriter::Matrix& matrix);
    void release_brought(Group& group);
    bool was_on_device(const Group& group, uint32_t expert) const;
    bool was_brought_ahead(const Group& group, uint32_t expert) const;
    bool uploads_ahead_of(const Group& group) const;
    bool may_upload_ahead(const Group& group, const ggml_tensor* ids) const;
    void upload_ahead(const Group& group, const ggml_tensor* ids);
    void sort_by_rows(const Group& group);
    Status stage_batch(Group& group, const ggml_tensor* ids);
    Status place_pieces(Group& group);
    BatchStaging::Layer staged_next(const Group& group) const;
    bool redirect_on_device(ggml_tensor* node, const ExpertPart& part);
    bool redirect_to_staging(ggml_tensor* node, const ExpertPart& part);
    Status compute_on_device(const Pending& pending);
    Status multiply_arrived(const Pending& pending);
    void collect_rows_on_device(const Group& group);
    bool is_routing(const Group& group, const ggml_tensor* ids) const;

    void note_resident(const StreamLayout& layout, const placement::StreamPlan& plan);
    bool redirect_to_slots(ggml_tensor* node, const ExpertPart& part);
    Result<bool> all_here(const ExpertPart& part);
    Status compute_pending();
    static size_t least_piece(const Group& group);
    Status await_piece(const ExpertPart& part);
    Status take_arrived(const ExpertPart& part);
    void collect_rows(const Group& group);
    bool bring_dense(ggml_tensor* weight, const Dense& dense);
    bool bring_rows(const ggml_tensor* node);
    bool sources_are_in_memory(const ggml_tensor* node, int first_source);
    bool is_unloaded_weight(const ggml_tensor* source) const;
    bool skip(ggml_tensor* node);
    void change(ggml_tensor* node, ggml_tensor* ids, ggml_op op);
    void change(ggml_tensor* node, ggml_tensor* weight, ggml_tensor* ids, ggml_op op);

    Status route(Router& router, const ggml_tensor* ids);
    Status read_ids(Group& group, const ggml_tensor* ids);
    void find_distinct(const Group& group);
    void list_pages(Group& group);
    void note_passing(const Group& group, const ggml_tensor* ids);
    std::span<const int32_t> ranking_of(const Group& group, const ggml_tensor* ids, size_t token);
    void note_standings(const Group& group, const ggml_tensor* ids);
    void fill_index(Group& group, const ggml_tensor* ids);
    Status start_reads(const Group& group, const ggml_tensor* ids);
    size_t layer_of(const Group& group) const { return static_cast<size_t>(&group - groups_.data()); }
    void restore_nodes();
    void release_finished_groups(bool all);
    void release_dense();
    Status read_ahead();
    bool give_up(Status status);

    residency::SlotCache cache_;
    std::vector<Group> groups_;
    std::unordered_map<std::string, Router> routers_;           // by name of the ids node
    std::unordered_map<const ggml_tensor*, ExpertPart> parts_;  // by weight
    std::vector<Group*> active_groups_;
    std::vector<Changed> changed_;  // among the nodes in hand

    ExpertCompute compute_;
    Pending pending_;
    std::vector<residency::PageId> awaited_;  // of the pending node, or of the routing in hand
    std::vector<uint8_t> arrived_;            // by expert: in the piece that is computed next
    std::vector<RoutedRow> rows_;             // of that piece

    ExpertLookahead lookahead_;  // a layer a group
    RouterCopies router_copies_;

    std::unordered_map<const ggml_tensor*, Dense> dense_;
    std::vector<Dense> dense_order_;  // as one pass reads them
    size_t dense_next_ = 0;           // the read after the one in hand
    std::vector<residency::PageId> dense_pinned_;

    std::unique_ptr<RowTables> rows_of_tables_;  // null: tables are in memory, if there are any

    DeviceCounters device_counters_;
    std::vector<uint32_t> distinct_;             // experts of the routing in hand
    std::vector<int32_t> staging_slot_;          // scratch of multiply_arrived: by expert
    const ggml_tensor* router_input_ = nullptr;  // of the routing in hand, in the host's memory, if anybody wants it
    const std::byte* fetched_input_ = nullptr;   // of a device, as fetch_routing brought it; null: nobody wants it
    ggml_tensor* host_input_ = nullptr;          // the same as a tensor
    std::vector<std::byte> input_data_;
    std::vector<DeviceWriter::Matrix> uploads_;  // that the routing in hand waits for, and whose bytes are in RAM slots
    std::unique_ptr<UploadAhead> ahead_;         // null: no two layers in a row could make use of it
    std::vector<BatchStaging*> stagings_;        // of all devices

    const ModelView* view_ = nullptr;
    std::unordered_set<const ggml_tensor*> resident_;  // weights that were loaded into the view
    ggml_context* index_context_ = nullptr;
    std::vector<uint8_t> seen_;               // scratch of find_distinct
    const std::byte* raw_ids_ = nullptr;      // as libllama laid them out, gaps between rows included
    residency::StandingTable standings_;      // of the routing in hand; empty: not known
    std::vector<residency::PageId> passing_;  // of the routing in hand, through a device's slots
    std::vector<int32_t> ranking_;            // scratch of ranking_of()
    std::vector<std::byte> raw_ids_data_;     // of a router in the host's memory
    Status failure_;
};

}  // namespace hypura::engine

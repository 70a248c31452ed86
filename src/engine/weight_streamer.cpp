#include "engine/weight_streamer.h"

#include "base/check.h"
#include "placement/bank_plan.h"

#include <ggml.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

namespace hypura::engine {
namespace {

constexpr size_t kMostReadAhead = 64;  // reads of a dense pass that are looked at ahead; slots limit it first
constexpr size_t kFewRows = 64;        // of a routing: few enough that each expert is a piece of its own
constexpr size_t kMostPieces = 4;      // of a larger one

std::vector<residency::SlotClassSpec> slot_classes(const placement::StreamPlan& plan) {
    std::vector<residency::SlotClassSpec> classes;
    classes.reserve(plan.classes.size());
    for (const placement::PlannedClass& planned : plan.classes) classes.push_back({planned.slot_bytes, planned.slots});
    return classes;
}

// Pages in the order that bind_groups and bind_dense count on: groups, expert by expert, then streamed matrices.
std::vector<residency::PageSpec> all_pages(const StreamLayout& layout, const placement::StreamPlan& plan) {
    std::vector<residency::PageSpec> pages;
    for (size_t g = 0; g < layout.groups.size(); ++g)
        for (uint32_t expert = 0; expert < layout.groups[g].experts; ++expert)
            pages.push_back(expert_page(layout.groups[g], expert, plan.expert_class[g]));
    for (size_t d = 0; d < layout.dense.size(); ++d)
        if (plan.dense_streamed[d]) pages.push_back(dense_page(layout.dense[d], plan.dense_class[d]));
    return pages;
}

bool keeps_experts(const DeviceBank* bank, const ggml_tensor* ids) {
    return bank != nullptr && bank->slots() >= placement::kTokensThatStay * static_cast<uint32_t>(ids->ne[0]);
}

// Some layer's experts are the processor's.
bool computes_on_host(std::span<DeviceBank* const> banks) {
    return banks.empty() || std::ranges::contains(banks, nullptr);
}

}  // namespace

Result<std::unique_ptr<WeightStreamer>> WeightStreamer::create(const StreamLayout& layout,
                                                               const placement::StreamPlan& plan,
                                                               const std::vector<ggml_tensor*>& dense_order,
                                                               const ModelView& view, storage::BlockReader& reader,
                                                               uint32_t threads, std::span<DeviceBank* const> banks,
                                                               const residency::SlotMemory& memory) {
    HYPURA_ASSIGN(auto cache,
                  residency::SlotCache::create(slot_classes(plan), all_pages(layout, plan), reader, memory));
    HYPURA_ASSIGN(auto compute, ExpertCompute::create(threads, computes_on_host(banks)));
    std::unique_ptr<WeightStreamer> streamer(new WeightStreamer(std::move(cache), std::move(compute)));
    streamer->view_ = &view;
    streamer->note_resident(layout, plan);
    streamer->bind_groups(layout, plan, banks);
    streamer->bind_dense(layout, plan, dense_order);
    HYPURA_TRY(streamer->start_upload_ahead(threads));
    return streamer;
}

WeightStreamer::~WeightStreamer() {
    if (index_context_ != nullptr) ggml_free(index_context_);
}

// ---- binding, once -------------------------------------------------------------------------------------------------

void WeightStreamer::note_resident(const StreamLayout& layout, const placement::StreamPlan& plan) {
    for (const CapturedWeight& weight : layout.fixed) resident_.insert(weight.tensor);
    for (const DeviceWeight& weight : layout.device) resident_.insert(weight.tensor);
    if (!plan.rows_streamed)
        for (const TableLayout& table : layout.tables) resident_.insert(table.weight.tensor);
    for (size_t d = 0; d < layout.dense.size(); ++d)
        if (!plan.dense_streamed[d]) resident_.insert(layout.dense[d].part.tensor);
}

void WeightStreamer::bind_groups(const StreamLayout& layout, const placement::StreamPlan& plan,
                                 std::span<DeviceBank* const> banks) {
    const size_t tensors_bytes = ggml_tensor_overhead() * (layout.groups.size() + 2);
    index_context_ = ggml_init({.mem_size = tensors_bytes, .mem_buffer = nullptr, .no_alloc = true});
    HYPURA_CHECK(index_context_ != nullptr);
    host_input_ = ggml_new_tensor_1d(index_context_, GGML_TYPE_F32, 1);
    groups_.resize(layout.groups.size());  // never again: pointers into it are kept
    residency::PageId next_page = 0;
    for (size_t g = 0; g < groups_.size(); ++g) {
        const ExpertGroupLayout& source = layout.groups[g];
        Group& group = groups_[g];
        group.first_page = next_page;
        group.experts = source.experts;
        group.readers = source.readers;
        group.bank = banks.empty() ? nullptr : banks[g];
        if (group.bank != nullptr && group.bank->staging() != nullptr &&
            !std::ranges::contains(stagings_, group.bank->staging()))
            stagings_.push_back(group.bank->staging());
        group.router = router_on_host(source.router);
        lookahead_.add_layer(
            {next_page, source.experts, static_cast<uint32_t>(source.parts.size()), group.router, group.bank});
        group.index = make_index_tensor();
        for (size_t slice = 0; slice < source.parts.size(); ++slice)
            parts_.emplace(source.parts[slice].tensor, ExpertPart{&group, slice});
        bind_router(source, group);
        if (group.bank == nullptr) bind_experts(source, plan.expert_class[g]);
        next_page += source.experts;
    }
}

RouterTrace WeightStreamer::router_on_host(RouterTrace router) {
    if (!resident_.contains(router.weight)) return {};
    if (!resident_.contains(router.norm)) router.norm = nullptr;
    return router_copies_.on_host(router);
}

void WeightStreamer::bind_router(const ExpertGroupLayout& layout, Group& group) {
    Router& router = routers_[layout.ids_name];
    router.groups.resize(layout.ids_repeats);
    router.groups[layout.ids_occurrence] = &group;
}

void WeightStreamer::bind_experts(const ExpertGroupLayout& group, uint32_t slot_class) {
    const residency::SlotClassSpec& slots = cache_.class_spec(slot_class);
    for (const SlotPart& part : group.parts) {
        part.tensor->data = cache_.class_memory(slot_class) + part.slot_offset;
        part.tensor->ne[2] = slots.slots;
        part.tensor->nb[2] = slots.stride_bytes;
        part.tensor->nb[3] = slots.stride_bytes * slots.slots;
    }
}

void WeightStreamer::bind_dense(const StreamLayout& layout, const placement::StreamPlan& plan,
                                const std::vector<ggml_tensor*>& dense_order) {
    residency::PageId next_page = 0;
    for (const Group& group : groups_) next_page += group.experts;
    for (size_t d = 0; d < layout.dense.size(); ++d) {
        if (!plan.dense_streamed[d]) continue;
        const SlotPart& part = layout.dense[d].part;
        dense_.emplace(part.tensor, Dense{next_page++, plan.dense_class[d], part.slot_offset});
    }
    for (ggml_tensor* tensor : dense_order)
        if (const auto found = dense_.find(tensor); found != dense_.end()) dense_order_.push_back(found->second);
}

// Its shape and data follow the ids of each pass.
ggml_tensor* WeightStreamer::make_index_tensor() {
    ggml_tensor* const index = ggml_new_tensor_2d(index_context_, GGML_TYPE_I32, 1, 1);
    ggml_set_name(index, "hypura_slots");
    return index;
}

// ---- one pass ------------------------------------------------------------------------------------------------------

void WeightStreamer::begin_pass(uint32_t tokens) {
    failure_ = {};
    cache_.begin_pass(tokens);
    dense_next_ = 0;
    lookahead_.begin_pass();
    if (ahead_ != nullptr) ahead_->begin_pass();
    if (rows_of_tables_ != nullptr) rows_of_tables_->begin_pass();
    for (auto& [name, router] : routers_) router.next = 0;
    if (Status started = read_ahead(); !started) failure_ = std::move(started);
}

Status WeightStreamer::end_pass() {
    pending_ = {};
    restore_nodes();
    if (ahead_ != nullptr) ahead_->abandon();
    release_finished_groups(true);
    for (BatchStaging* staging : stagings_) staging->abandon();
    release_dense();
    return std::move(failure_);
}

bool WeightStreamer::ask(ggml_tensor* node) {
    if (!failure_) return skip(node);  // computed() abandons the graph
    if (node->op == GGML_OP_MUL_MAT_ID) {
        if (const auto found = parts_.find(node->src[0]); found != parts_.end())
            return redirect_to_slots(node, found->second);
    } else if (node->op == GGML_OP_MUL_MAT) {
        if (const auto found = dense_.find(node->src[0]); found != dense_.end())
            return sources_are_in_memory(node, 1) && bring_dense(node->src[0], found->second) ? true : skip(node);
    } else if (node->op == GGML_OP_GET_ROWS && rows_of_tables_ != nullptr && rows_of_tables_->contains(node->src[0])) {
        return bring_rows(node) ? false : skip(node);
    }
    if (!sources_are_in_memory(node, 0)) return skip(node);
    return node->type == GGML_TYPE_I32 && routers_.contains(node->name);
}

bool WeightStreamer::computed(ggml_tensor* node) {
    if (!failure_) return false;
    if (pending_.node == node)
        if (Status finished = compute_pending(); !finished) return give_up(std::move(finished));
    restore_nodes();
    release_dense();
    release_finished_groups(false);
    if (node->type == GGML_TYPE_I32) {
        if (const auto found = routers_.find(node->name); found != routers_.end())
            if (Status routed = route(found->second, node); !routed) return give_up(std::move(routed));
    }
    if (Status started = read_ahead(); !started) return give_up(std::move(started));
    return true;
}

// Remembers the first failure. False: computed() then abandons the graph.
bool WeightStreamer::give_up(Status status) {
    if (failure_) failure_ = std::move(status);
    return false;
}

// A guard, not a mechanism: a reader of a streamed weight that the capture did not show must end the pass, not compute
// with whatever the slots hold.
bool WeightStreamer::sources_are_in_memory(const ggml_tensor* node, int first_source) {
    // Sources may have gaps: an attention without a mask, with sinks.
    for (int i = first_source; i < GGML_MAX_SRC; ++i) {
        const ggml_tensor* const source = node->src[i];
        if (source == nullptr) continue;
        const ggml_tensor* const root = source->view_src != nullptr ? source->view_src : source;
        if (!is_unloaded_weight(root)) continue;
        give_up(fail(ErrorCode::kUnsupportedModel,
                     "{}: the graph reads this weight by {} ({}), which was not seen at opening; use --mode mmap",
                     root->name, ggml_op_name(node->op), node->name));
        return false;
    }
    return true;
}

// Streamed, or in a part of the view, or of a device, that nothing was loaded into. The address alone does not tell:
// libllama gives parts of the view back that hold none of the host's weights, and others may get that memory.
bool WeightStreamer::is_unloaded_weight(const ggml_tensor* source) const {
    if (source->op != GGML_OP_NONE || source->buffer == nullptr || resident_.contains(source)) return false;
    if (ggml_backend_buffer_get_usage(source->buffer) != GGML_BACKEND_BUFFER_USAGE_WEIGHTS) return false;
    return !is_on_host(source) || view_->contains(source->data) || parts_.contains(source) || dense_.contains(source);
}

// The scheduler computes a node that it cut at, even after a failure: an empty operation does no harm.
bool WeightStreamer::skip(ggml_tensor* node) {
    change(node, node->src[2], GGML_OP_NONE);
    return true;
}

// libllama reuses graphs: restore_nodes() gives them back as it built them.
void WeightStreamer::change(ggml_tensor* node, ggml_tensor* ids, ggml_op op) { change(node, node->src[0], ids, op); }

void WeightStreamer::change(ggml_tensor* node, ggml_tensor* weight, ggml_tensor* ids, ggml_op op) {
    changed_.push_back(
        {node, std::exchange(node->src[0], weight), std::exchange(node->src[2], ids), std::exchange(node->op, op)});
}

void WeightStreamer::restore_nodes() {
    for (const Changed& changed : changed_) {
        changed.node->src[0] = changed.weight;
        changed.node->src[2] = changed.ids;
        changed.node->op = changed.op;
    }
    changed_.clear();
}

// ---- experts -------------------------------------------------------------------------------------------------------

// Starts the reads of the experts that `ids` names, and writes the numbers of their slots into the group's index
// tensor.
Status WeightStreamer::route(Router& router, const ggml_tensor* ids) {
    // Modulo: libllama may run several graphs a pass.
    Group* const routed = router.groups[router.next++ % router.groups.size()];
    if (routed == nullptr) return {};
    Group& group = *routed;
    const ggml_tensor* const input = trace_router(ids, group.experts).input;
    HYPURA_TRY(fetch_routing(group, ids, input));
    HYPURA_TRY(read_ids(group, ids));
    find_distinct(group);
    if (ahead_ != nullptr) HYPURA_TRY(ahead_->settle(group.bank, distinct_));
    for (BatchStaging* staging : stagings_) staging->settle();
    take_input(group, input);
    list_pages(group);
    note_passing(group, ids);
    note_standings(group, ids);
    if (Status started = start_reads(group, ids); !started) {
        group.pinned.clear();  // none of them is pinned
        return started;
    }
    group.routed_by = ids;
    group.readers_left = group.readers;
    active_groups_.push_back(&group);
    if (group.bank != nullptr) return place_on_device(group, ids);
    fill_index(group, ids);
    return {};
}

// The routing's own experts, and behind them what later layers are likely to name.
Status WeightStreamer::start_reads(const Group& group, const ggml_tensor* ids) {
    const auto top_k = static_cast<size_t>(ids->ne[0]);
    const size_t sample = RouterGuess::sample_token(static_cast<size_t>(ids->ne[1]));
    lookahead_.judge(layer_of(group), {group.ids, top_k, ranking_of(group, ids, sample)}, group.pinned, cache_);
    HYPURA_ASSIGN(const auto guesses, lookahead_.choose(layer_of(group), router_input_, top_k, cache_, compute_));
    return cache_.acquire(group.pinned, guesses, {group.first_page, standings_.standings(), passing_});
}

// The ids are usually a view with gaps between its rows (the first top_k columns of a sort).
Status WeightStreamer::read_ids(Group& group, const ggml_tensor* ids) {
    const auto columns = static_cast<size_t>(ids->ne[0]);
    const auto rows = static_cast<size_t>(ids->ne[1]);
    group.ids.resize(columns * rows);
    for (size_t row = 0; row < rows; ++row)
        std::memcpy(&group.ids[row * columns], raw_ids_ + row * ids->nb[1], columns * sizeof(int32_t));
    const auto experts = static_cast<int32_t>(group.experts);
    for (int32_t id : group.ids)
        if (id < 0 || id >= experts)
            return fail(ErrorCode::kUnsupportedModel, "{} names expert {} of {}", ids->name, id, experts);
    return {};
}

// Each expert once, in the order in which the routing names them.
void WeightStreamer::find_distinct(const Group& group) {
    seen_.assign(group.experts, 0);
    distinct_.clear();
    for (const int32_t id : group.ids)
        if (std::exchange(seen_[static_cast<size_t>(id)], uint8_t{1}) == 0)
            distinct_.push_back(static_cast<uint32_t>(id));
}

// What RAM slots have to provide: all of distinct_, or those that had no device slot. What was uploaded ahead came from
// RAM slots, too.
void WeightStreamer::list_pages(Group& group) {
    cache_.release(group.pinned);
    group.pinned.clear();
    for (const uint32_t expert : distinct_)
        if (!was_on_device(group, expert)) group.pinned.push_back(group.first_page + expert);
    if (group.bank == nullptr) return;
    device_counters_.demands += distinct_.size();
    device_counters_.hits += distinct_.size() - group.pinned.size();
    device_counters_.brought_ahead += static_cast<uint64_t>(
        std::ranges::count_if(distinct_, [&](uint32_t expert) { return was_brought_ahead(group, expert); }));
}

// What passes through a few device slots counts as used here, too.
void WeightStreamer::note_passing(const Group& group, const ggml_tensor* ids) {
    passing_.clear();
    if (keeps_experts(group.bank, ids)) return;
    for (const uint32_t expert : distinct_)
        if (was_on_device(group, expert)) passing_.push_back(group.first_page + expert);
}

// All experts, best first; nothing where the ids are not the beginning of that. Valid until the next call.
std::span<const int32_t> WeightStreamer::ranking_of(const Group& group, const ggml_tensor* ids, size_t token) {
    if (whole_ranking(ids, group.experts) == nullptr) return {};
    ranking_.resize(group.experts);
    std::memcpy(ranking_.data(), raw_ids_ + token * ids->nb[1], ranking_.size() * sizeof(int32_t));
    return ranking_;
}

// What stays on a device is not asked of RAM slots.
void WeightStreamer::note_standings(const Group& group, const ggml_tensor* ids) {
    const auto tokens = static_cast<size_t>(ids->ne[1]);
    standings_.clear();
    if (tokens > residency::UseForecast::kMostTokensToLearnFrom || whole_ranking(ids, group.experts) == nullptr) return;
    standings_.begin(group.experts, static_cast<size_t>(ids->ne[0]));
    for (size_t token = 0; token < tokens; ++token) standings_.add_ranking(ranking_of(group, ids, token));
    if (!keeps_experts(group.bank, ids)) return;
    for (uint32_t expert = 0; expert < group.experts; ++expert)
        if (was_on_device(group, expert)) standings_.set_aside(expert);
}

void WeightStreamer::fill_index(Group& group, const ggml_tensor* ids) {
    group.slots.resize(group.ids.size());
    std::ranges::transform(group.ids, group.slots.begin(), [&](int32_t id) {
        return static_cast<int32_t>(cache_.slot_of(group.first_page + static_cast<uint32_t>(id)));
    });
    ggml_tensor& index = *group.index;
    index.data = group.slots.data();
    index.ne[0] = ids->ne[0];
    index.ne[1] = ids->ne[1];
    index.nb[0] = sizeof(int32_t);
    index.nb[1] = index.nb[0] * static_cast<size_t>(index.ne[0]);
    index.nb[2] = index.nb[3] = index.nb[1] * static_cast<size_t>(index.ne[1]);
}

// True: the node waits for experts, and computed() has to do its work.
bool WeightStreamer::redirect_to_slots(ggml_tensor* node, const ExpertPart& part) {
    Group& group = *part.group;
    if (!is_routing(group, node->src[2])) {
        give_up(fail(ErrorCode::kUnsupportedModel, "{}: its experts are read before they are routed; use --mode mmap",
                     node->src[0]->name));
        return skip(node);
    }
    if (!sources_are_in_memory(node, 1)) return skip(node);
    --group.readers_left;
    if (group.bank != nullptr) return redirect_on_device(node, part);
    Result<bool> ready = all_here(part);
    if (!ready) {
        give_up(std::unexpected(std::move(ready).error()));
        return skip(node);
    }
    change(node, group.index, *ready ? node->op : GGML_OP_NONE);
    if (!*ready) pending_ = {node, part};
    return !*ready;
}

Result<bool> WeightStreamer::all_here(const ExpertPart& part) {
    HYPURA_TRY(cache_.poll());
    for (const residency::PageId page : part.group->pinned) {
        HYPURA_ASSIGN(const bool here, cache_.has_slice(page, part.slice));
        if (!here) return false;
    }
    return true;
}

// Multiplies by the experts that have arrived while the others are on their way, until all are done.
Status WeightStreamer::compute_pending() {
    const Pending pending = std::exchange(pending_, {});
    const Group& group = *pending.part.group;
    if (group.bank != nullptr) return compute_on_device(pending);
    awaited_ = group.pinned;
    while (!awaited_.empty()) {
        HYPURA_TRY(await_piece(pending.part));
        collect_rows(group);
        HYPURA_TRY(compute_.compute(pending.node, rows_));
    }
    return {};
}

// Experts that a piece is worth beginning for: with few rows each is bound by reading its weights from memory, with
// many gathering rows and starting threads cost something.
size_t WeightStreamer::least_piece(const Group& group) {
    return group.ids.size() <= kFewRows ? 1 : (group.pinned.size() + kMostPieces - 1) / kMostPieces;
}

// Fills arrived_ with as many of the awaited experts as make a piece, and with what else has come meanwhile.
Status WeightStreamer::await_piece(const ExpertPart& part) {
    arrived_.assign(part.group->experts, 0);
    const size_t enough = awaited_.size() - std::min(awaited_.size(), least_piece(*part.group));
    HYPURA_TRY(cache_.poll());
    for (;;) {
        HYPURA_TRY(take_arrived(part));
        if (awaited_.size() <= enough) return {};
        HYPURA_TRY(cache_.wait_for_more());
    }
}

// Moves the experts whose slice is in memory from awaited_ to arrived_.
Status WeightStreamer::take_arrived(const ExpertPart& part) {
    size_t kept = 0;
    for (const residency::PageId page : awaited_) {
        HYPURA_ASSIGN(const bool here, cache_.has_slice(page, part.slice));
        if (here)
            arrived_[page - part.group->first_page] = 1;
        else
            awaited_[kept++] = page;
    }
    awaited_.resize(kept);
    return {};
}

// The routed rows of the experts that have arrived.
void WeightStreamer::collect_rows(const Group& group) {
    rows_.clear();
    const auto columns = static_cast<size_t>(group.index->ne[0]);
    for (size_t i = 0; i < group.ids.size(); ++i)
        if (arrived_[static_cast<size_t>(group.ids[i])] != 0)
            rows_.push_back({group.slots[i], static_cast<uint32_t>(i % columns), static_cast<uint32_t>(i / columns)});
}

// A group whose readers have all been asked about is computed: ask() for the nodes behind the cut comes later.
void WeightStreamer::release_finished_groups(bool all) {
    std::erase_if(active_groups_, [&](Group* group) {
        if (group->readers_left > 0 && !all) return false;
        if (std::exchange(group->batch, Batch::kFits) == Batch::kStaged) group->bank->staging()->end();
        cache_.release(group->pinned);
        group->pinned.clear();
        group->readers_left = 0;
        return true;
    });
}

// ---- rows and dense matrices ---------------------------------------------------------------------------------------

// libllama's graphs hold the inputs of tokens and of embeddings side by side, and compute those that were given.
bool WeightStreamer::bring_rows(const ggml_tensor* node) {
    if ((node->flags & GGML_TENSOR_FLAG_COMPUTE) == 0) return true;
    Status brought = rows_of_tables_->bring(node->src[0], node->src[1]);
    return brought ? true : give_up(std::move(brought));
}

storage::ReadCounters WeightStreamer::row_reads() const {
    return rows_of_tables_ == nullptr ? storage::ReadCounters{} : rows_of_tables_->counters();
}

// Waits for the matrix and points libllama's tensor at its slot; the cut after the node gives the slot back.
bool WeightStreamer::bring_dense(ggml_tensor* weight, const Dense& dense) {
    const std::span<const residency::PageId> page(&dense.page, 1);
    if (Status acquired = cache_.acquire(page); !acquired) return give_up(std::move(acquired));
    dense_pinned_.push_back(dense.page);
    if (Status loaded = cache_.wait(page); !loaded) return give_up(std::move(loaded));
    weight->data = cache_.slot_memory(dense.slot_class, cache_.slot_of(dense.page)) + dense.slot_offset;
    ++dense_next_;
    return true;
}

void WeightStreamer::release_dense() {
    cache_.release(dense_pinned_);
    dense_pinned_.clear();
}

// Starts the next reads of the cyclic scan, as far as slots are free. A class without a free slot is passed over: later
// matrices of another class may still go.
Status WeightStreamer::read_ahead() {
    const size_t reads = std::min(kMostReadAhead, dense_order_.size());
    uint64_t full_classes = 0;
    for (size_t i = 0; i < reads; ++i) {
        const Dense& dense = dense_order_[(dense_next_ + i) % dense_order_.size()];
        const uint64_t class_bit = uint64_t{1} << (dense.slot_class % 64);
        if ((full_classes & class_bit) != 0) continue;
        HYPURA_ASSIGN(const bool under_way, cache_.prefetch(dense.page));
        if (!under_way) full_classes |= class_bit;
    }
    return {};
}

}  // namespace hypura::engine

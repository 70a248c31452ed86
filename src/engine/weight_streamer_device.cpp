// The part of WeightStreamer that keeps experts in device slots, above the RAM slots and the file.
//
// A routing whose experts fit the group's device slots costs one cut of the graph: the absent ones are uploaded, slot
// numbers are written, and the layer runs on the device as libllama scheduled it. A batch that names more experts than
// that is computed on the device as well, node by node, by whole parts that are put together beside the slots
// (batch_staging.h). Where there is no room for these, in pieces: first by the experts that are there, then by the
// others as they pass through the staging memory. While the device computes a layer, what the next one will probably
// name is brought.
#include "base/check.h"
#include "engine/weight_streamer.h"

#include <algorithm>
#include <utility>

namespace hypura::engine {

// ---- what the router says ------------------------------------------------------------------------------------------

// Its numbers and, where somebody will look at it, what it saw: one wait for both. From a device one read of
// everything, gaps between rows included, is far cheaper than one a row.
Status WeightStreamer::fetch_routing(const Group& group, const ggml_tensor* ids, const ggml_tensor* input) {
    fetched_input_ = nullptr;
    const ggml_tensor* const ranking = whole_ranking(ids, group.experts);
    const ggml_tensor* const source = ranking != nullptr ? ranking : ids;
    if (group.bank == nullptr || is_on_host(ids)) {
        raw_ids_data_.resize(ggml_nbytes(source));
        ggml_backend_tensor_get(source, raw_ids_data_.data(), 0, raw_ids_data_.size());
        raw_ids_ = raw_ids_data_.data();
        return {};
    }
    DeviceStream& stream = group.bank->stream();
    HYPURA_ASSIGN(raw_ids_, stream.begin_read(source));
    const bool is_wanted = may_upload_ahead(group, ids) || lookahead_.wants_input(layer_of(group), cache_);
    if (input != nullptr && !is_on_host(input) && is_wanted) {
        HYPURA_ASSIGN(fetched_input_, stream.begin_read(input));
    }
    stream.wait();
    return {};
}

// Behind settle(): until then somebody may be reading what the last router saw. A copy where threads may read it: the
// graph goes on, and libllama uses that memory again.
void WeightStreamer::take_input(const Group& group, const ggml_tensor* input) {
    router_input_ = nullptr;
    if (input == nullptr) return;
    if (is_on_host(input) && group.bank == nullptr) {
        router_input_ = input;
        return;
    }
    const auto* const data = is_on_host(input) ? static_cast<const std::byte*>(input->data) : fetched_input_;
    if (data == nullptr) return;
    input_data_.assign(data, data + ggml_nbytes(input));
    host_input_->type = input->type;
    std::copy_n(input->ne, GGML_MAX_DIMS, host_input_->ne);
    std::copy_n(input->nb, GGML_MAX_DIMS, host_input_->nb);
    host_input_->data = input_data_.data();
    router_input_ = host_input_;
}

// ---- experts into device slots -------------------------------------------------------------------------------------

// Gives the routed experts device slots, as far as there are any.
Status WeightStreamer::place_on_device(Group& group, const ggml_tensor* ids) {
    if (!group.bank->assign(distinct_)) {
        sort_by_rows(group);
        return group.bank->staging() != nullptr ? stage_batch(group, ids) : place_pieces(group);
    }
    group.batch = Batch::kFits;
    group.index = group.bank->fill_index(ids, group.ids);
    list_uploads(group);
    upload_ahead(group, ids);
    HYPURA_TRY(bring_to_device(group));
    if (ahead_ != nullptr) ahead_->allow_writes();
    release_brought(group);
    return {};
}

// What is left of the experts that came ahead, and those that nobody foresaw, as far as they are in RAM slots.
void WeightStreamer::list_uploads(const Group& group) {
    uploads_.clear();
    awaited_.clear();
    if (ahead_ != nullptr) uploads_.assign_range(ahead_->rest());
    for (const DeviceBank::Arrival& arrival : group.bank->arrivals()) {
        const residency::PageId page = group.first_page + arrival.expert;
        if (!cache_.is_loaded(page)) {
            awaited_.push_back(page);
            continue;
        }
        for (size_t part = 0; part < cache_.page_spec(page).slices.size(); ++part)
            uploads_.push_back(group.bank->matrix(part, arrival.slot, cache_.slice_memory(page, part)));
    }
}

Status WeightStreamer::bring_to_device(Group& group) {
    if (uploads_.empty() && awaited_.empty()) return {};
    for (const DeviceWriter::Matrix& matrix : uploads_) begin_upload(group, matrix);
    Status uploaded = upload_awaited(group);
    group.bank->stream().wait();
    if (!uploaded) group.bank->undo_arrivals();
    return uploaded;
}

// Part by part, as the reads arrive; uploads run while later reads are under way.
Status WeightStreamer::upload_awaited(const Group& group) {
    HYPURA_TRY(cache_.poll());
    const size_t parts = cache_.page_spec(group.first_page).slices.size();
    for (size_t part = 0; part < parts; ++part) {
        for (const residency::PageId page : awaited_) {
            for (;;) {
                HYPURA_ASSIGN(const bool here, cache_.has_slice(page, part));
                if (here) break;
                HYPURA_TRY(cache_.wait_for_more());
            }
            const auto slot = static_cast<uint32_t>(group.bank->slot_of(page - group.first_page));
            begin_upload(group, group.bank->matrix(part, slot, cache_.slice_memory(page, part)));
        }
    }
    return {};
}

void WeightStreamer::begin_upload(const Group& group, const DeviceWriter::Matrix& matrix) {
    group.bank->stream().upload(matrix.tensor, matrix.offset, matrix.data, matrix.bytes);
    device_counters_.uploaded_bytes += matrix.bytes;
}

// What the device has now: everything but, of a batch in pieces, what no slot was free for.
void WeightStreamer::release_brought(Group& group) {
    if (ahead_ != nullptr) ahead_->finish();
    std::erase_if(group.pinned, [&](residency::PageId page) {
        if (group.bank->slot_of(page - group.first_page) < 0) return false;
        cache_.release(std::span(&page, 1));
        return true;
    });
}

// ---- experts of the next layer -------------------------------------------------------------------------------------

Status WeightStreamer::start_upload_ahead(uint32_t threads) {
    if (std::ranges::none_of(groups_, [&](const Group& group) { return uploads_ahead_of(group); })) return {};
    HYPURA_ASSIGN(ahead_, UploadAhead::create(writer_threads(threads)));
    return {};
}

// Whether the layer behind has device slots that experts come to, and both routers are known. Not where dense matrices
// are streamed, too: theirs may be the slots that threads are copying from, and they come and go between two routings.
bool WeightStreamer::uploads_ahead_of(const Group& group) const {
    const size_t next = layer_of(group) + 1;
    if (group.bank == nullptr || next >= groups_.size() || !dense_.empty()) return false;
    const Group& later = groups_[next];
    return later.bank != nullptr && later.bank->stream().writes_directly() && group.router.weight != nullptr &&
           later.router.weight != nullptr;
}

// Only for passes that name no more experts than there are slots. In pieces, what happens to be there is multiplied
// first, and the number of rows in a product may change its rounding: that must not depend on how far threads have
// come.
bool WeightStreamer::may_upload_ahead(const Group& group, const ggml_tensor* ids) const {
    return uploads_ahead_of(group) && ggml_nelements(ids) <= groups_[layer_of(group) + 1].bank->slots() &&
           ahead_->is_worth_asking();
}

// Before this routing, and not because it was foreseen.
bool WeightStreamer::was_on_device(const Group& group, uint32_t expert) const {
    return group.bank != nullptr && group.bank->slot_of(expert) >= 0 && !was_brought_ahead(group, expert);
}

bool WeightStreamer::was_brought_ahead(const Group& group, uint32_t expert) const {
    return ahead_ != nullptr && ahead_->has_brought(group.bank, expert);
}

void WeightStreamer::upload_ahead(const Group& group, const ggml_tensor* ids) {
    if (router_input_ == nullptr || !may_upload_ahead(group, ids)) return;
    const Group& later = groups_[layer_of(group) + 1];
    UploadAhead::Order order{.bank = later.bank,
                             .here = group.router,
                             .later = later.router,
                             .input = router_input_,
                             .top_k = static_cast<size_t>(ids->ne[0]),
                             .cache = &cache_,
                             .first_page = later.first_page};
    order.in_ram.resize(later.experts);
    for (uint32_t expert = 0; expert < later.experts; ++expert)
        if (const residency::PageId page = later.first_page + expert; cache_.is_loaded(page))
            order.in_ram[expert] = cache_.slot_memory(cache_.page_spec(page).slot_class, cache_.slot_of(page));
    ahead_->begin(std::move(order));
}

WeightStreamer::DeviceCounters WeightStreamer::device_counters() const {
    DeviceCounters counters = device_counters_;
    if (ahead_ != nullptr) counters.uploaded_bytes += ahead_->written_bytes();
    for (const BatchStaging* staging : stagings_) counters.uploaded_bytes += staging->uploaded_bytes();
    return counters;
}

// ---- batches that name more experts than slots --------------------------------------------------------------------

// Leaves in distinct_ what has no device slot, the experts that most rows go to first: they get slots that are free.
void WeightStreamer::sort_by_rows(const Group& group) {
    std::vector<uint32_t> rows(group.experts);
    for (const int32_t id : group.ids) ++rows[static_cast<size_t>(id)];
    std::erase_if(distinct_, [&](uint32_t expert) { return group.bank->slot_of(expert) >= 0; });
    std::ranges::stable_sort(distinct_, std::greater{}, [&](uint32_t expert) { return rows[expert]; });
}

// No experts came ahead: that is for batches that fit (may_upload_ahead).
Status WeightStreamer::stage_batch(Group& group, const ggml_tensor* ids) {
    HYPURA_CHECK(ahead_ == nullptr || ahead_->rest().empty());
    group.batch = Batch::kStaged;
    ++device_counters_.batches_staged;
    BatchStaging& staging = *group.bank->staging();
    HYPURA_TRY(staging.begin({group.bank, group.first_page}, staged_next(group), cache_, distinct_));
    group.index = staging.fill_index(ids, group.ids);
    return {};
}

// The next layer, if it is likely to name nearly all of its experts, as this one did.
BatchStaging::Layer WeightStreamer::staged_next(const Group& group) const {
    const size_t next = layer_of(group) + 1;
    if (next == groups_.size()) return {};
    DeviceBank* const bank = groups_[next].bank;
    if (bank == nullptr || bank->staging() != group.bank->staging()) return {};
    const auto named = static_cast<size_t>(std::ranges::count(seen_, uint8_t{1}));
    if (named * 8 < size_t{group.experts} * 7) return {};
    return {bank, groups_[next].first_page};
}

Status WeightStreamer::place_pieces(Group& group) {
    group.batch = Batch::kInPieces;
    ++device_counters_.batches_in_pieces;
    group.bank->assign_free(distinct_);
    list_uploads(group);
    HYPURA_TRY(bring_to_device(group));
    release_brought(group);
    return {};
}

// Where the node runs on another device than the router, it reads a copy of the ids.
bool WeightStreamer::is_routing(const Group& group, const ggml_tensor* ids) const {
    if (group.readers_left == 0) return false;
    return ids == group.routed_by || (is_copy(ids) && original_name(ids) == group.routed_by->name);
}

// True: computed() has something to do behind it.
bool WeightStreamer::redirect_on_device(ggml_tensor* node, const ExpertPart& part) {
    const Group& group = *part.group;
    if (group.batch == Batch::kFits) {
        change(node, group.index, node->op);
        return false;
    }
    if (group.batch == Batch::kInPieces)
        change(node, node->src[2], GGML_OP_NONE);
    else if (!redirect_to_staging(node, part))
        return skip(node);
    pending_ = {node, part};
    return true;
}

bool WeightStreamer::redirect_to_staging(ggml_tensor* node, const ExpertPart& part) {
    Result<ggml_tensor*> weight = part.group->bank->staging()->bring(part.slice);
    if (!weight) return give_up(std::unexpected(std::move(weight).error()));
    change(node, *weight, part.group->index, node->op);
    return true;
}

Status WeightStreamer::compute_on_device(const Pending& pending) {
    const Group& group = *pending.part.group;
    if (group.batch == Batch::kStaged) return group.bank->staging()->release(pending.part.slice);
    collect_rows_on_device(group);
    HYPURA_TRY(group.bank->stream().multiply(pending.node, group.bank->tensor(pending.part.slice), rows_));
    awaited_ = group.pinned;
    while (!awaited_.empty()) {
        HYPURA_TRY(await_piece(pending.part));
        HYPURA_TRY(multiply_arrived(pending));
    }
    return {};
}

// As many experts at a time as the staging memory holds.
Status WeightStreamer::multiply_arrived(const Pending& pending) {
    const Group& group = *pending.part.group;
    DeviceStream& stream = group.bank->stream();
    const uint64_t bytes = group.bank->matrix_bytes(pending.part.slice);
    HYPURA_ASSIGN(ggml_tensor* const staging, stream.staging_like(pending.node->src[0], bytes));
    const auto columns = static_cast<size_t>(group.routed_by->ne[0]);
    for (uint32_t expert = 0; expert < group.experts;) {
        staging_slot_.assign(group.experts, -1);
        for (int32_t slot = 0; expert < group.experts && slot < staging->ne[2]; ++expert) {
            if (arrived_[expert] == 0) continue;
            staging_slot_[expert] = slot;
            stream.upload(staging, bytes * static_cast<uint64_t>(slot),
                          cache_.slice_memory(group.first_page + expert, pending.part.slice), bytes);
            device_counters_.uploaded_bytes += bytes;
            ++slot;
        }
        stream.wait();
        rows_.clear();
        for (size_t i = 0; i < group.ids.size(); ++i)
            if (const int32_t slot = staging_slot_[static_cast<size_t>(group.ids[i])]; slot >= 0)
                rows_.push_back({slot, static_cast<uint32_t>(i % columns), static_cast<uint32_t>(i / columns)});
        HYPURA_TRY(stream.multiply(pending.node, staging, rows_));
    }
    return {};
}

// The routed rows whose expert has a device slot.
void WeightStreamer::collect_rows_on_device(const Group& group) {
    rows_.clear();
    const auto columns = static_cast<size_t>(group.routed_by->ne[0]);
    for (size_t i = 0; i < group.ids.size(); ++i)
        if (const int32_t slot = group.bank->slot_of(static_cast<uint32_t>(group.ids[i])); slot >= 0)
            rows_.push_back({slot, static_cast<uint32_t>(i % columns), static_cast<uint32_t>(i / columns)});
}

}  // namespace hypura::engine

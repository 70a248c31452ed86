#include "engine/batch_staging.h"

#include <algorithm>
#include <utility>

namespace hypura::engine {
namespace {

// Kernels may look behind the last row of a quantised tensor: half of that would do for any type.
constexpr uint64_t kSlackBytes = 4096;

}  // namespace

Result<std::unique_ptr<BatchStaging>> BatchStaging::create(const DeviceStream& stream, uint64_t part_bytes,
                                                           uint32_t writers) {
    std::unique_ptr<BatchStaging> staging(new BatchStaging());
    HYPURA_ASSIGN(staging->queue_, UploadQueue::create(stream.device(), stream.writes_directly() ? writers : 0));
    staging->context_.reset(ggml_init({.mem_size = ggml_tensor_overhead() * 5, .no_alloc = true}));
    for (Buffer& buffer : staging->buffers_) {
        HYPURA_ASSIGN(buffer.memory, stream.allocate(part_bytes + kSlackBytes));
        buffer.all = ggml_new_tensor_3d(staging->context_.get(), GGML_TYPE_I8, 1, 1, 1);
        buffer.head = ggml_new_tensor_3d(staging->context_.get(), GGML_TYPE_I8, 1, 1, 1);
    }
    return staging;
}

// ---- routings ------------------------------------------------------------------------------------------------------

Status BatchStaging::begin(const Layer& layer, const Layer& later, residency::SlotCache& cache,
                           std::span<const uint32_t> wanted) {
    if (current_.layer.bank != nullptr)
        return fail(ErrorCode::kUnsupportedModel, "{}: two layers' experts are in hand at once; use --device none",
                    layer.bank->tensor(0)->name);
    cache_ = &cache;
    if (upcoming_.layer.bank == layer.bank) {
        HYPURA_TRY(adopt_guess(wanted));
    } else {
        drop(upcoming_);
        current_ = {.layer = layer};
        place(current_, wanted);
    }
    guess(later);
    return fill_free_buffers();
}

// Into free slots first; the others lie behind all slots.
void BatchStaging::place(Routing& routing, std::span<const uint32_t> wanted) {
    DeviceBank& bank = *routing.layer.bank;
    bank.assign_free(wanted);
    routing.fills_slots = !bank.arrivals().empty();
    routing.is_brought.resize(cache_->page_spec(routing.layer.first_page).slices.size());
    routing.matrices = bank.slots();
    for (const uint32_t expert : wanted) {
        const int32_t slot = bank.slot_of(expert);
        routing.places.push_back({expert, slot >= 0 ? static_cast<uint32_t>(slot) : routing.matrices++});
    }
}

// All that is in RAM slots and not on the device. Not where slots are free: who gets them is for the routing to say.
void BatchStaging::guess(const Layer& layer) {
    if (layer.bank == nullptr || layer.bank->has_free_slots()) return;
    upcoming_ = {.layer = layer};
    std::vector<uint32_t> likely;
    for (uint32_t expert = 0; expert < layer.bank->experts(); ++expert)
        if (layer.bank->slot_of(expert) < 0 && cache_->is_loaded(layer.first_page + expert)) likely.push_back(expert);
    place(upcoming_, likely);
}

// What is wanted keeps its place. The rest lies behind all that was guessed; guesses that were wrong leave gaps.
Status BatchStaging::adopt_guess(std::span<const uint32_t> wanted) {
    const std::vector<Place> guessed = std::move(upcoming_.places);
    current_ = std::exchange(upcoming_, {});
    current_.places.clear();
    std::vector<uint8_t> is_new(current_.layer.bank->experts());
    for (const uint32_t expert : wanted) is_new[expert] = 1;
    std::vector<size_t> kept;
    for (size_t i = 0; i < guessed.size(); ++i)
        if (std::exchange(is_new[guessed[i].expert], uint8_t{0}) != 0) kept.push_back(i);
    for (const size_t i : kept) current_.places.push_back(guessed[i]);
    for (const uint32_t expert : wanted)
        if (is_new[expert] != 0) current_.places.push_back({expert, current_.matrices++});
    for (Buffer& buffer : buffers_)
        if (buffer.routing == &upcoming_) HYPURA_TRY(adopt(buffer, kept));
    return {};
}

Status BatchStaging::adopt(Buffer& buffer, std::span<const size_t> kept) {
    std::vector<UploadQueue::Ticket> uploads(current_.places.size());
    for (size_t i = 0; i < kept.size(); ++i) uploads[i] = buffer.uploads[kept[i]];
    buffer.routing = &current_;
    buffer.uploads_left = static_cast<size_t>(std::ranges::count(uploads, UploadQueue::Ticket{0}));
    buffer.uploads = std::move(uploads);
    return shape(buffer);
}

ggml_tensor* BatchStaging::fill_index(const ggml_tensor* ids, std::span<const int32_t> experts) {
    DeviceBank& bank = *current_.layer.bank;
    std::vector<int32_t> matrix_of(bank.experts());
    for (uint32_t expert = 0; expert < bank.experts(); ++expert) matrix_of[expert] = bank.slot_of(expert);
    for (const Place& place : current_.places) matrix_of[place.expert] = static_cast<int32_t>(place.matrix);
    return bank.fill_index(ids, experts, matrix_of);
}

void BatchStaging::end() {
    for (const Buffer& buffer : buffers_)
        if (buffer.routing == &current_) (void)queue_->wait(buffer.last);
    if (current_.fills_slots && std::ranges::contains(current_.is_brought, 0)) current_.layer.bank->undo_arrivals();
    drop(current_);
}

void BatchStaging::settle() {
    if (upcoming_.layer.bank == nullptr) return;
    const std::vector<UploadQueue::Ticket> recalled = queue_->recall();
    const auto has_come = [&](UploadQueue::Ticket ticket) { return !std::ranges::binary_search(recalled, ticket); };
    for (Buffer& buffer : buffers_) {
        if (buffer.routing != &upcoming_) continue;
        for (UploadQueue::Ticket& upload : buffer.uploads) upload = has_come(upload) ? upload : 0;
        buffer.copy = has_come(buffer.copy) ? buffer.copy : 0;
    }
}

void BatchStaging::abandon() {
    settle();
    drop(upcoming_);
}

void BatchStaging::drop(Routing& routing) {
    for (Buffer& buffer : buffers_)
        if (buffer.routing == &routing) buffer.routing = nullptr;
    routing = {};
}

// ---- parts ---------------------------------------------------------------------------------------------------------

Result<ggml_tensor*> BatchStaging::bring(size_t part) {
    HYPURA_ASSIGN(Buffer* const buffer, buffer_for(part));
    for (;;) {
        HYPURA_TRY(cache_->poll());
        for (Buffer& each : buffers_) HYPURA_TRY(push_arrived(each));
        if (buffer->uploads_left == 0) break;
        HYPURA_TRY(cache_->wait_for_more());
    }
    HYPURA_TRY(queue_->wait(buffer->last));
    current_.is_brought[part] = 1;
    return buffer->all;
}

Status BatchStaging::release(size_t part) {
    HYPURA_ASSIGN(Buffer* const buffer, buffer_for(part));
    buffer->routing = nullptr;
    return fill_free_buffers();
}

// Parts are numbered as a graph reads them. One that reads them in another order, or twice, costs an upload more.
Result<BatchStaging::Buffer*> BatchStaging::buffer_for(size_t part) {
    const auto found = std::ranges::find_if(
        buffers_, [&](const Buffer& buffer) { return buffer.routing == &current_ && buffer.part == part; });
    if (found != buffers_.end()) return &*found;
    Buffer& buffer = buffers_.front();
    HYPURA_TRY(queue_->wait(buffer.last));
    HYPURA_TRY(fill(buffer, current_, part));
    return &buffer;
}

Status BatchStaging::fill_free_buffers() {
    HYPURA_TRY(cache_->poll());
    for (Buffer& buffer : buffers_) {
        if (buffer.routing == nullptr)
            if (Routing* const routing = next_routing(); routing != nullptr)
                HYPURA_TRY(fill(buffer, *routing, routing->next_part++));
        HYPURA_TRY(push_arrived(buffer));
    }
    return {};
}

BatchStaging::Routing* BatchStaging::next_routing() {
    for (Routing* routing : {&current_, &upcoming_})
        if (routing->layer.bank != nullptr && routing->next_part < routing->is_brought.size()) return routing;
    return nullptr;
}

Status BatchStaging::fill(Buffer& buffer, Routing& routing, size_t part) {
    buffer.routing = &routing;
    buffer.part = part;
    buffer.uploads.assign(routing.places.size(), 0);
    buffer.uploads_left = routing.places.size();
    buffer.copy = 0;
    return shape(buffer);
}

Status BatchStaging::shape(Buffer& buffer) const {
    const DeviceBank& bank = *buffer.routing->layer.bank;
    const ggml_tensor& weight = *bank.tensor(buffer.part);
    const uint64_t bytes = bank.matrix_bytes(buffer.part);
    HYPURA_TRY(lay_over(buffer.memory.get(), weight, bytes, bank.slots(), *buffer.head));
    return lay_over(buffer.memory.get(), weight, bytes, buffer.routing->matrices, *buffer.all);
}

// What has come into RAM slots; when all has, the bank's slots behind it, the new experts among them.
Status BatchStaging::push_arrived(Buffer& buffer) {
    if (buffer.routing == nullptr) return {};
    const Routing& routing = *buffer.routing;
    for (size_t i = 0; i < routing.places.size(); ++i) {
        if (buffer.uploads[i] != 0) continue;
        HYPURA_ASSIGN(const bool here,
                      cache_->has_slice(routing.layer.first_page + routing.places[i].expert, buffer.part));
        if (here) push(buffer, i);
    }
    if (buffer.uploads_left == 0 && buffer.copy == 0)
        buffer.copy = buffer.last = queue_->push({.to = buffer.head, .from = routing.layer.bank->tensor(buffer.part)});
    return {};
}

void BatchStaging::push(Buffer& buffer, size_t place) {
    const auto [expert, matrix] = buffer.routing->places[place];
    const DeviceBank& bank = *buffer.routing->layer.bank;
    const residency::PageId page = buffer.routing->layer.first_page + expert;
    const uint64_t bytes = bank.matrix_bytes(buffer.part);
    buffer.uploads[place] = buffer.last =
        queue_->push({.to = matrix < bank.slots() ? bank.tensor(buffer.part) : buffer.all,
                      .offset = bytes * matrix,
                      .data = cache_->slice_memory(page, buffer.part),
                      .bytes = bytes});
    uploaded_bytes_ += bytes;
    --buffer.uploads_left;
}

}  // namespace hypura::engine

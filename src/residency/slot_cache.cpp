#include "residency/slot_cache.h"

#include "base/check.h"
#include "base/clock.h"

#include <algorithm>
#include <utility>

namespace hypura::residency {
namespace {

// A read's tag: the page in the low half, the slice above it.
constexpr unsigned kTagSliceShift = 32;
uint64_t read_tag(PageId page, size_t slice) { return page | uint64_t{slice} << kTagSliceShift; }

constexpr size_t kManyReads = 16;  // under way: guesses wait for them; five experts

Result<std::vector<MemoryRegion>> one_piece(const SlotClassSpec& spec) {
    HYPURA_ASSIGN(MemoryRegion memory, MemoryRegion::reserve(spec.stride_bytes * spec.slots));
    memory.advise_huge_pages(0, memory.size_bytes());
    std::vector<MemoryRegion> pieces;
    pieces.push_back(std::move(memory));
    return pieces;
}

uint32_t slots_of_a_piece(const SlotClassSpec& spec, const SlotMemory& memory) {
    return static_cast<uint32_t>(std::max<uint64_t>(memory.piece_bytes / spec.stride_bytes, 1));
}

Result<std::vector<MemoryRegion>> pieces_of(const SlotClassSpec& spec, const SlotMemory& memory) {
    std::vector<MemoryRegion> pieces;
    const uint32_t most = slots_of_a_piece(spec, memory);
    for (uint32_t slots = 0; slots < spec.slots; slots += most) {
        HYPURA_ASSIGN(MemoryRegion piece, memory.allocate(spec.stride_bytes * std::min(most, spec.slots - slots)));
        pieces.push_back(std::move(piece));
    }
    return pieces;
}

std::vector<UseForecast::PagePlace> places_of(const std::vector<PageSpec>& pages) {
    std::vector<UseForecast::PagePlace> places;
    places.reserve(pages.size());
    for (const PageSpec& page : pages) places.push_back({page.slot_class, page.group, page.expert >= 0});
    return places;
}

}  // namespace

Result<SlotCache> SlotCache::create(const std::vector<SlotClassSpec>& classes, std::vector<PageSpec> pages,
                                    storage::BlockReader& reader, const SlotMemory& memory) {
    SlotCache cache(std::move(pages), reader);
    for (const SlotClassSpec& spec : classes) HYPURA_TRY(cache.add_class(spec, memory));
    if (!memory.allocate) cache.commit_in_background();
    return cache;
}

// In the order in which slots are first taken.
void SlotCache::commit_in_background() {
    std::vector<std::span<std::byte>> pieces;
    for (const SlotClass& slots : classes_)
        for (const MemoryRegion& memory : slots.memory) pieces.emplace_back(memory.data(), memory.size_bytes());
    commit_ = BackgroundCommit(std::move(pieces));
}

SlotCache::SlotCache(std::vector<PageSpec> pages, storage::BlockReader& reader)
    : reader_(&reader), forecast_(places_of(pages)) {
    pages_.reserve(pages.size());
    for (PageSpec& spec : pages) {
        evictions_by_group_.resize(std::max<size_t>(evictions_by_group_.size(), spec.group + 1));
        HYPURA_CHECK(spec.slices.size() <= kMostSlices);
        Page& page = pages_.emplace_back();
        page.spec = std::move(spec);
        page.older = page.newer = static_cast<PageId>(pages_.size() - 1);
    }
}

void SlotCache::WaitForReads::operator()(storage::BlockReader* reader) const {
    std::vector<storage::BlockCompletion> ignored;
    while (reader->outstanding() > 0 && reader->collect(ignored, true)) {
    }
}

Status SlotCache::add_class(const SlotClassSpec& spec, const SlotMemory& memory) {
    HYPURA_ASSIGN(auto pieces, memory.allocate ? pieces_of(spec, memory) : one_piece(spec));
    const auto sentinel = static_cast<PageId>(pages_.size());
    pages_.emplace_back();
    pages_[sentinel].older = pages_[sentinel].newer = sentinel;
    const uint32_t slots_a_piece = memory.allocate ? slots_of_a_piece(spec, memory) : std::max(spec.slots, 1U);
    SlotClass& added = classes_.emplace_back(SlotClass{spec, std::move(pieces), slots_a_piece, {}, sentinel});
    for (SlotIndex slot = spec.slots; slot-- > 0;) added.free_slots.push_back(slot);
    return {};
}

// ---- what callers ask for ------------------------------------------------------------------------------------------

void SlotCache::begin_pass(uint32_t tokens) {
    if (observer_ != nullptr) observer_->pass_begins(tokens);
    forecast_.begin_pass(tokens);
}

// All are pinned before any is loaded: a page that is here must not leave for another one of the same call.
//
// Reads of guesses begin behind those that are under way, if these are many: what they bring, among it what was guessed
// earlier and is demanded by now, would otherwise share the disk with what nobody waits for yet. Measured with a disk
// as slow as the arithmetic, a prompt of 512: waits of 5.3 -> 3.5 ms a token. Behind few, the disk would only be idle
// between the two.
Status SlotCache::acquire(std::span<const PageId> pages, std::span<const PageId> guesses,
                          const LayerStandings& standings) {
    HYPURA_TRY(drain(false));
    missing_.clear();
    found_.clear();
    forecast_.demand(pages, standings);
    for (PageId id : pages) found_.push_back(pin(id));
    if (observer_ != nullptr) observer_->acquired(pages, found_, standings);
    if (Status loading = load_missing(); !loading) {
        release(pages);
        return loading;
    }
    const size_t first_guess = reads_.size();
    promise(guesses);
    if (reads_.size() > first_guess) reads_[first_guess].behind = reader_->outstanding() >= kManyReads;
    return submit_reads();
}

Found SlotCache::pin(PageId id) {
    Page& page = pages_[id];
    Found found = Found::kMiss;
    if (page.state != PageState::kAbsent) {
        const bool loaded = page.state == PageState::kLoaded;
        found = !loaded ? Found::kWait : page.promised ? Found::kPrefetched : Found::kHit;
        ++(loaded ? counters_.hits : counters_.joined);
        counters_.prefetch_used += page.promised ? 1 : 0;
        if (page.pins == 0) unlink(id);
    } else if (!std::ranges::contains(missing_, id)) {
        missing_.push_back(id);
    }
    ++counters_.demands;
    ++page.pins;
    page.promised = false;
    page.withdrawn = false;
    note_may_leave(id);
    return found;
}

// No read starts before every page has its slot: a call that cannot be honoured changes nothing.
Status SlotCache::load_missing() {
    if (Status found = find_slots(); !found) {
        for (PageId id : missing_)
            if (pages_[id].slot != kNoSlot) drop(id);
        return found;
    }
    start_load(missing_);
    return {};
}

Status SlotCache::find_slots() {
    for (PageId id : missing_) HYPURA_TRY(wait_for_slot(id));
    return {};
}

Status SlotCache::wait(std::span<const PageId> pages) {
    const ScopeTimer timer(counters_.wait_us);
    for (PageId id : pages) {
        while (pages_[id].state == PageState::kLoading) HYPURA_TRY(drain(true));
        if (pages_[id].state == PageState::kAbsent) return pages_[id].failure;
    }
    return {};
}

Result<bool> SlotCache::has_slice(PageId id, size_t slice) const {
    const Page& page = pages_[id];
    if (!page.failure) return std::unexpected(page.failure.error());
    return page.state == PageState::kLoaded || (page.slices_here >> slice & 1U) != 0;
}

Status SlotCache::wait_for_more() {
    const ScopeTimer timer(counters_.wait_us);
    return drain(true);
}

void SlotCache::release(std::span<const PageId> pages) {
    for (PageId id : pages) {
        Page& page = pages_[id];
        HYPURA_CHECK(page.pins > 0);
        if (--page.pins == 0 && page.state != PageState::kAbsent) link_newest(id);
        note_may_leave(id);
    }
}

Result<bool> SlotCache::prefetch(PageId id) {
    if (pages_[id].state != PageState::kAbsent) return true;
    HYPURA_TRY(drain(false));
    promise({&id, 1});
    HYPURA_TRY(submit_reads());
    return pages_[id].state != PageState::kAbsent;
}

// As far as slots can be had. The first slices of all come first, as with demands.
void SlotCache::promise(std::span<const PageId> guesses) {
    promised_.clear();
    for (PageId id : guesses)
        if (pages_[id].state == PageState::kAbsent && pages_[id].pins == 0 && take_slot(id, false)) {
            pages_[id].state = PageState::kLoading;  // named twice, it is taken once
            promised_.push_back(id);
        }
    start_load(promised_);
    for (PageId id : promised_) {
        link_newest(id);
        pages_[id].promised = true;
        ++counters_.prefetches;
        if (observer_ != nullptr) observer_->prefetched(id);
    }
}

void SlotCache::withdraw(std::span<const PageId> pages) {
    for (PageId id : pages) {
        Page& page = pages_[id];
        if (!std::exchange(page.promised, false)) continue;
        ++counters_.prefetch_wasted;
        page.withdrawn = true;
        if (page.state == PageState::kLoaded) let_go(id);
    }
}

// Only now, with its read ended, does it matter to the policy that nobody waits for the page.
void SlotCache::let_go(PageId id) {
    pages_[id].withdrawn = false;
    note_may_leave(id);
    if (observer_ != nullptr) observer_->withdrawn(id);
}

std::byte* SlotCache::slice_memory(PageId page, size_t slice) const {
    const PageSpec& spec = pages_[page].spec;
    return slot_memory(spec.slot_class, pages_[page].slot) + spec.slices[slice].slot_offset;
}

std::byte* SlotCache::slot_memory(uint32_t slot_class, SlotIndex slot) const {
    const SlotClass& owner = classes_[slot_class];
    const MemoryRegion& piece = owner.memory[slot / owner.slots_a_piece];
    return piece.data() + owner.spec.stride_bytes * (slot % owner.slots_a_piece);
}

std::byte* SlotCache::class_memory(uint32_t slot_class) const {
    const SlotClass& owner = classes_[slot_class];
    HYPURA_CHECK(owner.memory.size() <= 1);
    return owner.memory.empty() ? nullptr : owner.memory.front().data();
}

uint64_t SlotCache::memory_bytes() const {
    uint64_t total = 0;
    for (const SlotClass& slot_class : classes_)
        for (const MemoryRegion& piece : slot_class.memory) total += piece.size_bytes();
    return total;
}

// ---- loading -------------------------------------------------------------------------------------------------------

// A demand outranks promises: where they hold every slot, even ones whose reads are still in flight, one of them
// yields.
Status SlotCache::wait_for_slot(PageId id) {
    while (!take_slot(id, true)) {
        if (reader_->outstanding() == 0)
            return fail(ErrorCode::kBudgetTooSmall,
                        "every slot for {} is in use by the pass in hand; use a larger --ram or a smaller --batch",
                        pages_[id].spec.slices.front().what);
        HYPURA_TRY(drain(true));
    }
    return {};
}

// Queues the pages' reads into the slots that they have been given, slice by slice.
void SlotCache::start_load(std::span<const PageId> pages) {
    size_t most_slices = 0;
    for (PageId id : pages) most_slices = std::max(most_slices, pages_[id].spec.slices.size());
    for (size_t slice = 0; slice < most_slices; ++slice)
        for (PageId id : pages) queue_slice(id, slice);
    for (PageId id : pages) {
        Page& page = pages_[id];
        page.state = PageState::kLoading;
        page.failure = {};
        page.slices_left = static_cast<uint16_t>(page.spec.slices.size());
        page.slices_here = 0;
    }
}

Status SlotCache::submit_reads() {
    if (reads_.empty()) return {};
    Status submitted = reader_->submit(reads_);
    reads_.clear();
    return submitted;
}

void SlotCache::queue_slice(PageId id, size_t index) {
    const PageSpec& spec = pages_[id].spec;
    if (index >= spec.slices.size()) return;
    const SliceSpec& slice = spec.slices[index];
    reads_.push_back({slice.file, slice.offset, slice.bytes, slice_memory(id, index), read_tag(id, index), slice.what});
}

// Collects finished reads; with `block`, waits for at least one.
Status SlotCache::drain(bool block) {
    completions_.clear();
    HYPURA_TRY(reader_->collect(completions_, block));
    for (const storage::BlockCompletion& completion : completions_) finish_slice(completion);
    return {};
}

void SlotCache::finish_slice(const storage::BlockCompletion& completion) {
    const auto id = static_cast<PageId>(completion.tag);
    Page& page = pages_[id];
    HYPURA_CHECK(page.state == PageState::kLoading && page.slices_left > 0);
    if (completion.status)
        page.slices_here |= 1U << (completion.tag >> kTagSliceShift);
    else if (page.failure)
        page.failure = completion.status;
    if (--page.slices_left == 0) finish_load(id);
}

void SlotCache::finish_load(PageId id) {
    if (!pages_[id].failure) return drop(id);
    pages_[id].state = PageState::kLoaded;
    pages_[id].withdrawn ? let_go(id) : note_may_leave(id);
}

// ---- replacement ---------------------------------------------------------------------------------------------------

bool SlotCache::take_slot(PageId id, bool for_demand) {
    SlotClass& slot_class = classes_[pages_[id].spec.slot_class];
    if (slot_class.free_slots.empty()) {
        const PageId victim = find_victim(id, for_demand);
        if (victim == slot_class.list_head) return false;
        evict(victim);
    }
    pages_[id].slot = slot_class.free_slots.back();
    slot_class.free_slots.pop_back();
    return true;
}

// The page without a promise that the class's policy gives up; for a demand, failing that, the latest promise. A guess
// gets no slot of a page that is needed before it.
PageId SlotCache::find_victim(PageId wanted, bool for_demand) {
    const uint32_t slot_class = pages_[wanted].spec.slot_class;
    const PageId end = classes_[slot_class].list_head;
    const auto last_expected = [&] {
        return for_demand ? forecast_.last_expected(slot_class) : forecast_.last_expected_after(wanted);
    };
    const PageId victim = forecast_.has_class(slot_class) ? last_expected().value_or(end) : oldest(slot_class);
    if (victim != end || !for_demand) return victim;
    for (PageId id = pages_[end].older; id != end; id = pages_[id].older)
        if (pages_[id].state == PageState::kLoaded && pages_[id].promised) return id;
    return end;
}

PageId SlotCache::oldest(uint32_t slot_class) const {
    PageId id = pages_[classes_[slot_class].list_head].newer;
    while (id != classes_[slot_class].list_head && !may_leave(pages_[id])) id = pages_[id].newer;
    return id;
}

void SlotCache::evict(PageId id) {
    ++counters_.evictions;
    ++evictions_by_group_[pages_[id].spec.group];
    counters_.prefetch_wasted += pages_[id].promised ? 1 : 0;
    drop(id);
}

// Gives the page's slot back.
void SlotCache::drop(PageId id) {
    Page& page = pages_[id];
    if (page.newer != id) unlink(id);
    classes_[page.spec.slot_class].free_slots.push_back(page.slot);
    page.slot = kNoSlot;
    page.promised = page.withdrawn = false;
    page.state = PageState::kAbsent;
    note_may_leave(id);
}

// ---- the list of unpinned pages, least recently used first ---------------------------------------------------------

void SlotCache::link_newest(PageId id) {
    const PageId end = classes_[pages_[id].spec.slot_class].list_head;
    const PageId newest = pages_[end].older;
    pages_[id].older = newest;
    pages_[id].newer = end;
    pages_[newest].newer = id;
    pages_[end].older = id;
}

void SlotCache::unlink(PageId id) {
    Page& page = pages_[id];
    pages_[page.older].newer = page.newer;
    pages_[page.newer].older = page.older;
    page.older = page.newer = id;
}

}  // namespace hypura::residency

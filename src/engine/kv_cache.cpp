#include "engine/kv_cache.h"

#include "base/check.h"

#include <llama.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace hypura::engine {

uint32_t common_beginning(std::span<const Token> a, std::span<const Token> b) {
    return static_cast<uint32_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

CellPool::CellPool(uint32_t cells) : holders_(cells, 0), free_(cells) { std::iota(free_.rbegin(), free_.rend(), 0U); }

uint32_t CellPool::take() {
    HYPURA_CHECK(!free_.empty());
    const uint32_t cell = free_.back();
    free_.pop_back();
    holders_[cell] = 1;
    return cell;
}

void CellPool::release(uint32_t cell) {
    if (--holders_[cell] == 0) free_.push_back(cell);
}

KvCache::KvCache(llama_context& context, bool can_cut, bool keep)
    : context_(context),
      can_cut_(can_cut),
      keep_(keep),
      cells_(llama_n_ctx(&context)),
      slots_(llama_n_seq_max(&context)) {
    llama_memory_clear(llama_get_memory(&context_), true);
}

KvCache::~KvCache() { llama_memory_clear(llama_get_memory(&context_), true); }

// ---- starting ------------------------------------------------------------------------------------------------------

std::optional<KvCache::Start> KvCache::start(std::span<const Token> prompt) {
    const Match found = match(prompt);
    const bool whole =
        found.slot && slots_[*found.slot].use == Use::kKept && slots_[*found.slot].tokens.size() == found.tokens;
    const std::optional<SlotId> slot = whole ? found.slot : unused_slot(found.slot);
    if (!slot) return std::nullopt;
    if (found.slot && *slot != *found.slot) copy(*found.slot, *slot);
    run(*slot);
    cut(*slot, found.tokens);
    const auto reused = static_cast<uint32_t>(slots_[*slot].tokens.size());
    return Start{*slot, reused, found.tokens + found.refused - reused};
}

// The last token of a prompt is never reused: its logits are wanted.
KvCache::Match KvCache::match(std::span<const Token> prompt) const {
    const std::span<const Token> reusable = prompt.first(prompt.empty() ? 0 : prompt.size() - 1);
    Match best;
    uint32_t longest = 0;
    for (SlotId slot = 0; slot < slots_.size(); ++slot) {
        const uint32_t common = common_beginning(slots_[slot].tokens, reusable);
        longest = std::max(longest, common);
        const bool usable = can_cut_ || common == slots_[slot].tokens.size();
        if (usable && common > best.tokens) best = {slot, common, 0};
    }
    best.refused = longest - best.tokens;
    return best;
}

// The one that has most in common with `tokens`, however it goes on.
std::optional<KvCache::SlotId> KvCache::longest_timeline(std::span<const Token> tokens) const {
    std::optional<SlotId> best;
    uint32_t longest = 0;
    for (SlotId slot = 0; slot < slots_.size(); ++slot) {
        const uint32_t common = common_beginning(slots_[slot].tokens, tokens);
        if (common <= longest) continue;
        best = slot;
        longest = common;
    }
    return best;
}

uint32_t KvCache::longest_match(std::span<const Token> prompt) const { return match(prompt).tokens; }

// A free slot, else the least recently used kept one: `spared` only if there is no other.
std::optional<KvCache::SlotId> KvCache::unused_slot(std::optional<SlotId> spared) {
    for (SlotId slot = 0; slot < slots_.size(); ++slot)
        if (slots_[slot].use == Use::kFree) return slot;
    const std::optional<SlotId> oldest = oldest_kept(spared);
    if (oldest) evict(*oldest);
    if (oldest) return oldest;
    return spared && slots_[*spared].use == Use::kKept ? spared : std::nullopt;
}

std::optional<KvCache::SlotId> KvCache::oldest_kept(std::optional<SlotId> spared) const {
    std::optional<SlotId> oldest;
    for (SlotId slot = 0; slot < slots_.size(); ++slot) {
        if (slots_[slot].use != Use::kKept || slot == spared) continue;
        if (!oldest || slots_[slot].used_at < slots_[*oldest].used_at) oldest = slot;
    }
    return oldest;
}

// The whole timeline, since recurrent state cannot be copied in part; cut() follows.
void KvCache::copy(SlotId from, SlotId to) {
    llama_memory_seq_cp(llama_get_memory(&context_), sequence(from), sequence(to), -1, -1);
    slots_[to].tokens = slots_[from].tokens;
    slots_[to].cells = slots_[from].cells;
    for (const uint32_t cell : slots_[to].cells) cells_.share(cell);
    slots_[from].used_at = ++clock_;
}

void KvCache::run(SlotId slot) {
    slots_[slot].use = Use::kRunning;
    slots_[slot].used_at = ++clock_;
}

// ---- room ----------------------------------------------------------------------------------------------------------

bool KvCache::fits(std::span<const Token> prompt, uint64_t spare_tokens) const {
    std::vector<bool> held(cells_.size());
    uint32_t shared_with_running = 0;
    for (const Slot& slot : slots_) {
        if (slot.use != Use::kRunning) continue;
        for (const uint32_t cell : slot.cells) held[cell] = true;
        if (can_cut_) shared_with_running = std::max(shared_with_running, common_beginning(slot.tokens, prompt));
    }
    const auto running = static_cast<uint64_t>(std::ranges::count(held, true));
    return running + prompt.size() - shared_with_running + spare_tokens <= cells_.size();
}

bool KvCache::make_room(uint64_t tokens) {
    while (cells_.free() < tokens) {
        const std::optional<SlotId> oldest = oldest_kept(std::nullopt);
        if (!oldest) return false;
        evict(*oldest);
    }
    return true;
}

void KvCache::evict(SlotId slot) {
    drop(slot);
    ++evicted_;
}

// ---- timelines -----------------------------------------------------------------------------------------------------

void KvCache::append(SlotId slot, std::span<const Token> tokens) {
    for (const Token token : tokens) {
        slots_[slot].tokens.push_back(token);
        slots_[slot].cells.push_back(cells_.take());
    }
}

void KvCache::cut(SlotId id, size_t size) {
    Slot& slot = slots_[id];
    llama_memory_t memory = llama_get_memory(&context_);
    if (!llama_memory_seq_rm(memory, sequence(id), static_cast<llama_pos>(size), -1)) {
        llama_memory_seq_rm(memory, sequence(id), -1, -1);
        size = 0;
    }
    for (size_t i = size; i < slot.cells.size(); ++i) cells_.release(slot.cells[i]);
    slot.tokens.resize(std::min(size, slot.tokens.size()));
    slot.cells.resize(slot.tokens.size());
}

void KvCache::end(SlotId slot) {
    if (!keep_ || slots_[slot].tokens.empty()) return drop(slot);
    slots_[slot].use = Use::kKept;
    slots_[slot].used_at = ++clock_;
    if (can_cut_) drop_beginnings_of(slot);
}

// A kept timeline that is the beginning of another one finds nothing that the other one would not.
void KvCache::drop_beginnings_of(SlotId id) {
    for (SlotId other = 0; other < slots_.size(); ++other) {
        if (other == id || slots_[other].use != Use::kKept) continue;
        const uint32_t common = common_beginning(slots_[other].tokens, slots_[id].tokens);
        if (common == slots_[other].tokens.size()) drop(other);
    }
}

void KvCache::drop(SlotId slot) {
    llama_memory_seq_rm(llama_get_memory(&context_), sequence(slot), -1, -1);
    for (const uint32_t cell : slots_[slot].cells) cells_.release(cell);
    slots_[slot] = {};
}

void KvCache::drop_kept() {
    for (SlotId slot = 0; slot < slots_.size(); ++slot)
        if (slots_[slot].use == Use::kKept) drop(slot);
}

uint32_t KvCache::kept() const { return static_cast<uint32_t>(std::ranges::count(slots_, Use::kKept, &Slot::use)); }

}  // namespace hypura::engine

// Which tokens libllama's KV cache holds: one pool of cells for all sequences, and slots (libllama's sequence ids) that
// each hold one timeline. A slot belongs to a sequence that runs, or keeps the timeline of one that has ended, as a
// prefix for those to come. Timelines that begin alike share their cells. Internal to this folder; model thread only.
#pragma once

#include "base/status.h"
#include "engine/engine.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

struct llama_context;

namespace hypura::engine {

uint32_t common_beginning(std::span<const Token> a, std::span<const Token> b);  // tokens

// Cells by reference count: a model of what libllama does with them, so that room is known before a pass needs it.
class CellPool {
public:
    explicit CellPool(uint32_t cells);
    uint32_t take();  // one that nobody holds; there must be one
    void share(uint32_t cell) { ++holders_[cell]; }
    void release(uint32_t cell);
    uint32_t size() const { return static_cast<uint32_t>(holders_.size()); }
    uint32_t free() const { return static_cast<uint32_t>(free_.size()); }

private:
    std::vector<uint32_t> holders_;
    std::vector<uint32_t> free_;
};

class KvCache {
public:
    using SlotId = uint32_t;
    struct Start {
        SlotId slot = 0;
        uint32_t reused_tokens = 0;   // already on the slot's timeline
        uint32_t refused_tokens = 0;  // matched beyond that, but the architecture cannot go back to that point
    };

    // `can_cut`: any end of a timeline can be removed (false for recurrent state, where only whole ones are worth
    // anything). `keep`: whether ended timelines stay.
    KvCache(llama_context& context, bool can_cut, bool keep);
    ~KvCache();
    KvCache(const KvCache&) = delete;
    KvCache& operator=(const KvCache&) = delete;

    // A slot whose timeline is a beginning of `prompt`, as long as possible, but never all of it. Empty: every slot
    // runs.
    std::optional<Start> start(std::span<const Token> prompt);
    // Whether `prompt` and `spare_tokens` more would fit beside what runs now, were all kept timelines dropped.
    bool fits(std::span<const Token> prompt, uint64_t spare_tokens) const;
    // Drops kept timelines, least recently used first, until `tokens` cells are free. False: not even then.
    bool make_room(uint64_t tokens);

    const std::vector<Token>& tokens(SlotId slot) const { return slots_[slot].tokens; }
    // Notes what a pass has evaluated; make_room() must have found the cells.
    void append(SlotId slot, std::span<const Token> tokens);
    // Goes back to the first `size` tokens, also on libllama's side, whatever a failed pass left there. Where the
    // architecture cannot, the timeline is empty afterwards.
    void cut(SlotId slot, size_t size);
    void end(SlotId slot);   // the sequence has ended: keeps its timeline
    void drop(SlotId slot);  // and forgets it
    void drop_kept();

    uint32_t longest_match(std::span<const Token> prompt) const;  // tokens that start() would reuse
    bool can_cut() const { return can_cut_; }
    uint32_t kept() const;
    uint64_t evicted() const { return evicted_; }
    uint32_t used_cells() const { return cells_.size() - cells_.free(); }
    uint32_t cells() const { return cells_.size(); }

    // BatchEngine::save_prefix and restore_prefix; `model` is a fingerprint that must agree.
    Result<uint32_t> save(std::span<const Token> tokens, const std::string& path, uint64_t model) const;
    Result<std::vector<Token>> restore(const std::string& path, uint64_t model);

private:
    enum class Use { kFree, kRunning, kKept };
    struct Slot {
        Use use = Use::kFree;
        uint64_t used_at = 0;  // of clock_
        std::vector<Token> tokens;
        std::vector<uint32_t> cells;  // one a token
    };
    struct Match {
        std::optional<SlotId> slot;
        uint32_t tokens = 0;   // that can be reused
        uint32_t refused = 0;  // more that some timeline has in common
    };

    Match match(std::span<const Token> prompt) const;
    std::optional<SlotId> longest_timeline(std::span<const Token> tokens) const;
    std::optional<SlotId> unused_slot(std::optional<SlotId> spared);
    std::optional<SlotId> oldest_kept(std::optional<SlotId> spared) const;
    void copy(SlotId from, SlotId to);
    void run(SlotId slot);
    void evict(SlotId slot);
    void drop_beginnings_of(SlotId slot);
    bool load_state(SlotId slot, const std::string& path, std::vector<Token>& words);
    int32_t sequence(SlotId slot) const { return static_cast<int32_t>(slot); }

    llama_context& context_;
    const bool can_cut_;
    const bool keep_;
    CellPool cells_;
    std::vector<Slot> slots_;
    uint64_t clock_ = 0;
    uint64_t evicted_ = 0;
};

}  // namespace hypura::engine
